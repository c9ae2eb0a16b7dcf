//! Frames at even intervals, for sources that could be faster.

use std::rc::Rc;
use std::time::Duration;

use super::rhythm::MISSED;
use crate::clock::Clock;

/// How long is waited at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// When the next frame is due.
pub(super) struct Pace {
    clock: Rc<dyn Clock>,
    interval: Duration,
    due: Duration,
}

impl Pace {
    /// `fps` frames per second, the first at once.
    pub(super) fn new(fps: f32, clock: Rc<dyn Clock>) -> Self {
        Self { interval: Duration::from_secs_f32(1.0 / fps.max(0.001)), due: clock.uptime(), clock }
    }

    /// Waits until the next frame is due, or a while: the device has other things to look at. Whether it is due; then
    /// the one after it is awaited. A device that is too slow is not made to catch up.
    pub(super) fn is_due(&mut self) -> bool {
        let now = self.clock.uptime();
        let early = self.due.saturating_sub(now);
        self.clock.pause(early.min(LONGEST_PAUSE));
        if early > LONGEST_PAUSE {
            return false;
        }
        self.due = self.due.max(now) + self.interval;
        true
    }

    /// How long nothing may come at this pace.
    pub(super) fn silence(&self) -> Duration {
        self.interval * MISSED
    }
}
