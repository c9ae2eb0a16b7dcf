//! What is known of uploads: which were taken, which a run has taken over. Pure: the journal keeps the records, and
//! the same records give the same ledger.

use std::collections::{HashSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::event::EventId;

/// The form of the journal.
const VERSION: u32 = 1;

/// Of how many events a second delivery is recognised. Event Grid delivers again for a day.
const REMEMBERED: usize = 100_000;

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) enum Record {
    /// Everything before, in short.
    Snapshot {
        version: u32,
        taken: u64,
        handed: u64,
        asked: Option<Asked>,
        /// The oldest first.
        seen: Vec<EventId>,
    },
    /// Uploads that were taken, each for the first time.
    Uploads(Vec<EventId>),
    /// A run is about to be asked for.
    Asked(Asked),
    /// A run has taken over the uploads up to this one.
    Handed { through: u64, run: u64 },
}

/// A run that was asked for, of which it is not yet known whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Asked {
    /// The last upload that it was for.
    pub(super) through: u64,
    /// The newest run there was before. One with a higher number began after these uploads.
    pub(super) after: u64,
}

/// A record that cannot follow those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record does not follow from those before it")]
pub(super) struct Disordered;

/// The uploads, numbered from 1 in the order they were taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    taken: u64,
    handed: u64,
    asked: Option<Asked>,
    seen: HashSet<EventId>,
    order: VecDeque<EventId>,
}

impl Ledger {
    /// Adds what a record says.
    pub(super) fn apply(&mut self, record: &Record) -> Result<(), Disordered> {
        match record {
            Record::Snapshot { version, taken, handed, asked, seen } => {
                if *version != VERSION || handed > taken || asked.is_some_and(|asked| asked.through > *taken)
                {
                    return Err(Disordered);
                }
                *self = Self { taken: *taken, handed: *handed, asked: *asked, ..Self::default() };
                for id in seen {
                    self.remember(*id);
                }
            }
            Record::Uploads(ids) => {
                self.taken = self.taken.checked_add(ids.len() as u64).ok_or(Disordered)?;
                for id in ids {
                    self.remember(*id);
                }
            }
            Record::Asked(asked) if (self.handed..=self.taken).contains(&asked.through) => {
                self.asked = Some(*asked);
            }
            Record::Handed { through, .. } if (self.handed..=self.taken).contains(through) => {
                self.handed = *through;
                self.asked = None;
            }
            Record::Asked(_) | Record::Handed { .. } => return Err(Disordered),
        }
        Ok(())
    }

    fn remember(&mut self, id: EventId) {
        if self.seen.insert(id) {
            self.order.push_back(id);
        }
        while self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
    }

    /// Whether the event was taken before.
    pub(super) fn knows(&self, id: EventId) -> bool {
        self.seen.contains(&id)
    }

    /// How many uploads were ever taken: the number of the last.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// The last upload that a run has taken over.
    pub(super) fn handed(&self) -> u64 {
        self.handed
    }

    /// The run that was asked for, while it is not known to be there.
    pub(super) fn asked(&self) -> Option<Asked> {
        self.asked
    }

    /// One record that says the same as all that were applied.
    pub(super) fn snapshot(&self) -> Record {
        Record::Snapshot {
            version: VERSION,
            taken: self.taken,
            handed: self.handed,
            asked: self.asked,
            seen: self.order.iter().copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u32) -> EventId {
        EventId::try_from(format!("{number:032x}")).unwrap()
    }

    fn ledger(records: &[Record]) -> Ledger {
        let mut ledger = Ledger::default();
        for record in records {
            ledger.apply(record).unwrap();
        }
        ledger
    }

    #[test]
    fn a_run_takes_over_what_was_taken_and_no_more() {
        let mut ledger = ledger(&[Record::Uploads(vec![id(1), id(2)])]);
        assert!(ledger.knows(id(2)) && !ledger.knows(id(3)));
        ledger.apply(&Record::Asked(Asked { through: 2, after: 40 })).unwrap();
        ledger.apply(&Record::Uploads(vec![id(3)])).unwrap();
        ledger.apply(&Record::Handed { through: 2, run: 41 }).unwrap();
        assert_eq!((ledger.taken(), ledger.handed(), ledger.asked()), (3, 2, None));
        for wrong in [
            Record::Handed { through: 1, run: 42 },
            Record::Handed { through: 4, run: 42 },
            Record::Asked(Asked { through: 4, after: 41 }),
            Record::Snapshot { version: 2, taken: 1, handed: 0, asked: None, seen: Vec::new() },
        ] {
            assert_eq!(ledger.apply(&wrong), Err(Disordered), "{wrong:?}");
        }
    }

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest() {
        let ids: Vec<EventId> = (0..=REMEMBERED as u32).map(id).collect();
        let ledger = ledger(&[Record::Uploads(ids)]);
        assert!(!ledger.knows(id(0)) && ledger.knows(id(1)) && ledger.knows(id(REMEMBERED as u32)));
        assert_eq!((ledger.order.len(), ledger.seen.len()), (REMEMBERED, REMEMBERED));
    }

    proptest! {
        #[test]
        fn a_snapshot_says_the_same_as_its_records(steps in prop::collection::vec((0..3_u8, 0..50_u32), 0..60)) {
            let mut ledger = Ledger::default();
            for (kind, number) in steps {
                let record = match kind {
                    0 => Record::Uploads(vec![id(number)]),
                    1 => Record::Asked(Asked { through: ledger.taken(), after: number.into() }),
                    _ => Record::Handed { through: ledger.taken(), run: number.into() },
                };
                ledger.apply(&record).unwrap();
                let text = serde_json::to_string(&ledger.snapshot()).unwrap();
                let mut again = Ledger::default();
                again.apply(&serde_json::from_str(&text).unwrap()).unwrap();
                prop_assert_eq!(&again, &ledger);
            }
        }
    }
}
