//! Frames at even intervals, for sources that could be faster.

use std::rc::Rc;
use std::time::Duration;

use crate::clock::Clock;

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

    /// Waits until the next frame is due. A device that is too slow is not made to catch up.
    pub(super) fn wait(&mut self) {
        let now = self.clock.uptime();
        if let Some(early) = self.due.checked_sub(now) {
            self.clock.pause(early);
        }
        self.due = self.due.max(now) + self.interval;
    }
}
