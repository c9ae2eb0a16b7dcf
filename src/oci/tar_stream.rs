//! The entries of a tar archive that may come from anyone, with their long names put together.
//!
//! Names longer than a header travel in entries of their own, whose size the archive states itself. They are
//! read here with a limit: a few compressed bytes could otherwise ask for any amount of memory.
//!
//! umoci ends an archive with the last byte of its last file, where the format wants blocks filled up and two empty
//! ones. Container engines read that, and so is it read here; a file that is cut off is not.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use tar::{EntryType, PaxExtensions};

use super::OciError;
use super::entry_path::MAX_NAME_BYTES;
use super::layer::Owner;

/// The most bytes of extended headers one entry may have: a name, a link and a few attributes.
const MAX_EXTENSION_BYTES: u64 = 16 * MAX_NAME_BYTES as u64;

/// What an entry makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Folder,
    File,
    Symlink,
    HardLink,
}

/// An entry whose body has not been read yet.
pub(crate) struct TarEntry<'a, R: Read> {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    /// The target of a link, empty otherwise.
    pub(crate) target: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: Owner,
    pub(crate) body: tar::Entry<'a, Filled<R>>,
}

/// What a tar archive is made of, in bytes.
const BLOCK: u64 = 512;

/// An archive whose last block is filled up with zeros where it ends within one.
pub(crate) struct Filled<R> {
    inner: R,
    /// How many bytes were read, and whether those were all.
    read: Rc<Cell<(u64, bool)>>,
    zeros: u64,
}

impl<R: Read> Read for Filled<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (read, ended) = self.read.get();
        if buffer.is_empty() {
            return Ok(0);
        }
        if ended {
            return io::repeat(0).take(self.zeros).read(buffer).inspect(|&count| self.zeros -= count as u64);
        }
        let count = self.inner.read(buffer)?;
        self.read.set((read + count as u64, count == 0));
        if count > 0 {
            return Ok(count);
        }
        self.zeros = read.next_multiple_of(BLOCK) - read;
        self.read(buffer)
    }
}

/// What extended headers say of the entry that follows them.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

/// Calls `visit` for each entry, in the archive's order. `layer` names the archive in errors.
pub(crate) fn for_each<R: Read>(
    reader: R,
    layer: &str,
    mut visit: impl FnMut(TarEntry<'_, R>) -> Result<(), OciError>,
) -> Result<(), OciError> {
    let broken = |source| OciError::LayerStream { layer: layer.to_owned(), source };
    let read = Rc::new(Cell::new((0, false)));
    let mut archive = tar::Archive::new(Filled { inner: reader, read: Rc::clone(&read), zeros: 0 });
    let mut extensions = Extensions::default();
    // Where the entry before ends; by now that much was read.
    let mut end = 0;
    let whole = |end: u64| match read.get() {
        (read, true) if read < end => Err(broken(io::ErrorKind::UnexpectedEof.into())),
        _ => Ok(()),
    };
    for entry in archive.entries().map_err(broken)?.raw(true) {
        whole(end)?;
        let mut entry = entry.map_err(broken)?;
        end = entry.raw_file_position().saturating_add(entry.size());
        let kind = match entry.header().entry_type() {
            EntryType::GNULongName => {
                extensions.name = Some(extension(&mut entry, layer)?);
                continue;
            }
            EntryType::GNULongLink => {
                extensions.target = Some(extension(&mut entry, layer)?);
                continue;
            }
            EntryType::XHeader => {
                let records = extension(&mut entry, layer)?;
                read_pax(&records, &mut extensions, layer)?;
                continue;
            }
            EntryType::XGlobalHeader => continue,
            EntryType::Directory => Ok(Kind::Folder),
            EntryType::Regular | EntryType::Continuous => Ok(Kind::File),
            EntryType::Symlink => Ok(Kind::Symlink),
            EntryType::Link => Ok(Kind::HardLink),
            EntryType::Char | EntryType::Block => Err("is a device"),
            EntryType::Fifo => Err("is a pipe"),
            _ => Err("is of a kind that layers do not have"),
        };
        let Extensions { name, target } = std::mem::take(&mut extensions);
        let name = name.unwrap_or_else(|| entry.header().path_bytes().into_owned());
        let target = target
            .or_else(|| entry.header().link_name_bytes().map(std::borrow::Cow::into_owned))
            .unwrap_or_default();
        let kind = kind.map_err(|problem| unsafe_entry(&name, &problem))?;
        let mode = entry.header().mode().map_err(broken)?;
        let id = |number: io::Result<u64>| {
            let fits = |number| u32::try_from(number).map_err(io::Error::other);
            number.and_then(fits).map_err(broken)
        };
        let owner = Owner { uid: id(entry.header().uid())?, gid: id(entry.header().gid())? };
        visit(TarEntry { name, kind, target, mode, owner, body: entry })?;
    }
    whole(end)
}

fn extension(entry: &mut tar::Entry<'_, impl Read>, layer: &str) -> Result<Vec<u8>, OciError> {
    let mut bytes = Vec::new();
    let read = entry.by_ref().take(MAX_EXTENSION_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|source| OciError::LayerStream { layer: layer.to_owned(), source })?;
    if bytes.len() as u64 > MAX_EXTENSION_BYTES {
        return Err(OciError::TooLarge {
            limit: format!("{MAX_EXTENSION_BYTES} bytes of headers for one entry"),
        });
    }
    // GNU tar ends long names with a NUL; extended records never end with one.
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

fn read_pax(records: &[u8], extensions: &mut Extensions, layer: &str) -> Result<(), OciError> {
    for record in PaxExtensions::new(records) {
        let record = record.map_err(|source| OciError::LayerStream { layer: layer.to_owned(), source })?;
        match record.key_bytes() {
            b"path" => extensions.name = Some(record.value_bytes().to_vec()),
            b"linkpath" => extensions.target = Some(record.value_bytes().to_vec()),
            // Only a file over 8 GiB needs it, which no limit here allows.
            b"size" => return Err(OciError::TooLarge { limit: "8 GiB in one file".into() }),
            _ => {}
        }
    }
    Ok(())
}

/// Refuses an entry by its name, escaped and shortened.
pub(crate) fn unsafe_entry(name: &[u8], problem: &dyn ToString) -> OciError {
    let entry = String::from_utf8_lossy(name).escape_debug().take(120).collect();
    OciError::UnsafeEntry { entry, problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in an archive of one file of 700 bytes, of which the first `count` bytes are there.
    fn read(count: usize) -> Result<Vec<Vec<u8>>, OciError> {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(700);
        archive.append_data(&mut header, "file", [7; 700].as_slice()).unwrap();
        let bytes = archive.into_inner().unwrap();
        let mut found = Vec::new();
        for_each(&bytes[..count], "test", |mut entry| {
            let mut body = Vec::new();
            entry.body.read_to_end(&mut body).unwrap();
            found.push(body);
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn an_archive_may_end_with_its_last_file() {
        for count in [512 + 700, 512 + 701, 512 + 1024, 512 + 1024 + 512, 512 + 1024 + 1024] {
            assert_eq!(read(count).unwrap(), [vec![7; 700]], "{count}");
        }
    }

    #[test]
    fn a_file_that_is_cut_off_is_refused() {
        for count in [1, 511, 513, 512 + 100, 512 + 512, 512 + 513, 512 + 699] {
            assert!(matches!(read(count), Err(OciError::LayerStream { .. })), "{count}");
        }
        // A header and nothing more: the file has a body.
        assert!(read(512).is_err());
    }
}
