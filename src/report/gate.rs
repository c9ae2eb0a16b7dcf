//! Gates: what a training must reach for its step to succeed.

use mynah_contracts::{Evaluation, Training};

use super::confusions::most_confused;

/// How many confused pairs a failure names.
const PAIRS_TOLD: usize = 3;

/// A least accuracy that was asked for, and what was measured.
#[derive(Clone, PartialEq, Debug)]
pub struct Gate {
    /// Which photos the accuracy was measured on.
    pub on: MeasuredOn,
    /// The least accuracy asked for, 0 to 1.
    pub required: f64,
    /// The accuracy measured, 0 to 1.
    pub measured: f64,
}

/// Which photos a gate looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MeasuredOn {
    /// [`Training::cross_validation`].
    CrossValidation,
    /// [`Training::holdout`].
    Holdout,
}

/// The gates of `--min-accuracy`: one on the cross-validation, and one on the holdout where there is one. None
/// where nothing was asked.
pub fn accuracy(training: &Training, required: Option<f64>) -> Vec<Gate> {
    let Some(required) = required else { return Vec::new() };
    let gate = |on, evaluation: &Evaluation| Gate { on, required, measured: evaluation.summary.accuracy };
    let mut gates = vec![gate(MeasuredOn::CrossValidation, &training.cross_validation)];
    gates.extend(training.holdout.as_ref().map(|holdout| gate(MeasuredOn::Holdout, holdout)));
    gates
}

impl Gate {
    /// What the gate asks, such as `accuracy is at least 0.90`.
    pub fn name(&self) -> String {
        let required = self.required_text();
        match self.on {
            MeasuredOn::CrossValidation => format!("accuracy is at least {required}"),
            MeasuredOn::Holdout => format!("accuracy on the holdout is at least {required}"),
        }
    }

    /// Whether it was reached. An accuracy that is not a number reaches nothing.
    pub fn passed(&self) -> bool {
        self.measured >= self.required
    }

    /// What was asked, with at least two decimals.
    pub(super) fn required_text(&self) -> String {
        let shortest = self.required.to_string();
        let decimals = shortest.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        if decimals < 2 { format!("{:.2}", self.required) } else { shortest }
    }

    /// What was measured, with four decimals, or more where four would read as if the other side had won.
    pub(super) fn measured_text(&self) -> String {
        (4..=17)
            .map(|decimals| format!("{:.decimals$}", self.measured))
            .find(|text| text.parse().is_ok_and(|shown: f64| (shown >= self.required) == self.passed()))
            .unwrap_or_else(|| self.measured.to_string())
    }

    /// Why it failed, as one sentence: what was measured and which labels confuse. [`None`] where it passed.
    pub fn failure(&self, training: &Training) -> Option<String> {
        if self.passed() {
            return None;
        }
        let (evaluation, place) = match self.on {
            MeasuredOn::CrossValidation => (Some(&training.cross_validation), ""),
            MeasuredOn::Holdout => (training.holdout.as_ref(), " on the holdout"),
        };
        let mut sentence = format!(
            "accuracy{place} is {}, at least {} was asked",
            self.measured_text(),
            self.required_text()
        );
        let pairs: Vec<String> = evaluation
            .map(|evaluation| most_confused(evaluation, &training.labels))
            .unwrap_or_default()
            .iter()
            .take(PAIRS_TOLD)
            .map(ToString::to_string)
            .collect();
        if !pairs.is_empty() {
            sentence.push_str("; most confused: ");
            sentence.push_str(&pairs.join(", "));
        }
        Some(sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn gate(required: f64, measured: f64) -> Gate {
        Gate { on: MeasuredOn::CrossValidation, required, measured }
    }

    #[test]
    fn a_gate_is_reached_at_its_very_number() {
        // What cross-validation computes and what someone types are the same double.
        assert!(gate(0.9, 540.0 / 600.0).passed());
        assert!(!gate(0.9, 539.0 / 600.0).passed());
        assert!(!gate(0.0, f64::NAN).passed());
    }

    #[test]
    fn numbers_read_as_they_compare() {
        assert_eq!(gate(0.9, 0.5).name(), "accuracy is at least 0.90");
        assert_eq!(gate(1.0, 0.5).name(), "accuracy is at least 1.00");
        assert_eq!(gate(0.925, 0.5).name(), "accuracy is at least 0.925");
        assert_eq!(gate(0.9, 0.913_333).measured_text(), "0.9133");
        assert_eq!(gate(0.9, 0.899_999).measured_text(), "0.899999");
        assert_eq!(gate(0.9, f64::NAN).measured_text(), "NaN");
    }

    #[test]
    fn nothing_asked_no_gate_and_a_holdout_is_gated_too() {
        let mut training = fixture::six_labels().training;
        assert!(accuracy(&training, None).is_empty());
        assert_eq!(accuracy(&training, Some(0.5)).len(), 1);
        training.holdout = Some(training.cross_validation.clone());
        let gates = accuracy(&training, Some(0.5));
        assert_eq!(gates[1].name(), "accuracy on the holdout is at least 0.50");
        assert!(gates.iter().all(Gate::passed));
    }

    #[test]
    fn a_failure_says_what_was_measured_and_which_labels_confuse() {
        let labels = fixture::labels(&["ant", "bee"]);
        let training = fixture::training(&labels, &[vec![8, 2], vec![0, 10]]);
        let [gate] = &accuracy(&training, Some(0.95))[..] else { panic!("one gate") };
        assert_eq!(
            gate.failure(&training).unwrap(),
            "accuracy is 0.9000, at least 0.95 was asked; most confused: `ant` taken for `bee` (2 of 10)"
        );
        let [gate] = &accuracy(&training, Some(0.9))[..] else { panic!("one gate") };
        assert_eq!(gate.failure(&training), None);
    }
}
