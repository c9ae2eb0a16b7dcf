//! From uploads to runs: waits until uploads are quiet, looks which runs there are, and queues one where none will see
//! the uploads.
//!
//! A run imports everything there is when it starts. So uploads are in good hands with any run that had not started
//! when they were known here: one that waits, or one whose number is higher than that of the newest run then.

use std::sync::Arc;
use std::time::Duration;

use mynah_contracts::{Diagnosis as _, error_chain};
use tokio::time::{Instant, sleep, sleep_until};

use super::error::RelayError;
use super::figures::Figures;
use super::intake::{Intake, Pending};
use super::ledger::{Asked, Record};
use crate::azure::pipelines::{Pipeline, Runs};

/// How long to wait before the next try: it doubles up to the latter.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(2);

/// When uploads are let through to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// So long after the last upload.
    pub(super) quiet: Duration,
    /// But at the latest so long after the first.
    pub(super) longest: Duration,
}

impl Pace {
    /// When a run is due for uploads of which the first and the last came then.
    fn due(self, first: Instant, last: Instant) -> Instant {
        (last + self.quiet).min(first + self.longest)
    }
}

/// What is to be done about pending uploads.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// This run sees the uploads up to `through`.
    Join { through: u64, run: u64 },
    /// No run will see them.
    Queue(Asked),
}

/// What the runs there are mean for the uploads.
fn decide(pending: &Pending, runs: Runs) -> Step {
    if let Some(run) = runs.waiting {
        return Step::Join { through: pending.taken, run };
    }
    match (pending.asked, runs.newest) {
        // The run that was asked for is there, whatever became of the answer; or someone else's, which is as good.
        (Some(asked), Some(run)) if run > asked.after => Step::Join { through: asked.through, run },
        (_, newest) => Step::Queue(Asked { through: pending.taken, after: newest.unwrap_or_default() }),
    }
}

/// Hands uploads to runs for ever.
pub(super) async fn dispatch(
    intake: Intake,
    pipeline: Pipeline,
    pace: Pace,
    figures: Arc<Figures>,
) -> Result<(), RelayError> {
    let mut pending = intake.pending();
    let mut wait = FIRST_WAIT;
    loop {
        let Some((first, last)) = pending.borrow_and_update().since else {
            pending.changed().await.map_err(|_| RelayError::Closed)?;
            continue;
        };
        let due = pace.due(first, last);
        if Instant::now() < due {
            tokio::select! {
                () = sleep_until(due) => {}
                changed = pending.changed() => changed.map_err(|_| RelayError::Closed)?,
            }
            continue;
        }
        let now = pending.borrow().clone();
        match hand_over(&intake, &pipeline, &now, &figures).await {
            Ok(()) => {
                figures.troubled(false);
                wait = FIRST_WAIT;
            }
            Err(RelayError::Closed) => return Err(RelayError::Closed),
            Err(error) => {
                figures.troubled(true);
                figures.failures.add(1);
                let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                tracing::warn!(
                    "{}{hint}; {} uploads wait, the next try is in {} s",
                    error_chain(&error),
                    now.count(),
                    wait.as_secs()
                );
                sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}

async fn hand_over(
    intake: &Intake,
    pipeline: &Pipeline,
    pending: &Pending,
    figures: &Figures,
) -> Result<(), RelayError> {
    match decide(pending, pipeline.runs().await?) {
        Step::Join { through, run } => {
            intake.decide(Record::Handed { through, run }).await?;
            figures.joined.add(1);
            tracing::info!("{} uploads join run {run}", through - pending.handed);
        }
        Step::Queue(asked) => {
            // Known on the disk before it is known to the service: a kill in between finds the run again.
            intake.decide(Record::Asked(asked)).await?;
            let run = pipeline.queue().await?;
            intake.decide(Record::Handed { through: asked.through, run }).await?;
            figures.queued.add(1);
            tracing::info!("run {run} is queued for {} uploads", asked.through - pending.handed);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(taken: u64, asked: Option<Asked>) -> Pending {
        Pending { taken, handed: 0, asked, since: None }
    }

    #[test]
    fn a_run_that_waits_is_joined_and_one_that_started_is_not() {
        let waits = Runs { newest: Some(9), waiting: Some(8) };
        assert_eq!(decide(&pending(5, None), waits), Step::Join { through: 5, run: 8 });
        let started = Runs { newest: Some(9), waiting: None };
        assert_eq!(decide(&pending(5, None), started), Step::Queue(Asked { through: 5, after: 9 }));
        assert_eq!(decide(&pending(5, None), Runs::default()), Step::Queue(Asked { through: 5, after: 0 }));
    }

    #[test]
    fn a_run_whose_answer_was_lost_is_found_by_its_number() {
        let asked = Some(Asked { through: 3, after: 9 });
        let started = |newest| Runs { newest: Some(newest), waiting: None };
        // It took over what it was asked for; what came since needs another.
        assert_eq!(decide(&pending(5, asked), started(10)), Step::Join { through: 3, run: 10 });
        assert_eq!(decide(&pending(5, asked), started(9)), Step::Queue(Asked { through: 5, after: 9 }));
    }

    #[test]
    fn a_steady_stream_is_not_waited_for_without_end() {
        let pace = Pace { quiet: Duration::from_mins(1), longest: Duration::from_mins(10) };
        let first = Instant::now();
        let after = |seconds| first + Duration::from_secs(seconds);
        assert_eq!(pace.due(first, first), after(60));
        assert_eq!(pace.due(first, after(100)), after(160));
        assert_eq!(pace.due(first, after(599)), after(600));
    }
}
