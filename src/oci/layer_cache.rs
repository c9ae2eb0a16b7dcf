//! Compressed layers kept from one run to the next, found by what they hold.
//!
//! | file | what |
//! |---|---|
//! | `layers/<settings>/<key>.json` | what writing this layer gave: the archive's digest, the blob's descriptor |
//! | `layers/blobs/<digest>` | the compressed archive |
//!
//! A layer's key is its recipe, where it is known what its files must hold, else the digest of its archive: hashing
//! costs a small part of compressing. A blob is believed only after its digest is checked; what is damaged is as
//! good as absent. A cache that cannot be written costs time, never the build. The folder may be deleted at any time.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mynah_contracts::{Hasher, Sha256Digest};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::OciError;
use super::gzip;
use super::spec::{Descriptor, canonical};

/// Above this, the layers that were not used for longest are removed.
const MAX_BYTES: u64 = 2 << 30;

/// What writing a layer gave.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kept {
    /// The SHA-256 of the archive.
    pub(crate) diff_id: Sha256Digest,
    /// The compressed archive.
    pub(crate) blob: Descriptor,
}

/// A record as it is on disk.
#[derive(Serialize, Deserialize)]
struct Record {
    kept: Kept,
    /// The digest of `kept`: nothing else would tell a damaged `diff_id` from a true one.
    seal: Sha256Digest,
}

impl Record {
    fn of(kept: &Kept) -> Self {
        Self { kept: kept.clone(), seal: Sha256Digest::of(&canonical(kept)) }
    }

    fn read(path: &Path) -> Option<Kept> {
        let Self { kept, seal } = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (seal == Sha256Digest::of(&canonical(&kept))).then_some(kept)
    }
}

/// A folder with compressed layers.
#[derive(Clone, Debug)]
pub struct LayerCache {
    records: PathBuf,
    blobs: PathBuf,
}

impl LayerCache {
    /// The cache below `folder`, which is made when there is something to keep.
    pub fn new(folder: &Path) -> Self {
        let layers = folder.join("layers");
        Self { records: layers.join(gzip::SETTINGS), blobs: layers.join("blobs") }
    }

    /// What writing the layer with this key gave before.
    pub(crate) fn find(&self, key: Sha256Digest) -> Option<Kept> {
        Record::read(&self.record(key))
    }

    /// Puts the blob into the temporary file `into`, if it is here and whole.
    ///
    /// # Errors
    /// When `into` cannot be written.
    pub(crate) fn fetch(&self, blob: &Descriptor, into: &NamedTempFile) -> Result<bool, OciError> {
        let path = self.blob(blob.digest);
        let Ok(mut file) = File::open(&path) else { return Ok(false) };
        let mut copy = Copying { file: into.as_file(), hasher: Hasher::new(), refused: None };
        let copied = io::copy(&mut file, &mut copy);
        if let Some(source) = copy.refused {
            return Err(OciError::io("write", into.path())(source));
        }
        let whole = copied.is_ok_and(|size| size == blob.size) && copy.hasher.finish() == blob.digest;
        if whole {
            // When it was used last decides what is removed first; it is no loss where that fails.
            let _ = file.set_modified(SystemTime::now());
        } else {
            tracing::warn!("`{}` is damaged; the layer is compressed again", path.display());
            into.as_file().set_len(0).map_err(OciError::io("write", into.path()))?;
            io::Seek::rewind(&mut into.as_file()).map_err(OciError::io("write", into.path()))?;
        }
        Ok(whole)
    }

    /// Keeps the blob in the file `at`, which is what writing the layer with this key gave.
    pub(crate) fn keep(&self, key: Sha256Digest, kept: &Kept, at: &Path) {
        if let Err(error) = self.try_keep(key, kept, at) {
            tracing::warn!(
                "the layer is not kept for the next run: {}",
                mynah_contracts::error_chain(&error)
            );
        }
    }

    fn try_keep(&self, key: Sha256Digest, kept: &Kept, at: &Path) -> Result<(), OciError> {
        let place = self.blob(kept.blob.digest);
        fs::create_dir_all(&self.blobs).map_err(OciError::io("write", &self.blobs))?;
        fs::create_dir_all(&self.records).map_err(OciError::io("write", &self.records))?;
        let folder = tempfile::Builder::new()
            .prefix(".writing-")
            .tempdir_in(&self.blobs)
            .map_err(OciError::io("write", &self.blobs))?;
        let copy = folder.path().join("blob");
        // One file under two names costs no space. Another file system, or one without links, gets a copy.
        if fs::hard_link(at, &copy).is_err() {
            fs::copy(at, &copy).map_err(OciError::io("write", &copy))?;
        }
        fs::rename(&copy, &place).map_err(OciError::io("write", &place))?;
        let record = folder.path().join("record");
        fs::write(&record, canonical(&Record::of(kept))).map_err(OciError::io("write", &record))?;
        let place = self.record(key);
        fs::rename(&record, &place).map_err(OciError::io("write", &place))?;
        self.tidy(MAX_BYTES).map_err(OciError::io("tidy", &self.blobs))
    }

