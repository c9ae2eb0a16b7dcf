//! Layers made so that equal content gives equal bytes: a sorted tar archive with fixed owners, modes and
//! times, gzipped with a fixed header.
//!
//! The archive, its digest (the `diff_id`), the compression and the digest of the compressed bytes happen in
//! one pass; no file is held in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use mynah_contracts::{Hasher, Sha256Digest};

use super::OciError;
use super::entry_path::EntryPath;
use super::gzip::Gzip;

/// How much of a file is read at once.
const PIECE_BYTES: usize = 1 << 20;

/// What a tar archive is made of.
const TAR_BLOCK: usize = 512;

/// What decides the archive's bytes beside what the layer holds. Whatever changes them must change this: layers are
/// kept under it from one run to the next.
const ARCHIVE: &[u8] = b"tar-1";

/// The content of one layer.
#[derive(Clone)]
pub struct Layer {
    entries: BTreeMap<EntryPath, Entry>,
    owner: Owner,
    mtime: u64,
}

/// Who owns what a layer holds; numbers only, since names belong to a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Owner {
    /// The superuser.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// Something in a layer.
#[derive(Clone)]
struct Entry {
    kind: EntryKind,
    mode: u32,
    owner: Owner,
}

#[derive(Clone)]
enum EntryKind {
    Folder,
    File(Source),
    Symlink(String),
}

/// Where a file's bytes come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// From memory.
    Bytes(Vec<u8>),
    /// From a file, read when the layer is written.
    File {
        /// The file.
        path: PathBuf,
        /// What it must hold, where an artifact says so: checked on the bytes that enter the layer.
        expected: Option<Sha256Digest>,
    },
}

/// What came out of writing a layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrittenLayer {
    /// The SHA-256 of the tar archive.
    pub diff_id: Sha256Digest,
    /// The SHA-256 of the compressed archive.
    pub digest: Sha256Digest,
    /// The size of the compressed archive in bytes.
    pub size: u64,
}

