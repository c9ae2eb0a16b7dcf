//! Which messages go out as one, and when: as soon as a batch is full, or when its oldest has waited long enough. Pure.
//!
//! Hubs count messages; a device that tells all it sees is cheaper to run with many sightings in each.

use std::time::Duration;

use super::spool::MAX_MESSAGE;

/// How messages are joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batching {
    /// The most sightings of a message; with one, its body is the sighting itself, and an array of them otherwise.
    pub most: u16,
    /// How long the oldest sighting waits for others.
    pub wait: Duration,
}

/// What goes out as one message.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Batch {
    /// The numbers of its first and its last message.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) body: Vec<u8>,
}

impl Batching {
    /// Whether `unsent` messages, of which the oldest was seen `waited` ago, are worth a look.
    pub(super) fn is_due(&self, unsent: u64, waited: Duration) -> bool {
        unsent >= u64::from(self.most) || (unsent > 0 && waited >= self.wait)
    }

    /// Joins `messages`, oldest first, into at most `room` batches. What does not fill the last one stays, unless `all`
    /// is to go. No batch is larger than a hub takes.
    pub(super) fn join(&self, messages: Vec<(u64, Vec<u8>)>, room: usize, all: bool) -> Vec<Batch> {
        let mut batches: Vec<Batch> = Vec::new();
        if self.most <= 1 {
            let single = |(number, body)| Batch { first: number, last: number, body };
            return messages.into_iter().take(room).map(single).collect();
        }
        let (mut joined, mut full) = (0, true);
        for (number, message) in messages {
            match batches.last_mut() {
                Some(batch) if !full && batch.body.len() + message.len() + 2 <= MAX_MESSAGE => {
                    batch.body.push(b',');
                    batch.body.extend(message);
                    batch.last = number;
                    joined += 1;
                }
                _ => {
                    if batches.len() == room {
                        full = true;
                        break;
                    }
                    let mut body = vec![b'['];
                    body.extend(message);
                    batches.push(Batch { first: number, last: number, body });
                    joined = 1;
                }
            }
            full = joined >= self.most;
        }
        if !full && !all {
            batches.pop();
        }
        for batch in &mut batches {
            batch.body.push(b']');
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WAIT: Duration = Duration::from_secs(30);

    fn messages(count: u64) -> Vec<(u64, Vec<u8>)> {
        (7..7 + count).map(|number| (number, number.to_string().into_bytes())).collect()
    }

    fn told(batches: &[Batch]) -> Vec<&str> {
        batches.iter().map(|batch| std::str::from_utf8(&batch.body).unwrap()).collect()
    }

    #[test]
    fn one_by_one_the_message_is_the_sighting() {
        let batching = Batching { most: 1, wait: WAIT };
        assert_eq!(told(&batching.join(messages(3), 2, false)), ["7", "8"]);
        assert!(batching.is_due(1, Duration::ZERO) && !batching.is_due(0, WAIT));
    }

    #[test]
    fn a_batch_goes_when_it_is_full_or_its_time_has_come() {
        let batching = Batching { most: 3, wait: WAIT };
        assert!(!batching.is_due(2, Duration::from_secs(29)));
        assert!(batching.is_due(2, WAIT) && batching.is_due(3, Duration::ZERO));
        assert_eq!(told(&batching.join(messages(5), 9, false)), ["[7,8,9]"]);
        assert_eq!(told(&batching.join(messages(5), 9, true)), ["[7,8,9]", "[10,11]"]);
        assert_eq!(told(&batching.join(messages(9), 2, false)), ["[7,8,9]", "[10,11,12]"]);
    }

    #[test]
    fn what_a_hub_would_not_take_is_never_joined() {
        let batching = Batching { most: 9, wait: WAIT };
        let large = (0..4).map(|number| (number, vec![b'1'; MAX_MESSAGE / 2 - 2])).collect();
        let batches = batching.join(large, 9, true);
        assert_eq!(batches.len(), 2);
        assert!(batches.iter().all(|batch| batch.body.len() <= MAX_MESSAGE));
    }

    proptest! {
        #[test]
        fn nothing_is_left_out_and_nothing_goes_twice(
            sizes in prop::collection::vec(1_usize..90_000, 0..40), most in 1_u16..9, room in 1_usize..20, all in any::<bool>(),
        ) {
            let messages: Vec<_> = (0..).zip(sizes.iter().map(|&size| vec![b'1'; size])).collect();
            let batches = Batching { most, wait: WAIT }.join(messages.clone(), room, all);
            let mut next = 0;
            for batch in &batches {
                prop_assert_eq!(batch.first, next);
                prop_assert!(batch.last >= batch.first && batch.last - batch.first < u64::from(most));
                let inside: usize = sizes[batch.first as usize..=batch.last as usize].iter().sum();
                let marks = if most == 1 { 0 } else { (batch.last - batch.first) as usize + 2 };
                prop_assert_eq!(batch.body.len(), inside + marks);
                next = batch.last + 1;
            }
            prop_assert!(batches.len() <= room);
            if all && batches.len() < room {
                prop_assert_eq!(next as usize, messages.len());
            }
        }
    }
}
