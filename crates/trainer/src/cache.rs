//! Embeddings kept from one run to the next.
//!
//! A *shelf* is a folder for one backbone, preprocessing and augmentation, named by the digest of all three. It holds
//! files that are only ever appended to; each run that embeds something adds one:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `MYNAHEM1` |
//! | 4 | numbers in an embedding, little endian |
//! | then records: 32 | the photo's SHA-256 |
//! | 4 × numbers | 32-bit floats, little endian |
//! | 8 | the first bytes of the SHA-256 of the record so far |
//!
//! A record is written whole by one call. A process killed in the middle leaves at most one incomplete record at a
//! file's end, which is ignored; all before it count. Damaged records are dropped with a warning and the file is
//! written anew without them. The folder may be deleted at any time.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use mynah_contracts::{Hasher, Preprocess, Sha256Digest};

use crate::TrainerError;

const MAGIC: &[u8; 8] = b"MYNAHEM1";
const HEADER: usize = 12;
const DIGEST: usize = 32;
const CHECKSUM: usize = 8;
const EXTENSION: &str = "embeddings";

/// The embeddings of one kind.
#[derive(Debug)]
pub struct Shelf {
    folder: PathBuf,
    columns: usize,
    /// This run's file, made with the first embedding.
    writer: Mutex<Option<(PathBuf, File)>>,
}