impl Layer {
    /// An empty layer whose entries will belong to `owner` and carry the time `mtime` (seconds since 1970).
    pub fn new(owner: Owner, mtime: u64) -> Self {
        Self { entries: BTreeMap::new(), owner, mtime }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a file, and the folders that lead to it (mode 755).
    ///
    /// # Errors
    /// When `path` leaves the layer's root, is the root, or holds something already.
    pub fn add_file(&mut self, path: &str, mode: u32, source: Source) -> Result<(), OciError> {
        let refuse =
            |problem: String| OciError::UnsafeEntry { entry: path.escape_debug().to_string(), problem };
        let place = EntryPath::parse(path.as_bytes()).map_err(|problem| refuse(problem.to_string()))?;
        let Some((_, parent)) = place.split_last() else {
            return Err(refuse("names no file".into()));
        };
        self.add_folders(&parent)?;
        let entry = Entry { kind: EntryKind::File(source), mode, owner: self.owner };
        match self.entries.insert(place, entry) {
            None => Ok(()),
            Some(_) => Err(OciError::DuplicateEntry(path.to_owned())),
        }
    }

    fn add_folders(&mut self, folder: &EntryPath) -> Result<(), OciError> {
        let mut here = EntryPath::default();
        for name in folder.components() {
            here = here.child(name);
            let entry = self.entries.entry(here.clone()).or_insert(Entry {
                kind: EntryKind::Folder,
                mode: 0o755,
                owner: self.owner,
            });
            if !matches!(entry.kind, EntryKind::Folder) {
                return Err(OciError::DuplicateEntry(here.to_string()));
            }
        }
        Ok(())
    }

    /// Puts a folder at `place`, whatever this layer had there; its parents are the caller's business.
    pub fn put_folder(&mut self, place: EntryPath, mode: u32, owner: Owner) {
        self.entries.insert(place, Entry { kind: EntryKind::Folder, mode, owner });
    }

    /// Puts a file at `place`, whatever this layer had there; its parents are the caller's business.
    pub fn put_file(&mut self, place: EntryPath, mode: u32, owner: Owner, source: Source) {
        self.entries.insert(place, Entry { kind: EntryKind::File(source), mode, owner });
    }

    /// Puts a symbolic link at `place`, whatever this layer had there; its parents are the caller's business.
    pub fn put_symlink(&mut self, place: EntryPath, target: String, owner: Owner) {
        self.entries.insert(place, Entry { kind: EntryKind::Symlink(target), mode: 0o777, owner });
    }

    /// A digest that stands for the archive without reading a file, where it is known of every file what it must
    /// hold: layers with the same one have the same archive.
    pub(crate) fn recipe(&self) -> Option<Sha256Digest> {
        let mut recipe = Hasher::new();
        // Each with its length, so that no two layers are told in the same bytes.
        let mut tell = |bytes: &[u8]| {
            recipe.update(&(bytes.len() as u64).to_le_bytes());
            recipe.update(bytes);
        };
        tell(ARCHIVE);
        tell(&self.mtime.to_le_bytes());
        for (path, Entry { kind, mode, owner }) in &self.entries {
            tell(path.to_string().as_bytes());
            tell([*mode, owner.uid, owner.gid].map(u32::to_le_bytes).as_flattened());
            match kind {
                EntryKind::Folder => tell(b"folder"),
                EntryKind::Symlink(target) => {
                    tell(b"link");
                    tell(target.as_bytes());
                }
                EntryKind::File(Source::Bytes(bytes)) => {
                    tell(b"file");
                    tell(Sha256Digest::of(bytes).as_bytes());
                }
                EntryKind::File(Source::File { expected, .. }) => {
                    tell(b"file");
                    tell((*expected)?.as_bytes());
                }
            }
        }
        Some(recipe.finish())
    }

    /// Reads the files of which it is known what they must hold.
    ///
    /// # Errors
    /// When one cannot be read, or is not the one expected.
    pub(crate) fn check(&self) -> Result<(), OciError> {
        for Entry { kind, .. } in self.entries.values() {
            if let EntryKind::File(Source::File { path, expected: Some(expected) }) = kind {
                Watched::open(path, Some(*expected))?.copy(&mut io::sink(), path)?;
            }
        }
        Ok(())
    }

    /// The SHA-256 of the tar archive, without compressing it.
    ///
    /// # Errors
    /// When a file cannot be read, is not the one expected or changes meanwhile.
    pub fn diff_id(&self) -> Result<Sha256Digest, OciError> {
        // A digest refuses nothing: only files are at fault.
        Ok(self.archive(Hasher::new(), Path::new("memory"))?.finish())
    }

    /// Writes the compressed archive to `out`.
    ///
    /// # Errors
    /// When a file cannot be read, is not the one expected or changes meanwhile, or `out` refuses; `at`
    /// names `out` in that error.
    pub fn write(&self, out: impl Write + Send, at: &Path) -> Result<WrittenLayer, OciError> {
        let gzip = Gzip::new(out).map_err(OciError::io("write", at))?;
        let written = self.archive(gzip, at)?.finish().map_err(OciError::io("write", at))?;
        Ok(WrittenLayer { diff_id: written.content, digest: written.digest, size: written.size })
    }

    fn archive<W: Write + Send>(&self, out: W, at: &Path) -> Result<W, OciError> {
        let mut archive = tar::Builder::new(out);
        let refused = || OciError::io("write", at);
        for (path, Entry { kind, mode, owner }) in &self.entries {
            let header = |kind, size| self.header(kind, *mode, *owner, size);
            match kind {
                EntryKind::Folder => {
                    let mut header = header(tar::EntryType::Directory, 0);
                    archive.append_data(&mut header, format!("{path}/"), io::empty()).map_err(refused())?;
                }
                EntryKind::Symlink(target) => {
                    let mut header = header(tar::EntryType::Symlink, 0);
                    archive.append_link(&mut header, path.to_string(), target).map_err(refused())?;
                }
                EntryKind::File(Source::Bytes(bytes)) => {
                    let mut header = header(tar::EntryType::Regular, bytes.len() as u64);
                    archive.append_data(&mut header, path.to_string(), bytes.as_slice()).map_err(refused())?;
                }
                EntryKind::File(Source::File { path: file, expected }) => {
                    let opened = Watched::open(file, *expected)?;
                    let size = opened.left;
                    let mut header = header(tar::EntryType::Regular, size);
                    // The header alone: what follows it is written in larger pieces than the archive's own.
                    archive.append_data(&mut header, path.to_string(), io::empty()).map_err(refused())?;
                    opened.copy(archive.get_mut(), at)?;
                    let over = (size % TAR_BLOCK as u64) as usize;
                    let padding = [0; TAR_BLOCK];
                    let padding = padding.get(over..).filter(|_| over > 0).unwrap_or_default();
                    archive.get_mut().write_all(padding).map_err(refused())?;
                }
            }
        }
        archive.into_inner().map_err(refused())
    }

    fn header(&self, kind: tar::EntryType, mode: u32, owner: Owner, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.uid.into());
        header.set_gid(owner.gid.into());
        header.set_mtime(self.mtime);
        header.set_size(size);
        header
    }
}

/// A file read once: exactly as long as it said, its digest taken on the way.
struct Watched<'a> {
    path: &'a Path,
    file: File,
    expected: Option<Sha256Digest>,
    left: u64,
}

