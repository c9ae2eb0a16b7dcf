//! The thread that writes the journal. Whatever waits while one record is synced goes into the next together, so that
//! many deliveries share one wait for the disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::error::RelayError;
use super::event::EventId;
use super::figures::Figures;
use super::journal::Journal;
use super::ledger::{Asked, Ledger, Record};

/// How many deliveries wait for the journal; the next is told to come back.
const WAITING: usize = 2048;
/// How many deliveries go into one record.
const TOGETHER: usize = 512;
/// Uploads that arrive within this time are remembered as one group.
const GROUP: Duration = Duration::from_secs(1);

/// What the journal says of uploads that no run has taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    /// The last upload taken.
    pub(super) taken: u64,
    /// The last upload that a run has taken over.
    pub(super) handed: u64,
    /// A run of which it is not known whether it is there.
    pub(super) asked: Option<Asked>,
    /// When the first of them and the last was taken; after a start, the start.
    pub(super) since: Option<(Instant, Instant)>,
}

impl Pending {
    /// How many uploads wait for a run.
    pub(super) fn count(&self) -> u64 {
        self.taken - self.handed
    }
}

/// Why a delivery was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// Too many wait for the journal.
    Full,
    /// The journal cannot be written.
    Unwritten,
}

enum Entry {
    Uploads { ids: Vec<EventId>, done: oneshot::Sender<Result<(), NotTaken>> },
    Decision { record: Record, done: oneshot::Sender<Result<(), NotTaken>> },
}

/// The way to the journal; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Intake {
    sender: mpsc::Sender<Entry>,
    pending: watch::Receiver<Pending>,
}

impl Intake {
    /// Starts the thread.
    pub(super) fn start(journal: Journal, ledger: Ledger, figures: Arc<Figures>) -> Result<Self, RelayError> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let mut groups = Groups::default();
        if ledger.taken() > ledger.handed() {
            groups.add(ledger.taken());
        }
        let (publish, pending) = watch::channel(groups.pending(&ledger));
        let writer = Writer { journal, ledger, figures, groups, publish };
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.work(receiver))
            .map_err(RelayError::Thread)?;
        Ok(Self { sender, pending })
    }

    /// Takes uploads; those known already are left out. Returns when they are on the disk.
    pub(super) async fn take(&self, ids: Vec<EventId>) -> Result<(), NotTaken> {
        let (done, answer) = oneshot::channel();
        self.sender.try_send(Entry::Uploads { ids, done }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotTaken::Full,
            mpsc::error::TrySendError::Closed(_) => NotTaken::Unwritten,
        })?;
        answer.await.unwrap_or(Err(NotTaken::Unwritten))
    }

    /// Notes that a run is about to be asked for, or has taken over.
    pub(super) async fn decide(&self, record: Record) -> Result<(), RelayError> {
        let (done, answer) = oneshot::channel();
        self.sender.send(Entry::Decision { record, done }).await.map_err(|_| RelayError::Closed)?;
        answer.await.ok().and_then(Result::ok).ok_or(RelayError::Closed)
    }

    /// What waits for a run, as it changes.
    pub(super) fn pending(&self) -> watch::Receiver<Pending> {
        self.pending.clone()
    }
}

struct Writer {
    journal: Journal,
    ledger: Ledger,
    figures: Arc<Figures>,
    groups: Groups,
    publish: watch::Sender<Pending>,
}

impl Writer {
    fn work(mut self, mut entries: mpsc::Receiver<Entry>) {
        while let Some(first) = entries.blocking_recv() {
            let mut ids = Vec::new();
            let mut waiting = Vec::new();
            let mut next = Some(first);
            while let Some(Entry::Uploads { ids: more, done }) = next {
                ids.extend(more);
                waiting.push(done);
                next = if waiting.len() < TOGETHER { entries.try_recv().ok() } else { None };
            }
            if !waiting.is_empty() {
                let outcome = self.take(ids);
                // Whoever left does not want to know.
                for done in waiting {
                    let _ = done.send(outcome);
                }
            }
            if let Some(Entry::Decision { record, done }) = next {
                let _ = done.send(self.write(&record));
            }
            if let Err(error) = self.journal.shorten(&self.ledger) {
                tracing::warn!("{}", mynah_contracts::error_chain(&error));
            }
        }
    }

    fn take(&mut self, ids: Vec<EventId>) -> Result<(), NotTaken> {
        let delivered = ids.len();
        let mut fresh: Vec<EventId> = Vec::with_capacity(delivered);
        let mut within = std::collections::HashSet::with_capacity(delivered);
        fresh.extend(ids.into_iter().filter(|id| !self.ledger.knows(*id) && within.insert(*id)));
        let count = fresh.len();
        if count > 0 {
            self.write(&Record::Uploads(fresh))?;
        }
        self.figures.uploads.add(count as u64);
        self.figures.duplicates.add((delivered - count) as u64);
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), NotTaken> {
        self.journal.append(record).map_err(|error| {
            self.figures.unwritten.add(1);
            tracing::error!("cannot write the journal: {error}");
            NotTaken::Unwritten
        })?;
        self.figures.synced.add(1);
        self.ledger.apply(record).map_err(|error| {
            tracing::error!("{error}");
            NotTaken::Unwritten
        })?;
        match record {
            Record::Uploads(_) => self.groups.add(self.ledger.taken()),
            Record::Handed { through, .. } => self.groups.remove(*through),
            Record::Asked(_) | Record::Snapshot { .. } => {}
        }
        // Before it is answered: whoever decided must not decide again on what was before.
        self.publish.send_replace(self.groups.pending(&self.ledger));
        Ok(())
    }
}

/// When uploads arrived, in groups.
#[derive(Debug, Default)]
struct Groups(VecDeque<Group>);

#[derive(Debug)]
struct Group {
    /// The last upload in it.
    through: u64,
    first: Instant,
    last: Instant,
}

impl Groups {
    fn add(&mut self, through: u64) {
        let now = Instant::now();
        match self.0.back_mut() {
            Some(group) if now - group.first < GROUP => {
                group.through = through;
                group.last = now;
            }
            _ => self.0.push_back(Group { through, first: now, last: now }),
        }
    }

    fn remove(&mut self, through: u64) {
        while self.0.front().is_some_and(|group| group.through <= through) {
            self.0.pop_front();
        }
    }

    fn pending(&self, ledger: &Ledger) -> Pending {
        Pending {
            taken: ledger.taken(),
            handed: ledger.handed(),
            asked: ledger.asked(),
            since: self.0.front().zip(self.0.back()).map(|(first, last)| (first.first, last.last)),
        }
    }
}