impl Shelf {
    /// The shelf below `cache` for embeddings of `columns` numbers, made from photos preprocessed by `preprocess`,
    /// changed by the augmentation of that name (empty: not at all) and taken through `backbone`.
    pub fn new(
        cache: &Path,
        backbone: &Sha256Digest,
        preprocess: &Preprocess,
        augmentation: &str,
        columns: usize,
    ) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(backbone.as_bytes());
        // Serialising plain numbers and names cannot fail; were it to, the shelf would only be another one.
        hasher.update(&serde_json::to_vec(preprocess).unwrap_or_default());
        hasher.update(augmentation.as_bytes());
        let folder = cache.join(&hasher.finish().hex()[..32]);
        Self { folder, columns, writer: Mutex::default() }
    }

    fn record_bytes(&self) -> usize {
        DIGEST + 4 * self.columns + CHECKSUM
    }

    /// Gives `found` every stored embedding whose photo is a key of `wanted`, with the key's value, in no
    /// particular order, perhaps more than once.
    ///
    /// # Errors
    /// Where the folder or a file cannot be read, or a damaged file cannot be written anew.
    pub fn load(
        &self,
        wanted: &HashMap<Sha256Digest, usize>,
        mut found: impl FnMut(usize, &[f32]),
    ) -> Result<(), TrainerError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(TrainerError::io("read", &self.folder)(error)),
        };
        let mut values = vec![0.0; self.columns];
        for entry in entries {
            let path = entry.map_err(TrainerError::io("read", &self.folder))?.path();
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            let damage = self
                .each_record(&path, |photo, record| {
                    if let Some(&key) = wanted.get(&photo) {
                        let (numbers, _) = record[DIGEST..].as_chunks::<4>();
                        for (value, bytes) in values.iter_mut().zip(numbers) {
                            *value = f32::from_le_bytes(*bytes);
                        }
                        found(key, &values);
                    }
                    Ok(())
                })
                .map_err(TrainerError::io("read", &path))?;
            if damage.needs_repair() {
                tracing::warn!(
                    file = %path.display(),
                    damage = ?damage,
                    "stored embeddings are damaged; they are dropped and computed again"
                );
                self.repair(&path).map_err(TrainerError::io("repair", &path))?;
            }
        }
        Ok(())
    }

    /// Stores the embedding of a photo.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn store(&self, photo: &Sha256Digest, embedding: &[f32]) -> Result<(), TrainerError> {
        let mut record = Vec::with_capacity(self.record_bytes());
        record.extend_from_slice(photo.as_bytes());
        record.extend(embedding.iter().flat_map(|value| value.to_le_bytes()));
        let checksum = checksum(&record);
        record.extend_from_slice(&checksum);
        // Should a holder have panicked, the file still ends with a whole record or is abandoned with the run.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (path, file) = match &mut *writer {
            Some(open) => open,
            closed => closed.insert(self.create()?),
        };
        file.write_all(&record).map_err(TrainerError::io("write", &*path))
    }

    /// A file of its own for this run, whatever other runs do at the same time.
    fn create(&self) -> Result<(PathBuf, File), TrainerError> {
        fs::create_dir_all(&self.folder).map_err(TrainerError::io("create", &self.folder))?;
        let mut number = fs::read_dir(&self.folder).map_or(0, Iterator::count);
        loop {
            let path = self.folder.join(format!("{number:06}.{EXTENSION}"));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    file.write_all(&self.header()).map_err(TrainerError::io("write", &path))?;
                    return Ok((path, file));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(TrainerError::io("create", &path)(error)),
            }
        }
    }

    fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..].copy_from_slice(&(self.columns as u32).to_le_bytes());
        header
    }

    /// Calls `whole` with each undamaged record.
    fn each_record(
        &self,
        path: &Path,
        mut whole: impl FnMut(Sha256Digest, &[u8]) -> io::Result<()>,
    ) -> io::Result<Damage> {
        let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
        let mut header = [0; HEADER];
        let mut damage = Damage::default();
        if fill(&mut reader, &mut header)? < HEADER {
            // Another run may be about to write it.
            return Ok(damage);
        }
        if header != self.header() {
            damage.header = true;
            return Ok(damage);
        }
        let mut record = vec![0; self.record_bytes()];
        while fill(&mut reader, &mut record)? == record.len() {
            let (content, sum) = record.split_at(DIGEST + 4 * self.columns);
            match content.first_chunk::<DIGEST>() {
                Some(photo) if checksum(content) == sum => whole(Sha256Digest::from_bytes(*photo), content)?,
                _ => damage.records += 1,
            }
        }
        Ok(damage)
    }

    /// Writes the file anew with its undamaged records.
    fn repair(&self, path: &Path) -> io::Result<()> {
        let mut whole = tempfile::NamedTempFile::new_in(&self.folder)?;
        whole.write_all(&self.header())?;
        self.each_record(path, |_, content| {
            whole.write_all(content)?;
            whole.write_all(&checksum(content))
        })?;
        whole.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// What is wrong with a file, beside an incomplete record at its end.
#[derive(Debug, Default)]
struct Damage {
    header: bool,
    records: usize,
}

impl Damage {
    fn needs_repair(&self) -> bool {
        self.header || self.records > 0
    }
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM] {
    let digest = Sha256Digest::of(content);
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    [a, b, c, d, e, f, g, h]
}

/// Reads until `buffer` is full or the file ends; says how much it read.
fn fill(reader: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let length = buffer.len();
    let mut rest = buffer;
    while !rest.is_empty() {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(read) => rest = rest.split_at_mut(read).1,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::EFFICIENTNET_LITE0_224;

    fn shelf(cache: &Path, augmentation: &str) -> Shelf {
        let spec = EFFICIENTNET_LITE0_224;
        Shelf::new(cache, &spec.sha256, &spec.preprocess, augmentation, 4)
    }

    fn photo(number: u8) -> Sha256Digest {
        Sha256Digest::of(&[number])
    }

    /// What the shelf holds of the photos 0 to 9.
    fn held(shelf: &Shelf) -> Vec<(usize, Vec<f32>)> {
        let wanted = (0..10).map(|i| (photo(i), usize::from(i))).collect();
        let mut held = Vec::new();
        shelf.load(&wanted, |key, values| held.push((key, values.to_vec()))).unwrap();
        held.sort_by_key(|(key, _)| *key);
        held
    }

    fn files(shelf: &Shelf) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(&shelf.folder).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn what_is_stored_comes_back_to_the_bit_and_a_later_run_only_adds() {
        let cache = tempfile::tempdir().unwrap();
        let values = [1.0e-40f32, -0.0, f32::MAX, 0.1];
        let first = shelf(cache.path(), "");
        assert!(held(&first).is_empty());
        first.store(&photo(3), &values).unwrap();
        first.store(&photo(99), &values).unwrap();
        let before = fs::read(&files(&first)[0]).unwrap();

        let second = shelf(cache.path(), "");
        second.store(&photo(4), &[4.0; 4]).unwrap();
        let found = held(&shelf(cache.path(), ""));
        assert_eq!(found.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(found[0].1.map_bits(), values.to_vec().map_bits());
        assert_eq!(files(&second).len(), 2);
        assert_eq!(fs::read(&files(&second)[0]).unwrap(), before);
        assert!(held(&shelf(cache.path(), "hflip")).is_empty(), "another augmentation is another shelf");
    }

    trait MapBits {
        fn map_bits(&self) -> Vec<u32>;
    }

    impl MapBits for Vec<f32> {
        fn map_bits(&self) -> Vec<u32> {
            self.iter().map(|value| value.to_bits()).collect()
        }
    }

    #[test]
    fn a_torn_end_costs_one_record_wherever_it_tore() {
        let cache = tempfile::tempdir().unwrap();
        let written = shelf(cache.path(), "");
        (0..3).for_each(|i| written.store(&photo(i), &[f32::from(i); 4]).unwrap());
        let path = files(&written)[0].clone();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let complete = length.saturating_sub(HEADER) / written.record_bytes();
            let again = shelf(cache.path(), "");
            assert_eq!(held(&again).len(), complete, "{length}");
        }
        // A run after the torn one stores what is missing beside it.
        let again = shelf(cache.path(), "");
        again.store(&photo(2), &[2.0; 4]).unwrap();
        assert_eq!(held(&again).len(), 3);
    }

    #[test]
    fn any_damaged_byte_drops_its_record_only_and_the_file_is_mended() {
        let cache = tempfile::tempdir().unwrap();
        let written = shelf(cache.path(), "");
        (0..3).for_each(|i| written.store(&photo(i), &[f32::from(i); 4]).unwrap());
        let path = files(&written)[0].clone();
        let whole = fs::read(&path).unwrap();
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 0x10;
            fs::write(&path, &damaged).unwrap();
            let expected = if position < HEADER { 0 } else { 2 };
            assert_eq!(held(&shelf(cache.path(), "")).len(), expected, "{position}");
            let mended = fs::read(&path).unwrap();
            assert_eq!(mended.len(), HEADER + expected * written.record_bytes());
            assert_eq!(held(&shelf(cache.path(), "")).len(), expected, "{position}");
        }
        assert_eq!(files(&written).len(), 1, "no temporary file is left");
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_an_error_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = shelf(&file, "").store(&photo(1), &[0.0; 4]).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }
}
