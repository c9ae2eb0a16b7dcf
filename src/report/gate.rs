//! Gates: what a training must reach for its step to succeed.

use mynah_contracts::Training;

use super::confusions::most_confused;

/// How many confused pairs a failure names.
const PAIRS_TOLD: usize = 3;

/// A least accuracy that was asked for, and what was measured.
#[derive(Clone, PartialEq, Debug)]
pub struct Gate {
    /// What is asked, such as `accuracy is at least 0.90`.
    pub name: String,
    /// The least accuracy asked for, 0 to 1.
    pub required: f64,
    /// The cross-validated accuracy, 0 to 1.
    pub measured: f64,
    /// Whether it was reached. An accuracy that is not a number reaches nothing.
    pub passed: bool,
}

/// The gate of `--min-accuracy`, on the cross-validation; [`None`] where nothing was asked.
pub fn accuracy(training: &Training, required: Option<f64>) -> Option<Gate> {
    required.map(|required| Gate::accuracy(required, training.cross_validation.summary.accuracy))
}

impl Gate {
    fn accuracy(required: f64, measured: f64) -> Self {
        let name = format!("accuracy is at least {}", two_decimals(required));
        Self { name, required, measured, passed: measured >= required }
    }

    /// What was measured, with four decimals, or more where four would read as if the other side had won.
    pub(super) fn measured_text(&self) -> String {
        (4..=17)
            .map(|decimals| format!("{:.decimals$}", self.measured))
            .find(|text| text.parse().is_ok_and(|shown: f64| (shown >= self.required) == self.passed))
            .unwrap_or_else(|| self.measured.to_string())
    }

    /// Why it failed, as one sentence: what was measured and which labels confuse. [`None`] where it passed.
    pub fn failure(&self, training: &Training) -> Option<String> {
        if self.passed {
            return None;
        }
        let mut sentence = format!(
            "accuracy is {}, at least {} was asked",
            self.measured_text(),
            two_decimals(self.required)
        );
        let pairs: Vec<String> = most_confused(&training.cross_validation, &training.labels)
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

/// The number with as many decimals as it needs, but at least two.
fn two_decimals(number: f64) -> String {
    let shortest = number.to_string();
    let decimals = shortest.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    if decimals < 2 { format!("{number:.2}") } else { shortest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_gate_is_reached_at_its_very_number() {
        // What cross-validation computes and what someone types are the same double.
        assert!(Gate::accuracy(0.9, 540.0 / 600.0).passed);
        assert!(!Gate::accuracy(0.9, 539.0 / 600.0).passed);
        assert!(!Gate::accuracy(0.0, f64::NAN).passed);
    }

    #[test]
    fn numbers_read_as_they_compare() {
        assert_eq!(Gate::accuracy(0.9, 0.5).name, "accuracy is at least 0.90");
        assert_eq!(Gate::accuracy(1.0, 0.5).name, "accuracy is at least 1.00");
        assert_eq!(Gate::accuracy(0.925, 0.5).name, "accuracy is at least 0.925");
        assert_eq!(Gate::accuracy(0.9, 0.913_333).measured_text(), "0.9133");
        assert_eq!(Gate::accuracy(0.9, 0.899_999).measured_text(), "0.899999");
        assert_eq!(Gate::accuracy(0.9, f64::NAN).measured_text(), "NaN");
    }

    #[test]
    fn nothing_asked_no_gate() {
        let training = fixture::six_labels().training;
        assert!(accuracy(&training, None).is_none());
        assert!(accuracy(&training, Some(0.5)).is_some_and(|gate| gate.passed));
    }

    #[test]
    fn a_failure_says_what_was_measured_and_which_labels_confuse() {
        let labels = fixture::labels(&["ant", "bee"]);
        let training = fixture::training(&labels, &[vec![8, 2], vec![0, 10]]);
        let gate = accuracy(&training, Some(0.95)).unwrap();
        assert_eq!(
            gate.failure(&training).unwrap(),
            "accuracy is 0.9000, at least 0.95 was asked; most confused: `ant` taken for `bee` (2 of 10)"
        );
        let gate = accuracy(&training, Some(0.9)).unwrap();
        assert_eq!(gate.failure(&training), None);
    }
}
