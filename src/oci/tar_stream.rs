//! The entries of a tar archive that may come from anyone, with their long names put together.
//!
//! Names longer than a header travel in entries of their own, whose size the archive states itself. They are
//! read here with a limit: a few compressed bytes could otherwise ask for any amount of memory.

use std::io::Read;

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
    pub(crate) body: tar::Entry<'a, R>,
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
    let mut archive = tar::Archive::new(reader);
    let mut extensions = Extensions::default();
    for entry in archive.entries().map_err(broken)?.raw(true) {
        let mut entry = entry.map_err(broken)?;
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
        let id = |number: std::io::Result<u64>| {
            let fits = |number| u32::try_from(number).map_err(std::io::Error::other);
            number.and_then(fits).map_err(broken)
        };
        let owner = Owner { uid: id(entry.header().uid())?, gid: id(entry.header().gid())? };
        visit(TarEntry { name, kind, target, mode, owner, body: entry })?;
    }
    Ok(())
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
