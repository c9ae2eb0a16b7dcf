//! The file that outlives the relay: a line per record, each with a checksum, on the disk before anything is answered.
//!
//! A line that a power cut left half written is at the end, was never acknowledged, and is cut off. A damaged line
//! with good ones after it is another matter: then the file is not what was written, and the relay does not start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};

use super::error::RelayError;
use super::ledger::{Ledger, Record};
use crate::staging;

const FILE: &str = "relay.journal";
const LOCK: &str = "relay.lock";

/// A longer journal is begun anew with a snapshot, in bytes.
const LONGEST: u64 = 32 << 20;

/// The folder of a relay's state, held by this process alone.
#[derive(Debug)]
pub(super) struct Holder {
    folder: PathBuf,
    /// The lock ends with the file.
    _lock: File,
}

/// The journal, open at its end.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    length: u64,
    longest: u64,
    _holder: Holder,
}

/// Makes the folder and tries to take it; `None` while another process has it.
pub(super) fn hold(folder: &Path) -> Result<Option<Holder>, RelayError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RelayError::State { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let path = folder.join(LOCK);
    let lock =
        OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed(&path))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Holder { folder: folder.to_owned(), _lock: lock })),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(failed(&path)(error.into())),
    }
}

impl Journal {
    /// Reads the journal and makes it ready to be written.
    pub(super) fn open(holder: Holder) -> Result<(Self, Ledger), RelayError> {
        Self::open_up_to(holder, LONGEST)
    }

    fn open_up_to(holder: Holder, longest: u64) -> Result<(Self, Ledger), RelayError> {
        let path = holder.folder.join(FILE);
        let failed = |source| RelayError::State { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let (ledger, length) =
            replay(&bytes).map_err(|line| RelayError::Damaged { path: path.clone(), line })?;
        if length < bytes.len() {
            tracing::warn!(
                "the last {} bytes of `{}` were half written and never acknowledged; they are cut off",
                bytes.len() - length,
                path.display()
            );
        }
        let length = length as u64;
        file.set_len(length).and_then(|()| file.sync_all()).map_err(failed)?;
        let mut journal = Self { file, path, length, longest, _holder: holder };
        journal.shorten(&ledger)?;
        Ok((journal, ledger))
    }

    /// Writes a record, and returns when it is on the disk. After an error the record is not in the journal.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        let line = line(record)?;
        // What an earlier failure left behind is written over.
        self.file.set_len(self.length)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(&line)?;
        self.file.sync_data()?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Begins the journal anew with a snapshot, where it has grown long.
    pub(super) fn shorten(&mut self, ledger: &Ledger) -> Result<(), RelayError> {
        if self.length <= self.longest {
            return Ok(());
        }
        let failed = |source| RelayError::State { path: self.path.clone(), source };
        let line = line(&ledger.snapshot()).map_err(failed)?;
        staging::write_file(&self.path, &line).map_err(RelayError::Snapshot)?;
        self.file = OpenOptions::new().read(true).write(true).open(&self.path).map_err(failed)?;
        self.length = line.len() as u64;
        // A ledger that is long by itself is not written anew with every record.
        self.longest = self.longest.max(2 * self.length);
        Ok(())
    }
}

fn line(record: &Record) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(record)?;
    let mut line = checksum(&json).into_bytes();
    line.push(b' ');
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

/// Enough to find what was half written; nobody is kept from forging the file.
fn checksum(json: &[u8]) -> String {
    let digest = Sha256::digest(json);
    digest.iter().take(4).fold(String::with_capacity(9), |text, byte| format!("{text}{byte:02x}"))
}

fn record(line: &[u8]) -> Option<Record> {
    let (sum, json) = line.split_at_checked(9)?;
    let sum = sum.strip_suffix(b" ")?;
    if checksum(json).as_bytes() != sum {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// The ledger and the length of what is whole; the number of the line that is damaged.
fn replay(bytes: &[u8]) -> Result<(Ledger, usize), usize> {
    let mut ledger = Ledger::default();
    let mut whole = 0;
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
    while let Some((at, line)) = lines.next() {
        let read = line.strip_suffix(b"\n").and_then(record);
        match read.map(|record| ledger.apply(&record)) {
            Some(Ok(())) => whole += line.len(),
            Some(Err(_)) => return Err(at + 1),
            None => {
                let good_follows = lines.any(|(_, line)| line.strip_suffix(b"\n").and_then(record).is_some());
                return if good_follows { Err(at + 1) } else { Ok((ledger, whole)) };
            }
        }
    }
    Ok((ledger, whole))
}

#[cfg(test)]
mod tests {
    use super::super::event::EventId;
    use super::*;

    fn id(number: u32) -> EventId {
        EventId::try_from(format!("{number:032x}")).unwrap()
    }

    fn open(folder: &Path, longest: u64) -> (Journal, Ledger) {
        Journal::open_up_to(hold(folder).unwrap().unwrap(), longest).unwrap()
    }

    #[test]
    fn a_journal_gives_back_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut expected = Ledger::default();
        for round in 0..3 {
            let (mut journal, ledger) = open(folder.path(), LONGEST);
            assert_eq!(ledger, expected);
            let record = Record::Uploads(vec![id(2 * round), id(2 * round + 1)]);
            journal.append(&record).unwrap();
            expected.apply(&record).unwrap();
        }
    }

    #[test]
    fn a_torn_end_is_cut_off_at_every_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let (mut journal, _) = open(folder.path(), LONGEST);
        journal.append(&Record::Uploads(vec![id(1)])).unwrap();
        let first = fs::read(&path).unwrap().len();
        journal.append(&Record::Uploads(vec![id(2)])).unwrap();
        drop(journal);
        let whole = fs::read(&path).unwrap();
        for length in first..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let (mut journal, ledger) = open(folder.path(), LONGEST);
            assert_eq!((ledger.taken(), ledger.knows(id(2))), (1, false), "{length}");
            journal.append(&Record::Uploads(vec![id(3)])).unwrap();
            drop(journal);
            assert_eq!(open(folder.path(), LONGEST).1.taken(), 2);
        }
    }

    #[test]
    fn damage_in_the_middle_is_told_and_nothing_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let (mut journal, _) = open(folder.path(), LONGEST);
        for number in 1..4 {
            journal.append(&Record::Uploads(vec![id(number)])).unwrap();
        }
        drop(journal);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let error = Journal::open(hold(folder.path()).unwrap().unwrap()).unwrap_err();
        assert!(matches!(error, RelayError::Damaged { line: 2, .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn a_long_journal_becomes_a_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, mut ledger) = open(folder.path(), 2000);
        for number in 0..100 {
            let record = Record::Uploads(vec![id(number)]);
            journal.append(&record).unwrap();
            ledger.apply(&record).unwrap();
            let record = Record::Handed { through: ledger.taken(), run: number.into() };
            journal.append(&record).unwrap();
            ledger.apply(&record).unwrap();
            journal.shorten(&ledger).unwrap();
        }
        drop(journal);
        let lines = fs::read_to_string(folder.path().join(FILE)).unwrap().lines().count();
        assert!(lines < 150, "{lines} lines");
        assert_eq!(open(folder.path(), LONGEST).1, ledger);
    }

    #[test]
    fn a_folder_has_one_holder() {
        let folder = tempfile::tempdir().unwrap();
        let held = hold(folder.path()).unwrap().unwrap();
        assert!(hold(folder.path()).unwrap().is_none());
        drop(held);
        assert!(hold(folder.path()).unwrap().is_some());
    }
}
