//! How often frames come from a source, and so from when on its silence means something.

use std::time::Duration;

/// So many intervals without a frame are silence.
pub(super) const MISSED: u32 = 3;
/// The longest silence that is borne from a source that has not shown its interval: one frame a minute is found without
/// being told.
const SLOWEST: Duration = Duration::from_secs(90);

/// The time between a source's frames, as it promised or was seen.
#[derive(Debug)]
pub(super) struct Rhythm {
    /// The silence that is always borne.
    least: Duration,
    /// The silence that is borne at present.
    silence: Duration,
    /// The time between two frames, rather the longest of the last ones; zero = not known.
    interval: Duration,
    promised: bool,
    /// When the last frame came, since the source was opened.
    last: Option<Duration>,
}

impl Rhythm {
    /// A source of which nothing is known; a silence shorter than `least` never means anything.
    pub(super) fn new(least: Duration) -> Self {
        Self { least, silence: least, interval: Duration::ZERO, promised: false, last: None }
    }

    /// The source was opened, and promises a frame each `interval` if it promises anything.
    pub(super) fn opened(&mut self, interval: Option<Duration>) {
        self.last = None;
        self.promised = interval.is_some();
        if let Some(interval) = interval {
            self.silence = self.least.max(interval * MISSED);
        }
    }

    /// A frame came.
    pub(super) fn frame(&mut self, now: Duration) {
        if let Some(last) = self.last.replace(now) {
            // A pause is remembered for a while: one frame may be exposed far longer than the next.
            self.interval = now.saturating_sub(last).max(self.interval * 7 / 8);
            self.silence = self.least.max(self.interval * MISSED);
        }
    }

    /// How long nothing may come.
    pub(super) fn silence(&self) -> Duration {
        self.silence
    }

    /// That long nothing came. A source that never said how slow it is gets more time from now on.
    pub(super) fn was_silent(&mut self) {
        if !self.promised {
            self.silence = (self.silence * 2).min(SLOWEST).max(self.silence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_secs(5);

    fn seconds(rhythm: &Rhythm) -> u64 {
        rhythm.silence().as_secs()
    }

    #[test]
    fn a_fast_source_is_missed_as_soon_as_asked_for_and_a_slow_one_later() {
        let mut rhythm = Rhythm::new(LEAST);
        for frame in 0..100 {
            rhythm.frame(Duration::from_millis(8) * frame);
        }
        assert_eq!(seconds(&rhythm), 5);
        rhythm.frame(Duration::from_mins(1));
        assert!((170..=180).contains(&seconds(&rhythm)), "{rhythm:?}");
        for frame in 0..100 {
            rhythm.frame(Duration::from_mins(1) + Duration::from_millis(8) * frame);
        }
        assert_eq!(seconds(&rhythm), 5, "one pause is not remembered for ever");
    }

    #[test]
    fn what_a_source_promises_counts_before_its_first_frame() {
        let mut rhythm = Rhythm::new(LEAST);
        rhythm.opened(Some(Duration::from_mins(1)));
        assert_eq!(seconds(&rhythm), 180);
        rhythm.was_silent();
        assert_eq!(seconds(&rhythm), 180);
        rhythm.opened(Some(Duration::from_millis(33)));
        assert_eq!(seconds(&rhythm), 5);
    }

    #[test]
    fn a_source_that_says_nothing_gets_more_time_each_time_up_to_a_bound() {
        let mut rhythm = Rhythm::new(LEAST);
        let mut given = Vec::new();
        for _ in 0..7 {
            rhythm.opened(None);
            given.push(seconds(&rhythm));
            rhythm.was_silent();
        }
        assert_eq!(given, [5, 10, 20, 40, 80, 90, 90]);
        // The first frame says nothing of the time until the second.
        rhythm.frame(Duration::from_mins(1));
        assert_eq!(seconds(&rhythm), 90);
        let mut patient = Rhythm::new(Duration::from_mins(5));
        patient.was_silent();
        assert_eq!(seconds(&patient), 300, "nobody gets less than was asked for");
    }
}
