//! How well a model did on photos it had not learnt from.

use serde::{Deserialize, Serialize};

use crate::{Label, Sha256Digest};

/// The result of predicting labelled photos. All shares are 0 to 1.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// The figures that fit in a line.
    #[serde(flatten)]
    pub summary: EvaluationSummary,
    /// Each label's figures, in the labels' order.
    pub per_label: Vec<LabelScore>,
    /// Photos by true label (row) and predicted label (column), both in the labels' order.
    pub confusion: Vec<Vec<u32>>,
    /// The reliability diagram: predictions by their probability, in 15 equal bins.
    pub calibration_bins: Vec<CalibrationBin>,
    /// The wrong predictions, the most confident first, at most [`Evaluation::MAX_MISTAKES`].
    pub mistakes: Vec<Mistake>,
}

impl Evaluation {
    /// How many mistakes are kept.
    pub const MAX_MISTAKES: usize = 24;
}

/// The figures that fit in a line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvaluationSummary {
    /// How many photos were predicted.
    pub photos: u32,
    /// The folds of a cross-validation; 0 where photos were kept apart instead.
    pub folds: u8,
    /// Share of photos whose most probable label is the true one.
    pub accuracy: f64,
    /// Mean over labels of the harmonic mean of precision and recall.
    pub macro_f1: f64,
    /// Mean negative natural logarithm of the true label's probability.
    pub log_loss: f64,
    /// Expected calibration error over 15 equal bins (Naeini et al. 2015; Guo et al. 2017, §2).
    pub calibration_error: f64,
    /// Share of photos whose best probability reaches the reject threshold.
    pub coverage: f64,
    /// Accuracy among those.
    pub accuracy_when_sure: f64,
}

/// One label's figures.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelScore {
    /// The label.
    pub label: Label,
    /// Photos that truly carry it.
    pub photos: u32,
    /// Share of the predictions of it that are right; 0 where it was never predicted.
    pub precision: f64,
    /// Share of its photos that were found.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
}

/// One bin of the reliability diagram.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CalibrationBin {
    /// Lower bound of the probability (exclusive, but 0 belongs to the first bin).
    pub lower: f64,
    /// Upper bound (inclusive).
    pub upper: f64,
    /// Predictions in it.
    pub photos: u32,
    /// Their mean probability; 0 where there are none.
    pub confidence: f64,
    /// The share that was right; 0 where there are none.
    pub accuracy: f64,
}

/// A photo the model got wrong.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mistake {
    /// The photo.
    pub sha256: Sha256Digest,
    /// Where it came from.
    pub source: String,
    /// What it shows.
    pub label: Label,
    /// What the model said.
    pub predicted: Label,
    /// How sure it was.
    pub probability: f32,
}
