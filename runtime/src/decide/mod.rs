//! From probabilities, frame by frame, to the words that are said. Pure: no clock, no I/O, no model.
//!
//! A frame shows a label when its best probability reaches the threshold; otherwise it shows nothing known.
//! A label is steady when it was shown by enough of the last frames. A steady label is said once, and again
//! only after it has left, or after the cool-down where there is one. "Unknown" is never said.

//!
//! Before that, probabilities may be smoothed over frames, and a picture that did not change may be passed over
//! ([`MotionGate`]). A label may have a threshold of its own, may be the name of nothing ([`Role::Negative`]), or
//! may clear what is in view ([`Role::Reset`]).

mod motion;
#[cfg(test)]
mod properties;
mod rules;

use std::collections::VecDeque;
use std::time::Duration;

pub use motion::MotionGate;
pub use rules::{LabelRule, Role, Rules, RulesError};

/// Over which time words are counted.
const MINUTE: Duration = Duration::from_mins(1);

/// What one frame showed and what follows from it. Labels are positions in the model's list of labels.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Decision {
    /// The most probable label; the first of equals.
    pub best: usize,
    /// Its probability, smoothed, 0 to 1.
    pub probability: f32,
    /// The label this frame shows; `None` = unknown, or a negative label.
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
    /// The probabilities of the frames before, smoothed.
    smoothed: Vec<f32>,
    /// When words were said within the last minute, the newest at the back.
    said: VecDeque<Duration>,
}

impl Decider {
    /// Nothing seen yet.
    ///
    /// # Errors
    /// The rules are out of range.
    pub fn new(rules: Rules) -> Result<Self, RulesError> {
        rules.check()?;
        Ok(Self {
            recent: VecDeque::with_capacity(rules.window),
            rules,
            in_view: Vec::new(),
            steady: None,
            smoothed: Vec::new(),
            said: VecDeque::new(),
        })
    }

    /// Follows other rules from the next frame on; what is in view stays in view.
    ///
    /// # Errors
    /// The rules are out of range; the old ones stay.
    pub fn follow(&mut self, rules: Rules) -> Result<(), RulesError> {
        rules.check()?;
        while self.recent.len() > rules.window {
            self.recent.pop_front();
        }
        self.rules = rules;
        Ok(())
    }

    /// Takes the next frame's probabilities, one per label in the model's order. `at` is the time since any fixed
    /// moment; it counts for the limits on how often something is said, and never goes back.
    ///
    /// Numbers that are no probabilities (NaN) are never the best; where there is no other, the frame shows
    /// nothing known.
    pub fn look(&mut self, at: Duration, probabilities: &[f32]) -> Decision {
        self.smooth(probabilities);
        let (best, probability, second) = best_of(&self.smoothed);
        let in_view = self.steady == Some(best);
        let clear = in_view || probability - second >= self.rules.margin;
        let shown = !probabilities.is_empty() && probability >= self.rules.needed(best, in_view) && clear;
        let seen = (shown && self.rules.role(best) != Role::Negative).then_some(best);

        if self.recent.len() >= self.rules.window {
            self.recent.pop_front();
        }
        self.recent.push_back(seen);
        self.pass_time(seen);

        let winner =
            seen.filter(|_| self.recent.iter().filter(|&&shown| shown == seen).count() >= self.rules.votes);
        if winner.is_some() {
            self.steady = winner;
        }
        if winner.is_some_and(|label| self.rules.role(label) == Role::Reset) {
            self.in_view.clear();
        }
        let say = winner.filter(|&label| {
            self.rules.role(label) == Role::Word && self.may_say(label) && self.may_speak(at)
        });
        if let Some(label) = say {
            self.in_view.retain(|view| view.label != label);
            self.in_view.push(InView { label, since_said: 0, unseen: 0 });
            self.said.push_back(at);
        }
        Decision { best, probability, seen, say }
    }

    /// Mixes the frame into the frames before. A change in how many labels there are begins anew.
    fn smooth(&mut self, probabilities: &[f32]) {
        let past = self.rules.smoothing;
        if past <= 0.0 || self.smoothed.len() != probabilities.len() {
            self.smoothed.clear();
            self.smoothed.extend_from_slice(probabilities);
            return;
        }
        for (mean, &now) in self.smoothed.iter_mut().zip(probabilities) {
            // One number that is none must not stay for ever.
            *mean = if mean.is_finite() { past * *mean + (1.0 - past) * now } else { now };
        }
    }

