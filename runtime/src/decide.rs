//! From probabilities, frame by frame, to the words that are said. Pure: no clock, no I/O, no model.
//!
//! A frame shows a label when its best probability reaches the threshold; otherwise it shows nothing known.
//! A label is steady when it was shown by enough of the last frames. A steady label is said once, and again
//! only after it has left, or after the cool-down where there is one. "Unknown" is never said.

use std::collections::VecDeque;

/// How frames become words; every field is in the range its documentation states, see [`Rules::check`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rules {
    /// The probability from which a frame shows a label, 0 to 1.
    pub threshold: f32,
    /// The probability from which a frame still shows the label that is in view, 0 to `threshold`.
    pub threshold_exit: f32,
    /// How many frames of the window must show a label before it is steady, 1 to `window`.
    pub votes: usize,
    /// How many of the last frames are counted, 1 to [`Rules::MAX_WINDOW`].
    pub window: usize,
    /// How many frames in a row must show something else, or nothing known, before a label has left; at least 1.
    pub leave_frames: u64,
    /// A label that stays is said again after this many frames; 0 = never.
    pub cooldown_frames: u64,
}

/// Why rules cannot be followed.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
pub enum RulesError {
    /// `threshold` is no probability.
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
}

impl Rules {
    /// The longest window, in frames.
    pub const MAX_WINDOW: usize = 1000;

    /// Whether the fields are in range.
    ///
    /// # Errors
    /// Names the first that is not.
    pub fn check(&self) -> Result<(), RulesError> {
        if !(0.0..=1.0).contains(&self.threshold) {
            return Err(RulesError::Threshold(self.threshold));
        }
        if !(0.0..=self.threshold).contains(&self.threshold_exit) {
            return Err(RulesError::ThresholdExit { exit: self.threshold_exit, threshold: self.threshold });
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
        Ok(())
    }
}

/// What one frame showed and what follows from it. Labels are positions in the model's list of labels.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Decision {
    /// The most probable label; the first of equals.
    pub best: usize,
    /// Its probability, 0 to 1.
    pub probability: f32,
    /// The label this frame shows; `None` = unknown.
    pub seen: Option<usize>,
    /// The label to say now.
    pub say: Option<usize>,
}

/// What is remembered of a label that has been said and has not left.
#[derive(Clone, Copy, Debug)]
struct InView {
    label: usize,
    /// Frames since it was said.
    since_said: u64,
    /// Frames in a row that did not show it.
    unseen: u64,
}

/// The memory between frames.
#[derive(Clone, Debug)]
pub struct Decider {
    rules: Rules,
    /// What the last frames showed, the newest at the back; at most `rules.window`.
    recent: VecDeque<Option<usize>>,
    /// Labels said that have not left; at most one entry per label.
    in_view: Vec<InView>,
    /// The label that was steady last and has not left: its exit threshold applies.
    steady: Option<usize>,
}

impl Decider {
    /// Nothing seen yet.
    ///
    /// # Errors
    /// The rules are out of range.
    pub fn new(rules: Rules) -> Result<Self, RulesError> {
        rules.check()?;
        Ok(Self { rules, recent: VecDeque::with_capacity(rules.window), in_view: Vec::new(), steady: None })
    }

    /// Takes the next frame's probabilities, one per label in the model's order.
    ///
    /// Numbers that are no probabilities (NaN) are never the best; where there is no other, the frame shows
    /// nothing known.
    pub fn look(&mut self, probabilities: &[f32]) -> Decision {
        let (best, probability) = best_of(probabilities);
        let needed = if self.steady == Some(best) { self.rules.threshold_exit } else { self.rules.threshold };
        let seen = (!probabilities.is_empty() && probability >= needed).then_some(best);

        if self.recent.len() == self.rules.window {
            self.recent.pop_front();
        }
        self.recent.push_back(seen);
        self.pass_time(seen);

        let winner =
            seen.filter(|_| self.recent.iter().filter(|&&shown| shown == seen).count() >= self.rules.votes);
        if winner.is_some() {
            self.steady = winner;
        }
        let say = winner.filter(|&label| self.may_say(label));
        if let Some(label) = say {
            self.in_view.retain(|view| view.label != label);
            self.in_view.push(InView { label, since_said: 0, unseen: 0 });
        }
        Decision { best, probability, seen, say }
    }

