//! Layers made so that equal content gives equal bytes: a sorted tar archive with fixed owners, modes and
//! times, gzipped with a fixed header.
//!
//! The archive, its digest (the `diff_id`), the compression and the digest of the compressed bytes happen in
//! one pass; no file is held in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use mynah_contracts::{Hasher, Sha256Digest};

use super::OciError;
use super::entry_path::EntryPath;

/// How many bytes decide the compression level.
const SAMPLE_BYTES: usize = 1 << 20;

/// The gzip header's operating system byte: Unix (RFC 1952 §2.3.1). Fixed, so that it says nothing of the
/// machine that built.
const GZIP_OS_UNIX: u8 = 3;

/// The content of one layer.
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

enum Entry {
    Folder { mode: u32 },
    File { mode: u32, source: Source },
}

/// Where a file's bytes come from.
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
        match self.entries.insert(place, Entry::File { mode, source }) {
            None => Ok(()),
            Some(_) => Err(OciError::DuplicateEntry(path.to_owned())),
        }
    }

    fn add_folders(&mut self, folder: &EntryPath) -> Result<(), OciError> {
        let mut here = EntryPath::default();
        for name in folder.components() {
            here = here.child(name);
            let entry = self.entries.entry(here.clone()).or_insert(Entry::Folder { mode: 0o755 });
            if let Entry::File { .. } = entry {
                return Err(OciError::DuplicateEntry(here.to_string()));
            }
        }
        Ok(())
    }

    /// Writes the compressed archive to `out`.
    ///
    /// # Errors
    /// When a file cannot be read, is not the one expected or changes meanwhile, or `out` refuses; `at`
    /// names `out` in that error.
    pub fn write(&self, out: impl Write, at: &Path) -> Result<WrittenLayer, OciError> {
        let compressor = Compressor::new(Counting { inner: out, hasher: Hasher::new(), bytes: 0 });
        let mut archive = tar::Builder::new(Counting { inner: compressor, hasher: Hasher::new(), bytes: 0 });
        archive.mode(tar::HeaderMode::Deterministic);
        let refused = || OciError::io("write", at);
        for (path, entry) in &self.entries {
            match entry {
                Entry::Folder { mode } => {
                    let mut header = self.header(tar::EntryType::Directory, *mode, 0);
                    archive.append_data(&mut header, format!("{path}/"), io::empty()).map_err(refused())?;
                }
                Entry::File { mode, source: Source::Bytes(bytes) } => {
                    let mut header = self.header(tar::EntryType::Regular, *mode, bytes.len() as u64);
                    archive.append_data(&mut header, path.to_string(), bytes.as_slice()).map_err(refused())?;
                }
                Entry::File { mode, source: Source::File { path: file, expected } } => {
                    let mut opened = Watched::open(file)?;
                    let mut header = self.header(tar::EntryType::Regular, *mode, opened.left);
                    let appended = archive.append_data(&mut header, path.to_string(), &mut opened);
                    opened.finish(file, *expected)?;
                    appended.map_err(refused())?;
                }
            }
        }
        let counted = archive.into_inner().map_err(refused())?;
        let compressed = counted.inner.finish().map_err(refused())?;
        Ok(WrittenLayer {
            diff_id: counted.hasher.finish(),
            digest: compressed.hasher.finish(),
            size: compressed.bytes,
        })
    }

    fn header(&self, kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.owner.uid.into());
        header.set_gid(self.owner.gid.into());
        header.set_mtime(self.mtime);
        header.set_size(size);
        header
    }
}

/// A file read once: exactly as long as it said, its digest taken on the way.
struct Watched {
    file: File,
    hasher: Hasher,
    left: u64,
    failed: Option<io::Error>,
}

impl Watched {
    fn open(path: &Path) -> Result<Self, OciError> {
        let file = File::open(path).map_err(OciError::io("read", path))?;
        let metadata = file.metadata().map_err(OciError::io("read", path))?;
        if !metadata.is_file() {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(OciError::io("read", path)(source));
        }
        Ok(Self { file, hasher: Hasher::new(), left: metadata.len(), failed: None })
    }

    fn fail(&mut self, kind: io::ErrorKind, what: &'static str) -> io::Error {
        self.failed = Some(io::Error::new(kind, what));
        io::Error::new(kind, what)
    }

    /// Says whether the file was what it should be; called after reading.
    fn finish(mut self, path: &Path, expected: Option<Sha256Digest>) -> Result<(), OciError> {
        if let Some(source) = self.failed.take() {
            return Err(OciError::io("read", path)(source));
        }
        let found = self.hasher.finish();
        match expected {
            // A short read means that the output refused; that error is the one to tell.
            Some(expected) if self.left == 0 && found != expected => {
                Err(OciError::ChangedFile { path: path.to_owned(), expected, found })
            }
            _ => Ok(()),
        }
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            let mut more = [0u8; 1];
            return match self.file.read(&mut more) {
                Ok(0) => Ok(0),
                Ok(_) => Err(self.fail(io::ErrorKind::InvalidData, "it grew while being read")),
                Err(error) => Err(self.fail(error.kind(), "reading failed")),
            };
        }
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(target) = buffer.get_mut(..want) else { return Ok(0) };
        match self.file.read(target) {
            Ok(0) if want > 0 => Err(self.fail(io::ErrorKind::UnexpectedEof, "it shrank while being read")),
            Ok(count) => {
                self.hasher.update(target.get(..count).unwrap_or_default());
                self.left -= count as u64;
                Ok(count)
            }
            Err(error) => {
                self.failed = Some(io::Error::new(error.kind(), error.to_string()));
                Err(error)
            }
        }
    }
}

