//! Time, as one thing that can be replaced: pacing and reports are tested without waiting.

use std::time::{Duration, Instant};

use crate::stop::Stop;

/// A difference this small is a clock that is kept true, not one that is set.
const SET: jiff::SignedDuration = jiff::SignedDuration::from_secs(5);

/// The time of day, the time since the start, and waiting.
pub trait Clock {
    /// The time of day; it may jump.
    fn timestamp(&self) -> jiff::Timestamp;

    /// The time since the start; it never jumps.
    fn uptime(&self) -> Duration;

    /// Waits for `length`, or less if the device is asked to stop.
    fn pause(&self, length: Duration);
}

/// The time of day as artifacts hold it: RFC 3339, UTC, milliseconds.
pub(crate) fn rfc3339(timestamp: jiff::Timestamp) -> String {
    format!("{timestamp:.3}")
}

/// The machine's own time.
#[derive(Clone, Debug)]
pub struct SystemClock {
    started: Instant,
    stop: Stop,
}

impl SystemClock {
    /// Starts now; `stop` ends a pause.
    pub fn new(stop: Stop) -> Self {
        Self { started: Instant::now(), stop }
    }
}

impl Clock for SystemClock {
    fn timestamp(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn pause(&self, length: Duration) {
        self.stop.wait(length);
    }
}

/// Notices when the time of day is set: a machine without a clock of its own learns it from the network, long after
/// its start.
#[derive(Debug)]
pub(crate) struct TimeSetting {
    /// The time of day at the start, in milliseconds since 1970, as it was believed at the last look.
    started: i64,
}

impl TimeSetting {
    /// The time of day and the time since the start belong to one moment.
    pub(crate) fn new(timestamp: jiff::Timestamp, uptime: Duration) -> Self {
        Self { started: start(timestamp, uptime) }
    }

    /// By how much the time of day was set since the last look; `None` = it was not, but for what keeps a clock true.
    pub(crate) fn look(
        &mut self,
        timestamp: jiff::Timestamp,
        uptime: Duration,
    ) -> Option<jiff::SignedDuration> {
        let now = start(timestamp, uptime);
        let by = jiff::SignedDuration::from_millis(now.saturating_sub(self.started));
        self.started = now;
        (by.abs() >= SET).then_some(by)
    }
}

fn start(timestamp: jiff::Timestamp, uptime: Duration) -> i64 {
    timestamp.as_millisecond().saturating_sub(i64::try_from(uptime.as_millis()).unwrap_or(i64::MAX))
}

/// A clock that moves only when told to, or when someone pauses.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct ManualClock {
    uptime: std::cell::Cell<Duration>,
    /// When the time of day is set, and by how much.
    set: Vec<(Duration, jiff::SignedDuration)>,
}

#[cfg(test)]
impl ManualClock {
    /// One whose time of day is set at these times since the start.
    pub(crate) fn set_at(set: &[(Duration, jiff::SignedDuration)]) -> Self {
        Self { uptime: std::cell::Cell::default(), set: set.to_vec() }
    }

    pub(crate) fn advance(&self, length: Duration) {
        self.uptime.set(self.uptime.get() + length);
    }
}

#[cfg(test)]
impl Clock for ManualClock {
    fn timestamp(&self) -> jiff::Timestamp {
        let time = jiff::Timestamp::UNIX_EPOCH + self.uptime();
        self.set.iter().filter(|(at, _)| *at <= self.uptime()).fold(time, |time, (_, by)| time + *by)
    }

    fn uptime(&self) -> Duration {
        self.uptime.get()
    }

    fn pause(&self, length: Duration) {
        self.advance(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_to_the_millisecond() {
        let clock = ManualClock::default();
        clock.pause(Duration::from_micros(1_234_567));
        assert_eq!(rfc3339(clock.timestamp()), "1970-01-01T00:00:01.234Z");
    }

    #[test]
    fn a_time_of_day_that_is_set_is_noticed_once() {
        let months = jiff::SignedDuration::from_hours(24 * 240);
        let second = Duration::from_secs;
        let clock = ManualClock::set_at(&[
            (second(10), months),
            (second(20), -months * 2),
            (second(30), jiff::SignedDuration::from_secs(1)),
        ]);
        let mut setting = TimeSetting::new(clock.timestamp(), clock.uptime());
        let mut noticed = Vec::new();
        for at in 0..40 {
            noticed.extend(setting.look(clock.timestamp(), clock.uptime()).map(|by| (at, by)));
            clock.advance(second(1));
        }
        assert_eq!(noticed, [(10, months), (20, -months * 2)]);
    }
}