    /// Whether the limits on how often anything is said allow a word now. A word that waits is said as soon as
    /// they do, if what it names is still in view.
    fn may_speak(&mut self, at: Duration) -> bool {
        while self.said.front().is_some_and(|&said| at.saturating_sub(said) >= MINUTE) {
            self.said.pop_front();
        }
        let limit = self.rules.words_per_minute;
        let rested = self.said.back().is_none_or(|&last| at.saturating_sub(last) >= self.rules.pause);
        rested && (limit == 0 || self.said.len() < limit)
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
            && seen != Some(steady)
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

/// The position and value of the largest number, the first of equals, and the second largest value; `0.0` for
/// what is not there.
fn best_of(probabilities: &[f32]) -> (usize, f32, f32) {
    let (mut best, mut second) = ((0, f32::NEG_INFINITY), f32::NEG_INFINITY);
    for (label, &probability) in probabilities.iter().enumerate() {
        if probability > best.1 {
            second = best.1;
            best = (label, probability);
        } else if probability > second {
            second = probability;
        }
    }
    let finite = |value: f32| if value.is_finite() { value } else { 0.0 };
    if best.1.is_finite() { (best.0, best.1, finite(second)) } else { (0, 0.0, 0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        threshold: 0.8,
        threshold_exit: 0.6,
        margin: 0.0,
        smoothing: 0.0,
        votes: 3,
        window: 5,
        leave_frames: 3,
        cooldown_frames: 0,
        pause: Duration::ZERO,
        words_per_minute: 0,
        labels: Vec::new(),
    };

    /// Says each frame's word, a frame a second: `a` and `b` are sure, `A` is an `a` between the thresholds, `.` is unknown.
    fn said(rules: Rules, frames: &str) -> String {
        let mut decider = Decider::new(rules).unwrap();
        frames
            .chars()
            .zip(0..)
            .map(|(frame, second)| {
                let probabilities = match frame {
                    'a' => [0.9, 0.1],
                    'A' => [0.7, 0.3],
                    'b' => [0.1, 0.9],
                    _ => [0.5, 0.5],
                };
                match decider.look(Duration::from_secs(second), &probabilities).say {
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
        assert_eq!(decider.look(Duration::ZERO, &[f32::NAN, 0.4]).best, 1);
        let empty = decider.look(Duration::ZERO, &[]);
        assert_eq!((empty.seen, empty.say), (None, None));
        let decision = Decider::new(RULES).unwrap().look(Duration::ZERO, &[f32::NAN, f32::NAN]);
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
            (Rules { margin: -0.1, ..RULES }, "margin is -0.1"),
            (Rules { smoothing: 1.0, ..RULES }, "smoothing is 1"),
            (Rules { words_per_minute: 601, ..RULES }, "601 words per minute"),
            (with(1, LabelRule { threshold: Some(2.0), role: Role::Word }), "threshold is 2"),
        ] {
            let error = Decider::new(rules).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    /// The rules with one label's own.
    fn with(label: usize, rule: LabelRule) -> Rules {
        let mut labels = vec![LabelRule::default(); 2];
        labels[label] = rule;
        Rules { labels, ..RULES }
    }

    #[test]
    fn a_label_may_have_its_own_threshold() {
        let own = |threshold| with(0, LabelRule { threshold: Some(threshold), role: Role::Word });
        assert_eq!(said(own(0.7), "AAAA"), "--a-");
        assert_eq!(said(own(0.95), "aaaabbb"), "------b");
        assert!((own(0.4).needed(0, true) - 0.3).abs() < 1e-6, "the exit keeps its ratio");
    }

    #[test]
    fn a_reset_label_is_silent_and_clears_what_is_in_view() {
        let hand = with(1, LabelRule { threshold: None, role: Role::Reset });
        let patient = Rules { leave_frames: 100, ..hand };
        assert_eq!(said(patient.clone(), "aaaaa...aaaaa"), "--a----------");
        assert_eq!(said(patient, "aaaaabbbaaaaa"), "--a-------a--");
    }

    #[test]
    fn a_negative_label_is_nothing_known() {
        let none = with(1, LabelRule { threshold: None, role: Role::Negative });
        assert_eq!(said(none.clone(), "bbbbbb"), "------");
        assert_eq!(said(none.clone(), "aaabbbaaa"), "--a-----a");
        assert_eq!(Decider::new(none).unwrap().look(Duration::ZERO, &[0.1, 0.9]).seen, None);
    }

    #[test]
    fn two_that_are_nearly_equal_are_not_seen_but_one_in_view_stays() {
        let rules = Rules { threshold: 0.3, threshold_exit: 0.2, margin: 0.3, ..RULES };
        assert_eq!(said(rules.clone(), "......"), "------");
        assert_eq!(said(rules, "aaa......aaa"), "--a---------");
    }

    #[test]
    fn smoothing_waits_out_a_wrong_frame() {
        let quick = Rules { votes: 1, window: 1, leave_frames: 1, ..RULES };
        assert_eq!(said(quick.clone(), "aaaabaaa"), "a---ba--");
        assert_eq!(said(Rules { smoothing: 0.8, ..quick }, "aaaabaaa"), "a-------");
    }

    #[test]
    fn words_keep_their_distance_and_their_number() {
        let quick = Rules { votes: 1, window: 1, leave_frames: 1, ..RULES };
        let paused = Rules { pause: Duration::from_secs(3), ..quick.clone() };
        assert_eq!(said(paused, "abababab"), "a--b--a-");
        let counted = Rules { words_per_minute: 2, ..quick };
        let frames = "ab".repeat(40);
        assert_eq!(said(counted, &frames).matches(['a', 'b']).count(), 4, "two in each of two minutes");
    }

    #[test]
    fn other_rules_hold_from_the_next_frame_on() {
        let mut decider = Decider::new(RULES).unwrap();
        let look = |decider: &mut Decider| decider.look(Duration::ZERO, &[0.9, 0.1]).say;
        assert_eq!(look(&mut decider), None);
        decider.follow(Rules { votes: 2, window: 2, ..RULES }).unwrap();
        assert_eq!(look(&mut decider), Some(0));
        decider.follow(Rules { votes: 9, ..RULES }).unwrap_err();
        assert_eq!(look(&mut decider), None, "in view as before");
    }
}