/// Counts and digests what passes.
struct Counting<W> {
    inner: W,
    hasher: Hasher,
    bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or(bytes));
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Gzip whose level is chosen by the first bytes.
enum Compressor<W: Write> {
    Waiting { out: Option<W>, start: Vec<u8> },
    Running(GzEncoder<W>),
}

impl<W: Write> Compressor<W> {
    fn new(out: W) -> Self {
        Self::Waiting { out: Some(out), start: Vec::new() }
    }

    /// The encoder, started if it was not yet.
    fn encoder(&mut self) -> io::Result<&mut GzEncoder<W>> {
        if let Self::Waiting { out, start } = self {
            let out = out.take().ok_or_else(|| io::Error::other("the compressor already failed"))?;
            let start = std::mem::take(start);
            let mut encoder =
                GzBuilder::new().mtime(0).operating_system(GZIP_OS_UNIX).write(out, level_for(&start));
            encoder.write_all(&start)?;
            *self = Self::Running(encoder);
        }
        match self {
            Self::Running(encoder) => Ok(encoder),
            Self::Waiting { .. } => Err(io::Error::other("the compressor did not start")),
        }
    }

    fn finish(mut self) -> io::Result<W> {
        self.encoder()?;
        match self {
            Self::Running(encoder) => encoder.finish(),
            Self::Waiting { .. } => Err(io::Error::other("the compressor did not start")),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Self::Waiting { start, .. } = self {
            let room = SAMPLE_BYTES.saturating_sub(start.len());
            if let Some(taken) = bytes.get(..bytes.len().min(room))
                && !taken.is_empty()
            {
                start.extend_from_slice(taken);
                return Ok(taken.len());
            }
        }
        self.encoder()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Waiting { .. } => Ok(()),
            Self::Running(encoder) => encoder.flush(),
        }
    }
}

/// The level for a stream that begins like this. Photos and archives do not shrink: stored. A network's
/// weights shrink by a fourteenth at any level: the fastest. All else shrinks well.
fn level_for(start: &[u8]) -> Compression {
    match entropy(start) {
        bits if bits >= 7.9 => Compression::none(),
        bits if bits >= 7.0 => Compression::fast(),
        _ => Compression::new(6),
    }
}

/// The Shannon entropy of the bytes' distribution, in bits per byte: 0 to 8.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    for &byte in bytes {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let total = bytes.len() as f64;
    counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| {
            let share = f64::from(count) / total;
            -share * share.log2()
        })
        .sum()
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

    /// Bytes as evenly spread as random ones, the same every time.
    fn noise(count: usize) -> Vec<u8> {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .take(count)
        .collect()
    }

    #[test]
    fn the_bytes_are_pinned_whatever_the_machine() {
        let (written, bytes) = written(&sample());
        assert_eq!(Sha256Digest::of(&bytes), written.digest);
        assert_eq!(bytes.len() as u64, written.size);
        // A new deflate library would move every image: that must be seen, not slip in.
        insta::assert_snapshot!(written.diff_id, @"sha256:e1f7605003e7ca60d4fb4411b93f4fefd59f46a03509068e2723e1edc1533627");
        insta::assert_snapshot!(written.digest, @"sha256:df844e05ded47161c273e4a49b3a379cdd315582afb03b9cb2fd24099a5e11b1");
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
    fn the_level_follows_the_content() {
        assert_eq!(level_for(&noise(SAMPLE_BYTES)).level(), 0);
        assert_eq!(level_for(b"text text text").level(), 6);
        let mut weights = noise(SAMPLE_BYTES);
        for byte in weights.iter_mut().skip(3).step_by(4) {
            // The exponents of weights take few values.
            *byte = 0x30 | (*byte & 0x0f);
        }
        assert_eq!(level_for(&weights).level(), 1);
    }

    #[test]
    fn a_large_incompressible_file_round_trips() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weights");
        let content = noise(3 * SAMPLE_BYTES + 17);
        std::fs::write(&file, &content).unwrap();
        let mut layer = Layer::new(Owner::ROOT, 0);
        let expected = Some(Sha256Digest::of(&content));
        layer.add_file("weights", 0o644, Source::File { path: file, expected }).unwrap();
        let (_, bytes) = written(&layer);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let mut back = Vec::new();
        entry.read_to_end(&mut back).unwrap();
        assert!(back == content);
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
    fn two_things_at_one_place_are_refused() {
        let mut layer = sample();
        assert!(layer.add_file("usr/a", 0o644, Source::Bytes(Vec::new())).is_err());
        assert!(layer.add_file("usr/a/b", 0o644, Source::Bytes(Vec::new())).is_err());
        assert!(layer.add_file("../a", 0o644, Source::Bytes(Vec::new())).is_err());
    }
}
