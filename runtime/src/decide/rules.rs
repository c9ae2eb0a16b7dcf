//! The rules a [`Decider`](super::Decider) follows, and what makes them contradict themselves.

use std::time::Duration;

/// How frames become words; every field is in the range its documentation states, see [`Rules::check`].
#[derive(Clone, PartialEq, Debug)]
pub struct Rules {
    /// The probability from which a frame shows a label, 0 to 1.
    pub threshold: f32,
    /// The probability from which a frame still shows the label that is in view, 0 to `threshold`.
    pub threshold_exit: f32,
    /// By how much the best probability must exceed the second for a label to come into view, 0 to 1.
    pub margin: f32,
    /// The weight of the frames before in the probabilities that are judged, 0 (none) to [`Rules::MAX_SMOOTHING`].
    pub smoothing: f32,
    /// How many frames of the window must show a label before it is steady, 1 to `window`.
    pub votes: usize,
    /// How many of the last frames are counted, 1 to [`Rules::MAX_WINDOW`].
    pub window: usize,
    /// How many frames in a row must show something else, or nothing known, before a label has left; at least 1.
    pub leave_frames: u64,
    /// A label that stays is said again after this many frames; 0 = never.
    pub cooldown_frames: u64,
    /// The least time between two words; 0 = any.
    pub pause: Duration,
    /// The most words within a minute; 0 = any number.
    pub words_per_minute: usize,
    /// What differs for single labels, by their position in the model's list; labels beyond its end are plain.
    pub labels: Vec<LabelRule>,
}

/// What differs for one label.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct LabelRule {
    /// Its threshold, 0 to 1; `None` = [`Rules::threshold`]. Its exit threshold keeps the rules' ratio to it.
    pub threshold: Option<f32>,
    /// What it is for.
    pub role: Role,
}

/// What a label is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    /// It is said.
    #[default]
    Word,
    /// It is never said. Once steady, everything in view counts as having left.
    Reset,
    /// It is the name of nothing: frames that show it show nothing known.
    Negative,
}

/// Why rules cannot be followed.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
pub enum RulesError {
    /// `threshold`, or a label's, is no probability.
    #[error("the threshold is {0}, 0 to 1 is allowed")]
    Threshold(f32),
    /// Leaving would be harder than entering.
    #[error("the exit threshold is {exit}, 0 to the threshold {threshold} is allowed")]
    ThresholdExit {
        /// As given.
        exit: f32,
        /// Its upper bound.
        threshold: f32,
    },
    /// `margin` is no difference of probabilities.
    #[error("the margin is {0}, 0 to 1 is allowed")]
    Margin(f32),
    /// The past would outweigh every present.
    #[error("the smoothing is {0}, 0 to {max} is allowed", max = Rules::MAX_SMOOTHING)]
    Smoothing(f32),
    /// No window, or one longer than anyone can wait for.
    #[error("the window is {0} frames, 1 to {max} are allowed", max = Rules::MAX_WINDOW)]
    Window(usize),
    /// More votes than the window has frames, or none.
    #[error("{votes} votes are asked of a window of {window} frames, 1 to {window} are allowed")]
    Votes {
        /// As given.
        votes: usize,
        /// The upper bound.
        window: usize,
    },
    /// A label would leave while it is in view.
    #[error("a label cannot leave after 0 frames, 1 or more are allowed")]
    LeaveFrames,
    /// More words than anyone can say.
    #[error("{0} words per minute are asked for, at most {max} are allowed", max = Rules::MAX_WORDS)]
    Words(usize),
}

impl Rules {
    /// The longest window, in frames.
    pub const MAX_WINDOW: usize = 1000;
    /// The largest weight of the past.
    pub const MAX_SMOOTHING: f32 = 0.99;
    /// The most words within a minute that can be asked for.
    pub const MAX_WORDS: usize = 600;

    /// Whether the fields are in range.
    ///
    /// # Errors
    /// Names the first that is not.
    pub fn check(&self) -> Result<(), RulesError> {
        let own = self.labels.iter().filter_map(|label| label.threshold);
        if let Some(threshold) =
            std::iter::once(self.threshold).chain(own).find(|value| !(0.0..=1.0).contains(value))
        {
            return Err(RulesError::Threshold(threshold));
        }
        if !(0.0..=self.threshold).contains(&self.threshold_exit) {
            return Err(RulesError::ThresholdExit { exit: self.threshold_exit, threshold: self.threshold });
        }
        if !(0.0..=1.0).contains(&self.margin) {
            return Err(RulesError::Margin(self.margin));
        }
        if !(0.0..=Self::MAX_SMOOTHING).contains(&self.smoothing) {
            return Err(RulesError::Smoothing(self.smoothing));
        }
        if !(1..=Self::MAX_WINDOW).contains(&self.window) {
            return Err(RulesError::Window(self.window));
        }
        if !(1..=self.window).contains(&self.votes) {
            return Err(RulesError::Votes { votes: self.votes, window: self.window });
        }
        if self.leave_frames == 0 {
            return Err(RulesError::LeaveFrames);
        }
        if self.words_per_minute > Self::MAX_WORDS {
            return Err(RulesError::Words(self.words_per_minute));
        }
        Ok(())
    }

    /// What the label at this position is for.
    pub fn role(&self, label: usize) -> Role {
        self.labels.get(label).map_or(Role::Word, |label| label.role)
    }

    /// The probability from which a frame shows the label: the lower one where it is in view already.
    pub fn needed(&self, label: usize, in_view: bool) -> f32 {
        let own = self.labels.get(label).and_then(|label| label.threshold);
        match (own, in_view) {
            (None, false) => self.threshold,
            (None, true) => self.threshold_exit,
            (Some(own), true) if self.threshold > 0.0 => own * self.threshold_exit / self.threshold,
            (Some(own), _) => own,
        }
    }
}
