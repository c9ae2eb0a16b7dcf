//! What the relay has done, in the Prometheus text form.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::time::Instant;

use super::intake::Pending;

/// A number that grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted since the start.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Events that were delivered by callers that are known.
    pub(super) events: Counter,
    /// Events that tell of no photo that is watched.
    pub(super) ignored: Counter,
    /// Uploads taken for the first time.
    pub(super) uploads: Counter,
    /// Uploads delivered again.
    pub(super) duplicates: Counter,
    /// Requests by strangers.
    pub(super) strangers: Counter,
    /// Requests that could not be read.
    pub(super) malformed: Counter,
    /// Deliveries that were told to come back.
    pub(super) postponed: Counter,
    /// Records on the disk.
    pub(super) synced: Counter,
    /// Records that could not be written.
    pub(super) unwritten: Counter,
    /// Runs queued.
    pub(super) queued: Counter,
    /// Runs of others, or earlier ones, that were joined.
    pub(super) joined: Counter,
    /// Times the service refused or did not answer.
    pub(super) failures: Counter,
    trouble: AtomicBool,
}

impl Figures {
    /// Whether the last try to hand over failed.
    pub(super) fn troubled(&self, trouble: bool) {
        self.trouble.store(trouble, Ordering::Relaxed);
    }

    /// The figures as text; `pending` is unknown as long as another process holds the state.
    pub(super) fn text(&self, pending: Option<&Pending>) -> String {
        let counts = [
            ("mynah_relay_events_total", "Events delivered.", &self.events),
            ("mynah_relay_ignored_total", "Events that tell of no photo that is watched.", &self.ignored),
            ("mynah_relay_uploads_total", "Uploads taken for the first time.", &self.uploads),
            ("mynah_relay_duplicates_total", "Uploads delivered again.", &self.duplicates),
            ("mynah_relay_strangers_total", "Requests by callers that are not known.", &self.strangers),
            ("mynah_relay_malformed_total", "Requests that could not be read.", &self.malformed),
            ("mynah_relay_postponed_total", "Deliveries told to come back.", &self.postponed),
            ("mynah_relay_journal_records_total", "Records on the disk.", &self.synced),
            ("mynah_relay_journal_failures_total", "Records that could not be written.", &self.unwritten),
            ("mynah_relay_runs_queued_total", "Runs queued.", &self.queued),
            ("mynah_relay_runs_joined_total", "Runs that were there and were joined.", &self.joined),
            (
                "mynah_relay_service_failures_total",
                "Times Azure DevOps refused or was silent.",
                &self.failures,
            ),
        ];
        let mut out = String::new();
        let mut row = |name: &str, kind: &str, help: &str, value: &dyn std::fmt::Display| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        for (name, help, counter) in counts {
            row(name, "counter", help, &counter.get());
        }
        let trouble = u8::from(self.trouble.load(Ordering::Relaxed));
        row("mynah_relay_problem", "gauge", "Whether the last try to reach Azure DevOps failed.", &trouble);
        let standby = u8::from(pending.is_none());
        row("mynah_relay_standby", "gauge", "Whether another relay holds the state.", &standby);
        if let Some(pending) = pending {
            row("mynah_relay_pending", "gauge", "Uploads that wait for a run.", &pending.count());
            let age = pending.since.map_or(0, |(first, _)| (Instant::now() - first).as_secs());
            row("mynah_relay_pending_seconds", "gauge", "How long the first of them has waited.", &age);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_one_finite_number() {
        let figures = Figures::default();
        figures.uploads.add(3);
        figures.troubled(true);
        let pending = Pending { taken: 3, handed: 1, asked: None, since: None };
        let text = figures.text(Some(&pending));
        assert!(
            text.contains("\nmynah_relay_uploads_total 3\n") && text.contains("\nmynah_relay_problem 1\n")
        );
        assert!(text.contains("\nmynah_relay_pending 2\n") && text.contains("\nmynah_relay_standby 0\n"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.split_once(' ').unwrap();
            assert!(value.parse::<f64>().unwrap().is_finite(), "{line}");
            assert_eq!(text.matches(&format!("# TYPE {name} ")).count(), 1);
        }
        assert!(figures.text(None).contains("\nmynah_relay_standby 1\n"));
    }
}