    /// Ages what is remembered by one frame and forgets the labels that have left.
    fn pass_time(&mut self, seen: Option<usize>) {
        let leave = self.rules.leave_frames;
        for view in &mut self.in_view {
            view.since_said += 1;
            view.unseen = if seen == Some(view.label) { 0 } else { view.unseen + 1 };
        }
        self.in_view.retain(|view| view.unseen < leave);
        if let Some(steady) = self.steady
            && !self.in_view.iter().any(|view| view.label == steady)
        {
            self.steady = None;
        }
    }

    fn may_say(&self, label: usize) -> bool {
        let cooldown = self.rules.cooldown_frames;
        self.in_view
            .iter()
            .find(|view| view.label == label)
            .is_none_or(|view| cooldown > 0 && view.since_said >= cooldown)
    }
}

/// The position and value of the largest number; the first of equals; `(0, 0.0)` where there is none.
fn best_of(probabilities: &[f32]) -> (usize, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (label, &probability) in probabilities.iter().enumerate() {
        if probability > best.1 {
            best = (label, probability);
        }
    }
    if best.1.is_finite() { best } else { (0, 0.0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules {
        threshold: 0.8,
        threshold_exit: 0.6,
        votes: 3,
        window: 5,
        leave_frames: 3,
        cooldown_frames: 0,
    };

    /// Says each frame's word: `a` and `b` are sure, `A` is an `a` between the thresholds, `.` is unknown.
    fn said(rules: Rules, frames: &str) -> String {
        let mut decider = Decider::new(rules).unwrap();
        frames
            .chars()
            .map(|frame| {
                let probabilities = match frame {
                    'a' => [0.9, 0.1],
                    'A' => [0.7, 0.3],
                    'b' => [0.1, 0.9],
                    _ => [0.5, 0.5],
                };
                match decider.look(&probabilities).say {
                    Some(0) => 'a',
                    Some(_) => 'b',
                    None => '-',
                }
            })
            .collect()
    }

    #[test]
    fn a_label_is_said_once_when_steady() {
        assert_eq!(said(RULES, "aaaaaaaa"), "--a-----");
    }

    #[test]
    fn unknown_is_silent() {
        assert_eq!(said(RULES, "........"), "--------");
    }

    #[test]
    fn a_label_that_left_is_said_again() {
        assert_eq!(said(RULES, "aaa...aaa"), "--a-----a");
        assert_eq!(said(RULES, "aaabbbaaa"), "--a--b--a");
    }

    #[test]
    fn a_flicker_is_not_leaving() {
        assert_eq!(said(RULES, "aaa..aaaa.aab.aa"), "--a-------------");
    }

    #[test]
    fn single_wrong_frames_are_outvoted() {
        assert_eq!(said(RULES, "aba.a"), "----a");
        assert_eq!(said(RULES, "aabaa"), "---a-");
    }

    #[test]
    fn between_the_thresholds_a_label_stays_but_does_not_come() {
        assert_eq!(said(RULES, "AAAAAA"), "------");
        assert_eq!(said(RULES, "aaaAAAAAAAaaa"), "--a----------");
        // It left while it was not shown: now the lower threshold holds no longer.
        assert_eq!(said(RULES, "aaa...AAAAAaaa"), "--a----------a");
    }

    #[test]
    fn a_cool_down_says_a_label_that_stays_again() {
        assert_eq!(said(Rules { cooldown_frames: 4, ..RULES }, "aaaaaaaaaaaa"), "--a---a---a-");
    }

    #[test]
    fn numbers_that_are_none_are_unknown() {
        let mut decider = Decider::new(Rules { threshold: 0.0, threshold_exit: 0.0, ..RULES }).unwrap();
        assert_eq!(decider.look(&[f32::NAN, 0.4]).best, 1);
        let empty = decider.look(&[]);
        assert_eq!((empty.seen, empty.say), (None, None));
        let decision = Decider::new(RULES).unwrap().look(&[f32::NAN, f32::NAN]);
        assert_eq!((decision.best, decision.probability, decision.seen), (0, 0.0, None));
    }

    #[test]
    fn rules_out_of_range_are_refused_by_name() {
        for (rules, says) in [
            (Rules { threshold: 1.5, ..RULES }, "threshold is 1.5"),
            (Rules { threshold: f32::NAN, ..RULES }, "threshold is NaN"),
            (Rules { threshold_exit: 0.9, ..RULES }, "exit threshold is 0.9, 0 to the threshold 0.8"),
            (Rules { window: 0, ..RULES }, "window is 0 frames"),
            (Rules { votes: 6, ..RULES }, "6 votes are asked of a window of 5"),
            (Rules { votes: 0, ..RULES }, "0 votes"),
            (Rules { leave_frames: 0, ..RULES }, "cannot leave after 0"),
        ] {
            let error = Decider::new(rules).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    fn rules() -> impl Strategy<Value = Rules> {
        (1usize..8, 0.3f32..1.0, 0.0f32..=1.0, 1u64..5, prop_oneof![Just(0u64), 1u64..12]).prop_flat_map(
            |(window, threshold, share, leave_frames, cooldown_frames)| {
                (1..=window).prop_map(move |votes| Rules {
                    threshold,
                    threshold_exit: threshold * share,
                    votes,
                    window,
                    leave_frames,
                    cooldown_frames,
                })
            },
        )
    }

    /// Runs of similar frames, so that labels become steady, flicker and leave.
    fn frames() -> impl Strategy<Value = Vec<[f32; 3]>> {
        let run = ([0.0f32..1.0, 0.0f32..1.0, 0.0f32..1.0], 0usize..4, 1usize..9).prop_map(
            |(noise, strong, length)| {
                let mut values = noise.map(|value| value * 0.4);
                if let Some(value) = values.get_mut(strong) {
                    *value = 0.5 + noise[0] / 2.0;
                }
                vec![values; length]
            },
        );
        prop::collection::vec(run, 0..25).prop_map(|runs| runs.concat())
    }

    proptest! {
        #[test]
        fn what_is_said_was_seen_now_and_won_the_window(rules in rules(), frames in frames()) {
            let mut decider = Decider::new(rules).unwrap();
            let mut history = Vec::new();
            for frame in &frames {
                let decision = decider.look(frame);
                history.push(decision.seen);
                if let Some(label) = decision.say {
                    prop_assert_eq!(decision.seen, Some(label));
                    let window = &history[history.len().saturating_sub(rules.window)..];
                    let votes = window.iter().filter(|&&seen| seen == Some(label)).count();
                    prop_assert!(votes >= rules.votes);
                }
            }
        }

        #[test]
        fn nothing_below_its_thresholds_is_seen(rules in rules(), frames in frames()) {
            let mut decider = Decider::new(rules).unwrap();
            for frame in &frames {
                let decision = decider.look(frame);
                prop_assert!(frame.iter().all(|&value| value <= decision.probability));
                if let Some(label) = decision.seen {
                    prop_assert_eq!(label, decision.best);
                    prop_assert!(decision.probability >= rules.threshold_exit);
                } else {
                    prop_assert!(decision.probability < rules.threshold);
                    prop_assert_eq!(decision.say, None);
                }
            }
        }

        #[test]
        fn a_label_is_not_said_twice_without_leaving_or_cooling_down(rules in rules(), frames in frames()) {
            let mut decider = Decider::new(rules).unwrap();
            let mut history: Vec<Decision> = Vec::new();
            for frame in &frames {
                let decision = decider.look(frame);
                let earlier = decision.say.and_then(|label| {
                    history.iter().rposition(|past| past.say == Some(label)).map(|at| (label, at))
                });
                if let Some((label, at)) = earlier {
                    let since = &history[at + 1..];
                    let left = since
                        .chunk_by(|a, b| (a.seen == Some(label)) == (b.seen == Some(label)))
                        .any(|run| {
                            run.len() as u64 >= rules.leave_frames
                                && run.iter().all(|past| past.seen != Some(label))
                        });
                    let cooled = rules.cooldown_frames > 0 && since.len() as u64 + 1 >= rules.cooldown_frames;
                    prop_assert!(left || cooled);
                }
                history.push(decision);
            }
        }

        #[test]
        fn a_label_seen_long_enough_is_said(rules in rules(), frames in frames(), label in 0usize..3) {
            let mut decider = Decider::new(rules).unwrap();
            for frame in &frames {
                decider.look(frame);
            }
            // Whatever came before: once everything has left, a full window of one label must be heard.
            for _ in 0..rules.leave_frames.max(rules.window as u64) {
                decider.look(&[0.0, 0.0, 0.0].map(|_: f32| -1.0));
            }
            let mut sure = [0.0; 3];
            sure[label] = 1.0;
            let heard: Vec<_> = (0..rules.votes).filter_map(|_| decider.look(&sure).say).collect();
            prop_assert_eq!(heard, vec![label]);
        }
    }
}
