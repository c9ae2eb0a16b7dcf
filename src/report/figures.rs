//! Numbers as people read them: the headline figures, shares, counts. One spelling for all formats.

use mynah_contracts::{Calibration, Evaluation};

/// One headline figure.
pub(super) struct Figure {
    /// What it is called.
    pub(super) name: &'static str,
    /// Its value, formatted.
    pub(super) value: String,
    /// The setting it was measured at, where it depends on one.
    pub(super) at: Option<String>,
    /// What it says, for a reader who does not know the term.
    pub(super) meaning: &'static str,
}

/// The figures that lead a report, in reading order.
pub(super) fn headline(evaluation: &Evaluation, calibration: Calibration) -> [Figure; 6] {
    let summary = &evaluation.summary;
    let threshold = decimal(f64::from(calibration.reject_threshold));
    let figure = |name, value, meaning| Figure { name, value, at: None, meaning };
    [
        figure("Accuracy", percent(summary.accuracy), "photos whose most probable label is the true one"),
        figure(
            "Macro F1",
            decimal(summary.macro_f1),
            "precision and recall together, every label counting the same; 1 is best",
        ),
        figure("Log loss", decimal(summary.log_loss), "how surprised the model was by the truth; 0 is best"),
        figure(
            "Calibration error",
            decimal(summary.calibration_error),
            "mean distance between stated probability and share that was right; 0 is best",
        ),
        Figure {
            name: "Coverage",
            value: percent(summary.coverage),
            at: Some(threshold.clone()),
            meaning: "photos it is sure of: their best probability reaches this reject threshold",
        },
        Figure {
            name: "Accuracy when sure",
            value: percent(summary.accuracy_when_sure),
            at: Some(threshold),
            meaning: "accuracy among those; below the threshold the device says nothing",
        },
    ]
}

/// How the photos of an evaluation were kept from the model that predicted them.
pub(super) fn basis(evaluation: &Evaluation) -> String {
    match evaluation.summary.folds {
        0 => "photos kept apart".into(),
        folds => format!("{folds}-fold cross-validation"),
    }
}

/// A share as a percentage with one decimal; what is not all never reads `100.0%`, what is not nothing never `0.0%`.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if !percent.is_finite() {
        "–".into()
    } else if share < 1.0 && percent >= 99.95 {
        ">99.9%".into()
    } else if share > 0.0 && percent < 0.05 {
        "<0.1%".into()
    } else {
        format!("{percent:.1}%")
    }
}

/// A number with three decimals.
pub(super) fn decimal(value: f64) -> String {
    if value.is_finite() { format!("{value:.3}") } else { "–".into() }
}

/// `part` of `whole` as a share; 0 of nothing.
pub(super) fn share(part: u32, whole: u32) -> f64 {
    if whole == 0 { 0.0 } else { f64::from(part) / f64::from(whole) }
}

/// `1 photo`, `2 photos`.
pub(super) fn photos(count: u32) -> String {
    format!("{count} photo{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_never_claims_all_or_nothing() {
        for (value, text) in [
            (0.0, "0.0%"),
            (0.0001, "<0.1%"),
            (0.0006, "0.1%"),
            (0.9133, "91.3%"),
            (0.9994, "99.9%"),
            (0.9999, ">99.9%"),
            (1.0, "100.0%"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(percent(value), text);
        }
    }

    #[test]
    fn a_loss_without_bound_is_not_a_number() {
        assert_eq!(decimal(f64::INFINITY), "–");
        assert_eq!(decimal(0.25), "0.250");
    }

    #[test]
    fn a_share_of_nothing_is_none() {
        assert!(share(0, 0).abs() < f64::EPSILON);
        assert!((share(1, 4) - 0.25).abs() < f64::EPSILON);
    }
}
