//! The settings of decisions, before the model is known.

use std::time::Duration;

use mynah_contracts::Label;

use super::SettingsError;
use super::values::{count, decimal, probability, seconds};
use super::{Given, labels};
use crate::decide::{LabelRule, Role, Rules, RulesError};

/// [`Rules`] before the model is known, whose card holds the default threshold and the labels.
#[derive(Clone, PartialEq, Debug)]
pub struct DecisionSettings {
    /// Probability; absent = the model card's.
    pub threshold: Option<f32>,
    /// Probability; absent = [`DecisionSettings::EXIT_SHARE`] of the threshold.
    pub threshold_exit: Option<f32>,
    /// Frames.
    pub votes: usize,
    /// Frames.
    pub window: usize,
    /// Frames.
    pub leave_frames: u64,
    /// Frames; 0 = never.
    pub cooldown_frames: u64,
    /// Probability.
    pub margin: f32,
    /// Share.
    pub smoothing: f32,
    /// Between two words.
    pub pause: Duration,
    /// Words; 0 = any number.
    pub words_per_minute: usize,
    /// Labels with a threshold of their own.
    pub label_thresholds: Vec<(Label, f32)>,
    /// Labels that clear what is in view.
    pub reset_labels: Vec<Label>,
    /// Labels that name nothing.
    pub negative_labels: Vec<Label>,
    /// The share of a picture that must change before it is judged; 0 = none.
    pub motion: f32,
}

impl DecisionSettings {
    /// The exit threshold as a share of the threshold, where it is not given: 0.6 for 0.8.
    pub const EXIT_SHARE: f32 = 0.75;

    pub(super) fn parse(given: &Given) -> Result<Self, SettingsError> {
        let window = given.required("window", |text| count(text, 1, Rules::MAX_WINDOW))?;
        let votes = given.required("votes", |text| count(text, 1, window))?;
        let threshold = given.optional("threshold", |text| probability(text, 1.0))?;
        let decision = Self {
            threshold,
            threshold_exit: given
                .optional("threshold-exit", |text| probability(text, threshold.unwrap_or(1.0)))?,
            votes,
            window,
            leave_frames: given.required("leave-frames", |text| count(text, 1, 100_000))?,
            cooldown_frames: given.required("cooldown-frames", |text| count(text, 0, 1_000_000))?,
            margin: given.required("margin", |text| probability(text, 1.0))?,
            smoothing: given.required("smoothing", |text| decimal(text, 0.0, Rules::MAX_SMOOTHING))?,
            pause: given.required("pause", |text| seconds(text, 3600.0))?,
            words_per_minute: given.required("words-per-minute", |text| count(text, 0, Rules::MAX_WORDS))?,
            label_thresholds: given.optional("label-thresholds", labels::thresholds)?.unwrap_or_default(),
            reset_labels: given.optional("reset-labels", labels::labels)?.unwrap_or_default(),
            negative_labels: given.optional("negative-labels", labels::labels)?.unwrap_or_default(),
            motion: given.required("motion", |text| decimal(text, 0.0, 1.0))?,
        };
        if let (Some(threshold), Some(exit)) = (decision.threshold, decision.threshold_exit)
            && exit > threshold
        {
            let source = RulesError::ThresholdExit { exit, threshold };
            return Err(SettingsError::Rules { source });
        }
        Ok(decision)
    }

    /// The rules for a model with these labels whose card says `reject_threshold`.
    ///
    /// # Errors
    /// The exit threshold lies above the threshold, or a label is named that the model does not have, or twice.
    pub fn rules(&self, labels: &[Label], reject_threshold: f32) -> Result<Rules, SettingsError> {
        let threshold = self.threshold.unwrap_or(reject_threshold);
        let rules = Rules {
            threshold,
            threshold_exit: self.threshold_exit.unwrap_or(threshold * Self::EXIT_SHARE),
            margin: self.margin,
            smoothing: self.smoothing,
            votes: self.votes,
            window: self.window,
            leave_frames: self.leave_frames,
            cooldown_frames: self.cooldown_frames,
            pause: self.pause,
            words_per_minute: self.words_per_minute,
            labels: self.label_rules(labels)?,
        };
        rules.check().map_err(|source| SettingsError::Rules { source })?;
        Ok(rules)
    }

    fn label_rules(&self, labels: &[Label]) -> Result<Vec<LabelRule>, SettingsError> {
        let mut rules = vec![LabelRule::default(); labels.len()];
        let position = |label: &Label, setting| {
            labels
                .iter()
                .position(|known| known == label)
                .ok_or_else(|| SettingsError::NoSuchLabel { setting, label: label.clone() })
        };
        for (label, threshold) in &self.label_thresholds {
            if let Some(rule) = rules.get_mut(position(label, "label-thresholds")?) {
                rule.threshold = Some(*threshold);
            }
        }
        let roles = [
            (&self.reset_labels, Role::Reset, "reset-labels"),
            (&self.negative_labels, Role::Negative, "negative-labels"),
        ];
        for (named, role, setting) in roles {
            for label in named {
                if let Some(rule) = rules.get_mut(position(label, setting)?) {
                    if rule.role != Role::Word {
                        return Err(SettingsError::TwoRoles { label: label.clone() });
                    }
                    rule.role = role;
                }
            }
        }
        Ok(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    #[test]
    fn the_models_threshold_holds_unless_one_is_given() {
        let settings = parse(&[("model", "m"), ("source", "dir:f")]).unwrap();
        let rules = settings.decision.rules(&[], 0.8).unwrap();
        assert!((rules.threshold - 0.8).abs() < 1e-6 && (rules.threshold_exit - 0.6).abs() < 1e-6);
        let given = parse(&[("model", "m"), ("source", "dir:f"), ("threshold", "0.5")]).unwrap();
        assert!((given.decision.rules(&[], 0.8).unwrap().threshold - 0.5).abs() < 1e-6);
    }

    #[test]
    fn the_exit_threshold_may_not_lie_above_the_models() {
        let settings = parse(&[("model", "m"), ("source", "dir:f"), ("threshold-exit", "0.7")]).unwrap();
        assert!(matches!(settings.decision.rules(&[], 0.6), Err(SettingsError::Rules { .. })));
    }

    #[test]
    fn labels_that_the_model_does_not_have_are_named() {
        let decision =
            |name, value| parse(&[("model", "m"), ("source", "dir:f"), (name, value)]).unwrap().decision;
        let labels = ["hand", "pear"].map(|label| label.parse().unwrap());
        let rules = decision("reset-labels", "hand").rules(&labels, 0.5).unwrap();
        assert_eq!((rules.role(0), rules.role(1)), (Role::Reset, Role::Word));
        for name in ["reset-labels", "negative-labels"] {
            let error = decision(name, "Hand").rules(&labels, 0.5).unwrap_err();
            assert!(error.to_string().contains(&format!("`{name}` names `Hand`")), "{error}");
        }
        assert!(decision("label-thresholds", "plum=0.5").rules(&labels, 0.5).is_err());
        let both =
            DecisionSettings { negative_labels: vec![labels[0].clone()], ..decision("reset-labels", "hand") };
        assert!(matches!(both.rules(&labels, 0.5), Err(SettingsError::TwoRoles { .. })));
    }
}
