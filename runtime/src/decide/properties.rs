//! What holds of every decision, whatever the rules and the frames.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const PLAIN: Rules = Rules {
    threshold: 0.8,
    threshold_exit: 0.6,
    margin: 0.0,
    smoothing: 0.0,
    votes: 1,
    window: 1,
    leave_frames: 1,
    cooldown_frames: 0,
    pause: Duration::ZERO,
    words_per_minute: 0,
    labels: Vec::new(),
};

/// After every frame of a test.
const LATER: Duration = Duration::from_hours(1);

/// Four frames a second.
fn at(number: usize) -> Duration {
    Duration::from_millis(250 * number as u64)
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
                ..PLAIN
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

/// Rules that use everything.
fn full_rules() -> impl Strategy<Value = Rules> {
    let label = (
        prop::option::of(0.3f32..1.0),
        prop_oneof![Just(Role::Word), Just(Role::Reset), Just(Role::Negative)],
    )
        .prop_map(|(threshold, role)| LabelRule { threshold, role });
    let limits = (0.0f32..0.5, 0.0f32..0.9, 0u64..3000, 0usize..5);
    (rules(), limits, prop::collection::vec(label, 0..4)).prop_map(
        |(rules, (margin, smoothing, pause, words_per_minute), labels)| Rules {
            margin,
            smoothing,
            pause: Duration::from_millis(pause),
            words_per_minute,
            labels,
            ..rules
        },
    )
}

proptest! {
    #[test]
    fn words_keep_their_limits_and_only_words_are_said(rules in full_rules(), frames in frames()) {
        let mut decider = Decider::new(rules.clone()).unwrap();
        let mut said: Vec<Duration> = Vec::new();
        for (number, frame) in frames.iter().enumerate() {
            let now = at(number);
            let decision = decider.look(now, frame);
            if let Some(seen) = decision.seen {
                prop_assert!(rules.role(seen) != Role::Negative);
            }
            let Some(label) = decision.say else { continue };
            prop_assert_eq!(rules.role(label), Role::Word);
            if let Some(last) = said.last() {
                prop_assert!(now.saturating_sub(*last) >= rules.pause);
            }
            said.push(now);
            let within = said.iter().filter(|&&at| now.saturating_sub(at) < MINUTE).count();
            prop_assert!(rules.words_per_minute == 0 || within <= rules.words_per_minute);
        }
    }

    #[test]
    fn what_is_said_was_seen_now_and_won_the_window(rules in rules(), frames in frames()) {
        let mut decider = Decider::new(rules.clone()).unwrap();
        let mut history = Vec::new();
        for (number, frame) in frames.iter().enumerate() {
            let decision = decider.look(at(number), frame);
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
        let mut decider = Decider::new(rules.clone()).unwrap();
        for (number, frame) in frames.iter().enumerate() {
            let decision = decider.look(at(number), frame);
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
        let mut decider = Decider::new(rules.clone()).unwrap();
        let mut history: Vec<Decision> = Vec::new();
        for (number, frame) in frames.iter().enumerate() {
            let decision = decider.look(at(number), frame);
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
        let mut decider = Decider::new(rules.clone()).unwrap();
        for (number, frame) in frames.iter().enumerate() {
            decider.look(at(number), frame);
        }
        // Whatever came before: once everything has left, a full window of one label must be heard.
        for _ in 0..rules.leave_frames.max(rules.window as u64) {
            decider.look(LATER, &[-1.0; 3]);
        }
        let mut sure = [0.0; 3];
        sure[label] = 1.0;
        let heard: Vec<_> = (0..rules.votes).filter_map(|_| decider.look(LATER, &sure).say).collect();
        prop_assert_eq!(heard, vec![label]);
    }
}
