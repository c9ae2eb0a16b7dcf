//! Keeps calls below the service's rate.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// Calls a second that the service takes of one resource, both tiers (its documentation of limits, 2025-01-22).
const PER_SECOND: u32 = 10;

/// Calls that may be made at once after a pause.
const BURST: u32 = 10;

/// Gives each call its turn: a virtual scheduling algorithm (ITU-T I.371, Annex A), shared by parallel calls.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// When the next call would be due if all came evenly.
    due: Mutex<Instant>,
}

impl Pace {
    /// The service's own rate.
    pub(super) fn of_service() -> Self {
        Self::every(Duration::from_secs(1) / PER_SECOND)
    }

    /// No rate to keep: a service on this machine serves nobody else.
    pub(super) fn free() -> Self {
        Self::every(Duration::ZERO)
    }

    fn every(interval: Duration) -> Self {
        Self { interval, due: Mutex::new(Instant::now()) }
    }

    /// Waits until a call may be made.
    pub(super) async fn turn(&self) {
        let mut due = self.due.lock().await;
        let now = Instant::now();
        let at = (*due).max(now);
        *due = at + self.interval;
        drop(due);
        let allowance = self.interval * (BURST - 1);
        if at > now + allowance {
            sleep_until(at - allowance).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_what_follows_waits() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let pace = Pace::every(Duration::from_millis(20));
            let start = Instant::now();
            for _ in 0..BURST {
                pace.turn().await;
            }
            let burst = pace.due.lock().await.duration_since(start);
            assert!(burst >= Duration::from_millis(200), "ten turns book ten intervals: {burst:?}");
            pace.turn().await;
            pace.turn().await;
            // Two turns beyond the burst cannot come sooner than two intervals after its start.
            assert!(start.elapsed() >= Duration::from_millis(39));
        });
    }
}
