//! Layers back into a folder, whoever made them.
//!
//! The folder is one that nobody else writes to: a fresh one, renamed into place by the caller afterwards.
//! Nothing is ever written outside it: names are parsed into plain components ([`EntryPath`]), no entry may
//! pass through a symbolic link, links may not leave, and what is no folder, file or link is refused.
//! Owners are not kept (whoever unpacks owns the files) and set-user-id bits are dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use mynah_contracts::{Hasher, Sha256Digest};

use super::OciError;
use super::entry_path::EntryPath;
use super::tar_stream::{self, Kind, TarEntry, unsafe_entry};

/// The prefix of a whiteout: `.wh.NAME` removes `NAME` of lower layers (layer.md, "Whiteouts").
pub(super) const WHITEOUT: &str = ".wh.";

/// The opaque whiteout: removes all of a folder that came from lower layers.
pub(super) const OPAQUE: &str = ".wh..wh..opq";

/// How much an image may unpack to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of all uncompressed layers together.
    pub bytes: u64,
    /// Entries of all layers together.
    pub entries: u64,
}

impl Default for Limits {
    /// 4 GiB and 200,000 entries: above any image of ours by far, below what fills a small device's disk
    /// unnoticed.
    fn default() -> Self {
        Self { bytes: 4 << 30, entries: 200_000 }
    }
}

/// Unpacks layers one above the other into a folder.
pub struct Unpacker {
    root: PathBuf,
    limits: Limits,
    bytes_left: u64,
    entries_left: u64,
    /// Set at the end, so that a folder without write permission can be filled.
    folder_modes: BTreeMap<EntryPath, u32>,
}

impl Unpacker {
    /// Will unpack into `root`, an existing empty folder that nobody else writes to.
    pub fn new(root: &Path, limits: Limits) -> Self {
        Self {
            root: root.to_owned(),
            limits,
            bytes_left: limits.bytes,
            entries_left: limits.entries,
            folder_modes: BTreeMap::new(),
        }
    }

    /// Unpacks one gzipped layer and gives the SHA-256 of the uncompressed archive, which the caller
    /// compares with the image's `diff_id`. `layer` names it in errors.
    ///
    /// # Errors
    /// When the stream is broken, an entry is unsafe, a limit is reached or the disk refuses.
    pub fn layer(&mut self, compressed: impl Read, layer: &str) -> Result<Sha256Digest, OciError> {
        let mut archive = Counted {
            inner: MultiGzDecoder::new(compressed),
            hasher: Hasher::new(),
            left: self.bytes_left,
            over: false,
        };
        let mut made = BTreeSet::new();
        let outcome = tar_stream::for_each(&mut archive, layer, |entry| self.entry(entry, &mut made, layer));
        let rest = match outcome {
            // What follows the archive's end belongs to its digest all the same.
            Ok(()) => io::copy(&mut archive, &mut io::sink())
                .map(drop)
                .map_err(|source| OciError::LayerStream { layer: layer.to_owned(), source }),
            Err(error) => Err(error),
        };
        if archive.over {
            return Err(OciError::TooLarge { limit: format!("{} bytes", self.limits.bytes) });
        }
        rest?;
        self.bytes_left = archive.left;
        Ok(archive.hasher.finish())
    }