    /// Removes the blobs not used for longest until at most `limit` bytes are left, and records without
    /// their blob.
    fn tidy(&self, limit: u64) -> io::Result<()> {
        let mut blobs = Vec::new();
        for entry in fs::read_dir(&self.blobs)? {
            let entry = entry?;
            // Another run may have removed it meanwhile, or be writing there.
            if let Ok(found) = entry.metadata()
                && found.is_file()
            {
                blobs.push((found.modified()?, found.len(), entry.path()));
            }
        }
        blobs.sort();
        let mut total: u64 = blobs.iter().map(|(_, size, _)| size).sum();
        if total <= limit {
            return Ok(());
        }
        for (_, size, path) in blobs {
            if total <= limit {
                break;
            }
            let _ = fs::remove_file(path);
            total -= size;
        }
        for entry in fs::read_dir(&self.records)? {
            let path = entry?.path();
            if !Record::read(&path).is_some_and(|kept| self.blob(kept.blob.digest).is_file()) {
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }

    fn record(&self, key: Sha256Digest) -> PathBuf {
        self.records.join(format!("{}.json", key.hex()))
    }

    fn blob(&self, digest: Sha256Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }
}

/// Copies and digests, and remembers when the file, not the source, was at fault.
struct Copying<'a> {
    file: &'a File,
    hasher: Hasher,
    refused: Option<io::Error>,
}

impl io::Write for Copying<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes).inspect_err(|error| {
            self.refused = Some(io::Error::new(error.kind(), error.to_string()));
        })?;
        self.hasher.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::spec::media_type;

    struct Bench {
        folder: tempfile::TempDir,
        cache: LayerCache,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let cache = LayerCache::new(&folder.path().join("cache"));
            Self { folder, cache }
        }

        fn keep(&self, content: &[u8]) -> Descriptor {
            let file = self.folder.path().join("blob");
            let _ = fs::remove_file(&file);
            fs::write(&file, content).unwrap();
            let blob = Descriptor::of(media_type::LAYER, content);
            let diff_id = Sha256Digest::of(b"archive");
            self.cache.keep(diff_id, &Kept { diff_id, blob: blob.clone() }, &file);
            blob
        }

        fn fetch(&self, blob: &Descriptor) -> Option<Vec<u8>> {
            let into = NamedTempFile::new().unwrap();
            self.cache.fetch(blob, &into).unwrap().then(|| fs::read(into.path()).unwrap())
        }
    }

    #[test]
    fn what_was_kept_is_found_by_its_key() {
        let bench = Bench::new();
        assert_eq!(bench.cache.find(Sha256Digest::of(b"archive")), None);
        let blob = bench.keep(b"compressed");
        let kept = bench.cache.find(Sha256Digest::of(b"archive")).unwrap();
        assert_eq!((kept.diff_id, &kept.blob), (Sha256Digest::of(b"archive"), &blob));
        assert_eq!(bench.fetch(&blob).unwrap(), b"compressed");
        assert_eq!(bench.cache.find(Sha256Digest::of(b"other")), None);
    }

    #[test]
    fn every_damage_is_as_good_as_absence_and_is_mended() {
        let bench = Bench::new();
        let blob = bench.keep(b"compressed");
        let path = bench.cache.blob(blob.digest);
        for damaged in [&b"compresseD"[..], b"compressed and more", b"", b"comp"] {
            fs::remove_file(&path).unwrap();
            fs::write(&path, damaged).unwrap();
            assert_eq!(bench.fetch(&blob), None);
        }
        bench.keep(b"compressed");
        assert_eq!(bench.fetch(&blob).unwrap(), b"compressed");
        let record = bench.cache.record(Sha256Digest::of(b"archive"));
        let whole = fs::read_to_string(&record).unwrap();
        let other = whole.replace(&Sha256Digest::of(b"archive").hex(), &Sha256Digest::of(b"other").hex());
        assert_ne!(other, whole);
        for damaged in ["{", "", other.as_str()] {
            fs::write(&record, damaged).unwrap();
            assert_eq!(bench.cache.find(Sha256Digest::of(b"archive")), None, "{damaged}");
        }
    }

    #[test]
    fn the_layers_not_used_for_longest_are_removed_first() {
        let bench = Bench::new();
        let old = bench.keep(b"old");
        let new = bench.keep(b"new");
        let file = File::open(bench.cache.blob(old.digest)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        bench.cache.tidy(6).unwrap();
        assert!(bench.fetch(&old).is_some());
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        bench.cache.tidy(3).unwrap();
        assert_eq!((bench.fetch(&old), bench.fetch(&new)), (None, Some(b"new".to_vec())));
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_no_failure() {
        let bench = Bench::new();
        fs::write(bench.folder.path().join("cache"), b"in the way").unwrap();
        let blob = bench.keep(b"compressed");
        assert_eq!(bench.fetch(&blob), None);
    }
}
