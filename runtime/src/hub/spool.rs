//! Messages that wait for their delivery, on disk: in order, bounded, whole after a power loss.
//!
//! A folder of segments. A segment is a file of records, named by the number of its first; a record is its length, the
//! beginning of its digest, and its bytes. A record that was being written when the power went fails its digest and is
//! cut off. What was delivered is a number in a file of its own; a segment of which all was delivered is removed. A
//! message may be delivered twice, when the power goes between the delivery and its note, but never out of order.
//!
//! A disk that refuses does not lose a message at once: it waits in memory, behind those on disk, and is written down as
//! soon as the disk takes it. Only a power loss, or more messages than may wait in memory, loses some of these.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mynah_contracts::Sha256Digest;

use crate::replace::replace_file;

/// Length and digest of a record, in bytes.
const HEAD: usize = 8;
/// The largest message, in bytes: what the hub takes.
pub(super) const MAX_MESSAGE: usize = 256 << 10;
/// A segment is closed beyond this, in bytes.
const SEGMENT: u64 = 256 << 10;
/// Written records reach the disk at least this often while more come: each time for each would wear a card out.
const SYNC: Duration = Duration::from_secs(1);
/// How much may wait in memory while the disk refuses, in bytes.
const MEMORY: usize = 1 << 20;
/// The file that notes what was delivered.
const DELIVERED: &str = "delivered";

/// One file of records.
#[derive(Debug)]
struct Segment {
    /// The number of its first record.
    first: u64,
    /// How many records it holds.
    count: u64,
    bytes: u64,
}

/// The waiting messages.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    /// Oldest first; the last is written to.
    segments: VecDeque<Segment>,
    /// Messages that the disk did not take, after those on disk.
    memory: VecDeque<Vec<u8>>,
    /// Why the disk does not take messages at present.
    refusal: Option<String>,
    /// Whether the last delivery was noted.
    noted: bool,
    /// The number of the oldest message that was not delivered.
    next: u64,
    limit: u64,
    dropped: u64,
    writing: Option<File>,
    synced: Instant,
    unsynced: bool,
}

