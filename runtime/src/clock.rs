//! Time, as one thing that can be replaced: pacing and reports are tested without waiting.

use std::time::{Duration, Instant};

use crate::stop::Stop;

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

/// A clock that moves only when told to, or when someone pauses.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct ManualClock(std::cell::Cell<Duration>);

#[cfg(test)]
impl ManualClock {
    pub(crate) fn advance(&self, length: Duration) {
        self.0.set(self.0.get() + length);
    }
}

#[cfg(test)]
impl Clock for ManualClock {
    fn timestamp(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH + self.uptime()
    }

    fn uptime(&self) -> Duration {
        self.0.get()
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
}