    /// Gives folders their modes. The owner keeps access, so that the folder can be replaced later.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(self) -> Result<(), OciError> {
        for (place, mode) in self.folder_modes.iter().rev() {
            let path = place.below(&self.root);
            let is_folder = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
            if is_folder {
                fs::set_permissions(&path, Permissions::from_mode(mode | 0o700))
                    .map_err(OciError::io("set the mode of", &path))?;
            }
        }
        Ok(())
    }

    fn entry<R: Read>(
        &mut self,
        entry: TarEntry<'_, R>,
        made: &mut BTreeSet<EntryPath>,
        layer: &str,
    ) -> Result<(), OciError> {
        self.entries_left = self
            .entries_left
            .checked_sub(1)
            .ok_or_else(|| OciError::TooLarge { limit: format!("{} entries", self.limits.entries) })?;
        let TarEntry { name, kind, target, mode, body, .. } = entry;
        let refuse = |problem: &dyn ToString| unsafe_entry(&name, problem);
        let place = EntryPath::parse(&name).map_err(|problem| refuse(&problem))?;
        let Some((last, parent)) = place.split_last() else {
            return match kind {
                Kind::Folder => Ok(()),
                _ => Err(refuse(&"would replace the root")),
            };
        };
        self.enter(&parent, made, &name)?;
        if last == OPAQUE {
            return self.remove_lower(&parent, made);
        }
        if let Some(hidden) = last.strip_prefix(WHITEOUT) {
            if hidden.is_empty() || hidden == "." || hidden == ".." || hidden.starts_with(WHITEOUT) {
                return Err(refuse(&"is a whiteout of nothing"));
            }
            return self.remove_lower(&parent.child(hidden), made);
        }
        let path = place.below(&self.root);
        match kind {
            Kind::Folder => {
                self.folder(&place)?;
                self.folder_modes.insert(place.clone(), mode & 0o1777);
            }
            Kind::File => {
                self.clear(&place)?;
                let mut file = create(&path, mode & 0o777)?;
                copy(body, &mut file, &path, layer)?;
                // The mode given when opening was reduced by the process' umask.
                file.set_permissions(Permissions::from_mode(mode & 0o777))
                    .map_err(OciError::io("set the mode of", &path))?;
            }
            Kind::Symlink => {
                let target = place.check_symlink(&target).map_err(|problem| refuse(&problem))?;
                self.clear(&place)?;
                std::os::unix::fs::symlink(target, &path).map_err(OciError::io("write", &path))?;
            }
            Kind::HardLink => {
                let original = EntryPath::parse(&target).map_err(|problem| refuse(&problem))?;
                let existing =
                    self.existing_file(&original).ok_or_else(|| refuse(&"links to no file of the image"))?;
                if original != place {
                    self.clear(&place)?;
                    fs::hard_link(existing, &path).map_err(OciError::io("write", &path))?;
                }
            }
        }
        made.insert(place);
        Ok(())
    }

    /// Makes sure that `folder` and all above it are real folders.
    fn enter(
        &mut self,
        folder: &EntryPath,
        made: &mut BTreeSet<EntryPath>,
        name: &[u8],
    ) -> Result<(), OciError> {
        let mut here = EntryPath::default();
        for component in folder.components() {
            here = here.child(component);
            let path = here.below(&self.root);
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => {}
                Ok(found) if found.is_symlink() => {
                    return Err(unsafe_entry(name, &format!("passes through the symbolic link `{here}`")));
                }
                Ok(_) => return Err(unsafe_entry(name, &format!("passes through the file `{here}`"))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make_folder(&path)?;
                    self.folder_modes.insert(here.clone(), 0o755);
                }
                Err(error) => return Err(OciError::io("read", &path)(error)),
            }
            made.insert(here.clone());
        }
        Ok(())
    }

    /// A folder at `place`: an existing one is kept with what it holds.
    fn folder(&mut self, place: &EntryPath) -> Result<(), OciError> {
        let path = place.below(&self.root);
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            return Ok(());
        }
        self.clear(place)?;
        make_folder(&path)
    }

    /// Removes what stands at `place`.
    fn clear(&mut self, place: &EntryPath) -> Result<(), OciError> {
        let path = place.below(&self.root);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(OciError::io("read", &path)(error)),
            Ok(found) if found.is_dir() => {
                self.folder_modes.retain(|folder, _| !folder.components().starts_with(place.components()));
                fs::remove_dir_all(&path).map_err(OciError::io("replace", &path))
            }
            Ok(_) => fs::remove_file(&path).map_err(OciError::io("replace", &path)),
        }
    }

    /// Removes what lower layers put at or below `place`; what this layer made stays.
    fn remove_lower(&mut self, place: &EntryPath, made: &BTreeSet<EntryPath>) -> Result<(), OciError> {
        let path = place.below(&self.root);
        if !made.contains(place) && !place.is_root() {
            return self.clear(place);
        }
        if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            return Ok(());
        }
        for child in fs::read_dir(&path).map_err(OciError::io("read", &path))? {
            let child = child.map_err(OciError::io("read", &path))?;
            // Only names this code accepted as UTF-8 are in here.
            if let Some(name) = child.file_name().to_str() {
                self.remove_lower(&place.child(name), made)?;
            }
        }
        Ok(())
    }

    /// The path of a regular file of the image, reached through real folders only.
    fn existing_file(&self, place: &EntryPath) -> Option<PathBuf> {
        let (_, parent) = place.split_last()?;
        let mut here = EntryPath::default();
        for component in parent.components() {
            here = here.child(component);
            if !fs::symlink_metadata(here.below(&self.root)).ok()?.is_dir() {
                return None;
            }
        }
        let path = place.below(&self.root);
        fs::symlink_metadata(&path).ok()?.is_file().then_some(path)
    }
}

fn make_folder(path: &Path) -> Result<(), OciError> {
    DirBuilder::new().mode(0o700).create(path).map_err(OciError::io("write", path))
}

fn create(path: &Path, mode: u32) -> Result<File, OciError> {
    // `create_new` never follows a link.
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(OciError::io("write", path))
}

/// Copies a body, telling apart a broken stream from a full disk.
fn copy(mut body: impl Read, file: &mut File, path: &Path, layer: &str) -> Result<(), OciError> {
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(OciError::LayerStream { layer: layer.to_owned(), source }),
        };
        file.write_all(buffer.get(..count).unwrap_or_default()).map_err(OciError::io("write", path))?;
    }
}

/// Digests what passes and stops at a limit.
struct Counted<R> {
    inner: R,
    hasher: Hasher,
    left: u64,
    over: bool,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        let Some(left) = self.left.checked_sub(count as u64) else {
            self.over = true;
            return Err(io::Error::other("the image is larger than allowed"));
        };
        self.left = left;
        Ok(count)
    }
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