impl Spool {
    /// Opens the folder, making it where there is none, and cuts off what a power loss left half written. `limit` is in
    /// bytes; beyond it the oldest messages are dropped.
    ///
    /// # Errors
    /// The folder cannot be made, read or written.
    pub(super) fn open(folder: &Path, limit: u64) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut segments: Vec<Segment> = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(first) = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse().ok()) else {
                continue;
            };
            let records = scan(&entry.path())?;
            let bytes = records.iter().map(|record| (HEAD + record.len()) as u64).sum();
            if entry.metadata()?.len() != bytes {
                OpenOptions::new().write(true).open(entry.path())?.set_len(bytes)?;
            }
            segments.push(Segment { first, count: records.len() as u64, bytes });
        }
        segments.sort_by_key(|segment| segment.first);
        let noted =
            std::fs::read_to_string(folder.join(DELIVERED)).ok().and_then(|text| text.trim().parse().ok());
        let first = segments.first().map_or(0, |segment| segment.first);
        let end = segments.last().map_or(0, |segment| segment.first + segment.count);
        let noted: u64 = noted.unwrap_or(first);
        let mut spool = Self {
            folder: folder.to_path_buf(),
            segments: segments.into(),
            memory: VecDeque::new(),
            refusal: None,
            noted: true,
            // Without segments the numbers go on where they stopped.
            next: if end == 0 { noted } else { noted.clamp(first, end) },
            limit,
            dropped: 0,
            writing: None,
            synced: Instant::now(),
            unsynced: false,
        };
        spool.forget_delivered();
        Ok(spool)
    }

    /// The number of the message after the newest on disk.
    fn end_of_disk(&self) -> u64 {
        self.segments.back().map_or(self.next, |segment| segment.first + segment.count)
    }

    /// The number of the message after the newest.
    fn end(&self) -> u64 {
        self.end_of_disk() + self.memory.len() as u64
    }

    /// How many messages wait.
    pub(super) fn waiting(&self) -> u64 {
        self.end().saturating_sub(self.next)
    }

    /// How many messages wait from number `from` on.
    pub(super) fn unsent(&self, from: u64) -> u64 {
        self.end().saturating_sub(from.max(self.next))
    }

    /// How many messages were dropped for room since the opening.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn path(&self, first: u64) -> PathBuf {
        self.folder.join(format!("{first:020}.log"))
    }

    /// Why messages wait in memory only, while they do.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Adds a message at the end: to the disk, or to memory while the disk refuses.
    ///
    /// # Errors
    /// It is too large, or the disk refuses and memory is full; nothing of it then stays.
    pub(super) fn push(&mut self, message: &[u8]) -> io::Result<()> {
        if message.is_empty() || message.len() > MAX_MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is empty or too large"));
        }
        self.write_down();
        if self.refusal.is_none() {
            match self.append(message) {
                Ok(()) => return Ok(()),
                Err(error) => self.refused(&error),
            }
        }
        let held: usize = self.memory.iter().map(Vec::len).sum();
        if held + message.len() > MEMORY {
            self.dropped += 1;
            let why = self.refusal.clone().unwrap_or_default();
            return Err(io::Error::other(format!("{why}, and no more may wait in memory")));
        }
        self.memory.push_back(message.to_vec());
        Ok(())
    }

    /// Writes down what waits in memory, as far as the disk takes it.
    pub(super) fn write_down(&mut self) {
        while let Some(message) = self.memory.pop_front() {
            if let Err(error) = self.append(&message) {
                self.memory.push_front(message);
                return self.refused(&error);
            }
        }
        if self.refusal.take().is_some() {
            tracing::info!("messages to the hub are written to the disk again");
        }
    }

    fn refused(&mut self, error: &io::Error) {
        let why = format!("the disk takes no messages to the hub: {error}");
        if self.refusal.as_ref() != Some(&why) {
            tracing::warn!("{why}; they wait in memory, and a power loss would lose them");
        }
        self.refusal = Some(why);
    }

    /// Adds a message to the end of what is on disk.
    fn append(&mut self, message: &[u8]) -> io::Result<()> {
        let size = (HEAD + message.len()) as u64;
        self.make_room(size)?;
        if self.writing.is_none() || self.segments.back().is_none_or(|segment| segment.bytes >= SEGMENT) {
            self.sync()?;
            let first = self.end_of_disk();
            let file = OpenOptions::new().create(true).append(true).open(self.path(first))?;
            // A file left by a failed beginning holds nothing whole.
            file.set_len(0)?;
            if self.segments.back().is_some_and(|segment| segment.count == 0) {
                self.segments.pop_back();
            }
            self.segments.push_back(Segment { first, count: 0, bytes: 0 });
            self.writing = Some(file);
            sync_folder(&self.folder)?;
        }
        let (Some(file), Some(segment)) = (&mut self.writing, self.segments.back_mut()) else {
            return Err(io::Error::other("no segment is open"));
        };
        let mut record = Vec::with_capacity(HEAD + message.len());
        record.extend((message.len() as u32).to_le_bytes());
        record.extend(check(message));
        record.extend_from_slice(message);
        if let Err(error) = file.write_all(&record) {
            // Where this fails too, the next opening cuts it off.
            let _ = file.set_len(segment.bytes);
            return Err(error);
        }
        segment.count += 1;
        segment.bytes += size;
        self.unsynced = true;
        if self.synced.elapsed() >= SYNC {
            self.sync()?;
        }
        Ok(())
    }

    /// Has everything written reach the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.unsynced
            && let Some(file) = &self.writing
        {
            file.sync_data()?;
        }
        (self.unsynced, self.synced) = (false, Instant::now());
        Ok(())
    }

    /// Drops the oldest segments until a record of `size` fits.
    fn make_room(&mut self, size: u64) -> io::Result<()> {
        while self.segments.iter().map(|segment| segment.bytes).sum::<u64>() + size > self.limit {
            let Some(oldest) = self.segments.pop_front() else { break };
            let end = oldest.first + oldest.count;
            self.dropped += end.saturating_sub(self.next);
            self.next = self.next.max(end);
            if self.segments.is_empty() {
                self.writing = None;
            }
            remove(&self.path(oldest.first))?;
            self.note();
        }
        Ok(())
    }

    /// Up to `most` messages from number `from` on (or the oldest that waits, if that is later), with their numbers.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn read(&self, from: u64, most: usize) -> io::Result<Vec<(u64, Vec<u8>)>> {
        let mut found = Vec::new();
        let from = from.max(self.next);
        for segment in &self.segments {
            if found.len() >= most {
                break;
            }
            if segment.first + segment.count <= from {
                continue;
            }
            for (number, record) in (segment.first..).zip(scan(&self.path(segment.first))?) {
                if number >= from && found.len() < most {
                    found.push((number, record));
                }
            }
        }
        let in_memory = (self.end_of_disk()..).zip(&self.memory).filter(|(number, _)| *number >= from);
        let room = most.saturating_sub(found.len());
        found.extend(in_memory.take(room).map(|(number, message)| (number, message.clone())));
        Ok(found)
    }

    /// Everything up to and with `number` was delivered. Where that cannot be noted, it is told once, and these may be
    /// delivered again after a restart.
    pub(super) fn delivered(&mut self, number: u64) {
        if number < self.next {
            return;
        }
        let on_disk = self.end_of_disk();
        self.next = (number + 1).min(self.end());
        if self.next > on_disk {
            // What went out of memory is never written down: the numbers on disk go on after it.
            let gone = ((self.next - on_disk) as usize).min(self.memory.len());
            self.memory.drain(..gone);
            while let Some(segment) = self.segments.pop_front() {
                // A file that stays is removed at the next opening.
                let _ = remove(&self.path(segment.first));
            }
            self.writing = None;
        }
        self.forget_delivered();
        self.note();
    }

    fn note(&mut self) {
        let noted = replace_file(&self.folder.join(DELIVERED), |file| writeln!(file, "{}", self.next));
        if let (Err(error), true) = (&noted, self.noted) {
            tracing::warn!("what was delivered to the hub cannot be noted: {error}");
        }
        self.noted = noted.is_ok();
    }

    /// Removes the segments of which all was delivered, but the one written to.
    fn forget_delivered(&mut self) {
        while self.segments.len() > 1
            && let Some(oldest) = self.segments.front()
            && oldest.first + oldest.count <= self.next
        {
            // A file that stays is removed at the next opening.
            let _ = remove(&self.path(oldest.first));
            self.segments.pop_front();
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A new name in a folder is safe only when the folder is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn check(message: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = *Sha256Digest::of(message).as_bytes();
    [a, b, c, d]
}

/// The whole records of a segment.
fn scan(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(SEGMENT + (MAX_MESSAGE + HEAD) as u64).read_to_end(&mut bytes)?;
    let mut records = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((&head, after)) = rest.split_first_chunk::<HEAD>() {
        let [a, b, c, d, sum @ ..] = head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let Some((message, after)) = after.split_at_checked(length) else { break };
        if message.is_empty() || check(message) != sum {
            break;
        }
        records.push(message.to_vec());
        rest = after;
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(spool: &Spool) -> Vec<String> {
        let all = spool.read(0, usize::MAX).unwrap();
        all.into_iter().map(|(_, bytes)| String::from_utf8(bytes).unwrap()).collect()
    }

    #[test]
    fn messages_wait_in_order_over_restarts_until_delivered() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        for text in ["a", "b", "c"] {
            spool.push(text.as_bytes()).unwrap();
        }
        let first = spool.read(0, 1).unwrap();
        assert_eq!(first, [(0, b"a".to_vec())]);
        spool.delivered(0);
        drop(spool);
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        assert_eq!((texts(&spool), spool.waiting()), (vec!["b".into(), "c".into()], 2));
        spool.push(b"d").unwrap();
        spool.delivered(3);
        assert_eq!((spool.waiting(), texts(&spool).len()), (0, 0));
        drop(spool);
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        spool.push(b"e").unwrap();
        assert_eq!(spool.read(0, 9).unwrap(), [(4, b"e".to_vec())], "numbers are never used twice");
    }

    #[test]
    fn beyond_its_limit_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 2 << 20).unwrap();
        let message = vec![b'x'; 100_000];
        for _ in 0..60 {
            spool.push(&message).unwrap();
        }
        assert!(spool.waiting() < 25 && spool.dropped() > 30, "{} {}", spool.waiting(), spool.dropped());
        assert_eq!(spool.waiting() + spool.dropped(), 60);
        let numbers: Vec<_> = spool.read(0, 99).unwrap().into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, (spool.dropped()..60).collect::<Vec<_>>());
        let size: u64 =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(size <= 2 << 20, "{size}");
        assert!(spool.push(&vec![0; MAX_MESSAGE + 1]).is_err());
    }

    #[test]
    fn what_the_disk_refuses_waits_in_memory_and_is_written_down_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        // Where the first segment belongs there is something else: the disk refuses, whoever asks.
        let obstacle = folder.path().join(format!("{:020}.log", 0));
        std::fs::create_dir(&obstacle).unwrap();
        for text in ["a", "b", "c"] {
            spool.push(text.as_bytes()).unwrap();
        }
        assert!(spool.refusal().unwrap().contains("the disk takes no messages"));
        assert_eq!(spool.read(0, 2).unwrap(), [(0, b"a".to_vec()), (1, b"b".to_vec())]);
        spool.delivered(0);
        assert_eq!((spool.waiting(), texts(&spool)), (2, vec!["b".into(), "c".into()]));
        std::fs::create_dir(folder.path().join(format!("{:020}.log", 1))).unwrap();
        let large = vec![b'x'; MAX_MESSAGE];
        assert!(spool.push(&large).is_ok() && spool.refusal().is_some());
        for _ in 0..3 {
            let _ = spool.push(&large);
        }
        let error = spool.push(&large).unwrap_err().to_string();
        assert!(error.contains("no more may wait in memory") && spool.dropped() > 0, "{error}");
        for number in [0, 1] {
            std::fs::remove_dir(folder.path().join(format!("{number:020}.log"))).unwrap();
        }
        spool.write_down();
        assert_eq!(spool.refusal(), None);
        let before = spool.read(0, 99).unwrap();
        drop(spool);
        let again = Spool::open(folder.path(), 1 << 20).unwrap().read(0, 99).unwrap();
        assert!(again == before && again[0] == (1, b"b".to_vec()), "in order, and nothing twice");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_cannot_be_had_is_an_error() {
        assert!(Spool::open(Path::new("/dev/null/spool"), 1 << 20).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever the power loss left of the last segment, what is read is a beginning of what was written.
        #[test]
        fn a_power_loss_costs_the_end_at_most(
            sizes in prop::collection::vec(1_usize..40, 1..12), cut in 0_usize..500, flip in any::<Option<u16>>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
            let messages: Vec<Vec<u8>> = sizes.iter().zip(0..).map(|(&size, byte)| vec![byte; size]).collect();
            for message in &messages {
                spool.push(message).unwrap();
            }
            drop(spool);
            let path = folder.path().join(format!("{:020}.log", 0));
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let Some(at) = flip.map(usize::from).filter(|&at| at < bytes.len()) {
                bytes[at] ^= 0x40;
            }
            std::fs::write(&path, bytes).unwrap();
            let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
            let left: Vec<_> = spool.read(0, 99).unwrap().into_iter().map(|(_, message)| message).collect();
            prop_assert!(messages.starts_with(&left));
            spool.push(b"new").unwrap();
            let again: Vec<_> = spool.read(0, 99).unwrap().into_iter().map(|(_, message)| message).collect();
            prop_assert_eq!(again.len(), left.len() + 1);
        }
    }
}