impl<'a> Watched<'a> {
    fn open(path: &'a Path, expected: Option<Sha256Digest>) -> Result<Self, OciError> {
        let file = File::open(path).map_err(OciError::io("read", path))?;
        let metadata = file.metadata().map_err(OciError::io("read", path))?;
        if !metadata.is_file() {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(OciError::io("read", path)(source));
        }
        Ok(Self { path, file, expected, left: metadata.len() })
    }

    /// Copies it to `out`, which errors call `at`, and says whether it was what it should be.
    fn copy(mut self, out: &mut (impl Write + Send), at: &Path) -> Result<(), OciError> {
        let mut hasher = Hasher::new();
        let size = PIECE_BYTES.min(usize::try_from(self.left).unwrap_or(PIECE_BYTES));
        let mut buffer = vec![0; size];
        while self.left > 0 {
            let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let Some(target) = buffer.get_mut(..want) else { break };
            let count = self.file.read(target).map_err(OciError::io("read", self.path))?;
            if count == 0 {
                return Err(self.changed(io::ErrorKind::UnexpectedEof, "it shrank while being read"));
            }
            self.left -= count as u64;
            let piece = target.get(..count).unwrap_or_default();
            // Only where there is a digest to compare with.
            let digest = || self.expected.map(|_| hasher.update(piece));
            let (_, written) = rayon::join(digest, || out.write_all(piece));
            written.map_err(OciError::io("write", at))?;
        }
        if self.file.read(&mut [0; 1]).map_err(OciError::io("read", self.path))? > 0 {
            return Err(self.changed(io::ErrorKind::InvalidData, "it grew while being read"));
        }
        let found = hasher.finish();
        match self.expected {
            Some(expected) if found != expected => {
                Err(OciError::ChangedFile { path: self.path.to_owned(), expected, found })
            }
            _ => Ok(()),
        }
    }

    fn changed(&self, kind: io::ErrorKind, how: &'static str) -> OciError {
        OciError::io("read", self.path)(io::Error::new(kind, how))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(layer: &Layer) -> (WrittenLayer, Vec<u8>) {
        let mut bytes = Vec::new();
        let written = layer.write(&mut bytes, Path::new("memory")).unwrap();
        (written, bytes)
    }

    fn sample() -> Layer {
        let mut layer = Layer::new(Owner::ROOT, 0);
        layer.add_file("usr/b", 0o644, Source::Bytes(b"second".to_vec())).unwrap();
        layer.add_file("usr/a", 0o755, Source::Bytes(b"first".to_vec())).unwrap();
        layer
    }

    #[test]
    fn the_bytes_are_pinned_whatever_the_machine() {
        let (written, bytes) = written(&sample());
        assert_eq!(Sha256Digest::of(&bytes), written.digest);
        assert_eq!(bytes.len() as u64, written.size);
        // A new deflate library would move every image: that must be seen, not slip in.
        insta::assert_snapshot!(written.diff_id, @"sha256:e1f7605003e7ca60d4fb4411b93f4fefd59f46a03509068e2723e1edc1533627");
        insta::assert_snapshot!(written.digest, @"sha256:e5bc4f17bfc14769874445966beb3833280d6060a549789de2f29ac03c53e8c2");
    }

    #[test]
    fn entries_are_sorted_and_carry_nothing_of_the_machine() {
        let (_, bytes) = written(&sample());
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        let seen: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                assert_eq!(
                    (header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()),
                    (0, 0, 0)
                );
                assert_eq!(header.username().unwrap(), Some(""));
                (entry.path().unwrap().to_string_lossy().into_owned(), header.mode().unwrap())
            })
            .collect();
        let expected = [("usr/", 0o755), ("usr/a", 0o755), ("usr/b", 0o644)];
        assert_eq!(seen, expected.map(|(name, mode)| (name.to_owned(), mode)));
    }

    #[test]
    fn a_file_that_is_not_the_one_promised_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.onnx");
        std::fs::write(&file, b"other").unwrap();
        let mut layer = Layer::new(Owner::ROOT, 0);
        let expected = Some(Sha256Digest::of(b"promised"));
        layer.add_file("model.onnx", 0o644, Source::File { path: file, expected }).unwrap();
        let error = layer.write(io::sink(), Path::new("memory")).unwrap_err();
        assert!(matches!(error, OciError::ChangedFile { .. }), "{error}");
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.onnx");
        for (changed, problem) in [(&b"weights and more"[..], "it grew"), (b"wei", "it shrank")] {
            std::fs::write(&file, b"weights").unwrap();
            let watched = Watched::open(&file, None).unwrap();
            std::fs::write(&file, changed).unwrap();
            let error = watched.copy(&mut io::sink(), Path::new("memory")).unwrap_err();
            let error = mynah_contracts::error_chain(&error);
            assert!(error.contains("model.onnx") && error.contains(problem), "{error}");
        }
        // As long as before, but other bytes: where an artifact names the digest.
        std::fs::write(&file, b"weights").unwrap();
        let expected = Some(Sha256Digest::of(b"weights"));
        let watched = Watched::open(&file, expected).unwrap();
        std::fs::write(&file, b"Weights").unwrap();
        let error = watched.copy(&mut io::sink(), Path::new("memory")).unwrap_err();
        assert!(matches!(error, OciError::ChangedFile { .. }), "{error}");
    }

    #[test]
    fn a_recipe_stands_for_the_archive() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a file");
        std::fs::write(&file, b"content").unwrap();
        let with = |path: &str, mode, uid, expected: Option<&[u8]>, mtime| {
            let mut layer = Layer::new(Owner { uid, gid: 0 }, mtime);
            let expected = expected.map(Sha256Digest::of);
            layer.add_file(path, mode, Source::File { path: file.clone(), expected }).unwrap();
            layer.recipe()
        };
        let recipe = with("a", 0o644, 0, Some(b"content"), 0);
        assert_eq!(with("a", 0o644, 0, Some(b"content"), 0), recipe);
        // Bytes in memory and in a file make the same archive.
        let mut same = Layer::new(Owner::ROOT, 0);
        same.add_file("a", 0o644, Source::Bytes(b"content".to_vec())).unwrap();
        assert_eq!(same.recipe(), recipe);
        same.put_symlink(EntryPath::parse(b"link").unwrap(), "a".into(), Owner::ROOT);
        let others = [
            same.recipe(),
            with("b", 0o644, 0, Some(b"content"), 0),
            with("a", 0o600, 0, Some(b"content"), 0),
            with("a", 0o644, 1, Some(b"content"), 0),
            with("a", 0o644, 0, Some(b"other"), 0),
            with("a", 0o644, 0, Some(b"content"), 1),
        ];
        assert!(others.iter().all(|other| other.is_some() && *other != recipe), "{others:?}");
        assert_eq!(with("a", 0o644, 0, None, 0), None, "what a file holds is not known unread");
    }

    #[test]
    fn the_archive_of_large_files_is_as_the_format_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a file");
        for size in [0, 1, TAR_BLOCK - 1, TAR_BLOCK, TAR_BLOCK + 1, PIECE_BYTES, 2 * PIECE_BYTES + 700] {
            let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            std::fs::write(&file, &content).unwrap();
            let (mut read, mut kept) = (Layer::new(Owner::ROOT, 0), Layer::new(Owner::ROOT, 0));
            let expected = Some(Sha256Digest::of(&content));
            read.add_file("a", 0o644, Source::File { path: file.clone(), expected }).unwrap();
            read.check().unwrap();
            kept.add_file("a", 0o644, Source::Bytes(content)).unwrap();
            assert_eq!(written(&read).1, written(&kept).1, "{size}");
        }
    }

    #[test]
    fn the_digest_alone_is_the_one_writing_gives() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a file");
        std::fs::write(&file, b"content").unwrap();
        let mut layer = sample();
        layer.add_file("usr/share/c", 0o600, Source::File { path: file, expected: None }).unwrap();
        let link = EntryPath::parse(b"usr/link").unwrap();
        layer.put_symlink(link, "share/c".into(), Owner { uid: 7, gid: 8 });
        assert_eq!(layer.diff_id().unwrap(), written(&layer).0.diff_id);
    }

    #[test]
    fn long_names_and_links_come_back() {
        let long = ["folder".repeat(20), "name".repeat(50)].join("/");
        let mut layer = Layer::new(Owner::ROOT, 0);
        layer.add_file(&long, 0o644, Source::Bytes(b"x".to_vec())).unwrap();
        layer.put_symlink(EntryPath::parse(b"link").unwrap(), long.clone(), Owner { uid: 1, gid: 2 });
        let (_, bytes) = written(&layer);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        let seen: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let text = |path: std::borrow::Cow<'_, Path>| path.to_string_lossy().into_owned();
                (text(entry.path().unwrap()), entry.link_name().unwrap().map(text))
            })
            .collect();
        assert!(seen.contains(&(long.clone(), None)));
        assert!(seen.contains(&("link".into(), Some(long))));
    }

    #[test]
    fn two_things_at_one_place_are_refused() {
        let mut layer = sample();
        assert!(layer.add_file("usr/a", 0o644, Source::Bytes(Vec::new())).is_err());
        assert!(layer.add_file("usr/a/b", 0o644, Source::Bytes(Vec::new())).is_err());
        assert!(layer.add_file("../a", 0o644, Source::Bytes(Vec::new())).is_err());
    }
}
