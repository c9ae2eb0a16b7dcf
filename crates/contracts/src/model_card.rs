//! `model.json`: all that is needed to get the model's numbers again.

use serde::{Deserialize, Serialize};

use crate::training::validate_model_fields;
use crate::{
    Artifact, Backbone, Calibration, DatasetRef, EvaluationSummary, FileRef, Label, Preprocess, Probe,
    SchemaVersion, Sha256Digest, Tool, TrainerKind,
};

/// The card of a model package: `model.onnx`, `labels.txt`, `model.json`, `probes/`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelCard {
    /// The form's version.
    pub schema_version: SchemaVersion,
    /// Who wrote it.
    pub tool: Tool,
    /// When, as RFC 3339; only where `SOURCE_DATE_EPOCH` says so, since equal inputs give equal bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who trained.
    pub trainer: TrainerKind,
    /// What was learnt from.
    pub dataset: DatasetRef,
    /// The labels, in the order of the probabilities.
    pub labels: Vec<Label>,
    /// The graph: input → probabilities, ONNX.
    pub model: FileRef,
    /// The labels as text, one per line.
    pub labels_file: FileRef,
    /// The name of the graph's input, shape `N × 3 × size × size`.
    pub input: String,
    /// The name of the graph's output, shape `N × labels`: probabilities, temperature applied.
    pub output: String,
    /// From pixels to the input.
    pub preprocess: Preprocess,
    /// How weights are stored.
    pub weights: Weights,
    /// The temperature already in the graph, and the threshold below which a device says nothing.
    pub calibration: Calibration,
    /// How well it did on folds it had not learnt from.
    pub cross_validation: EvaluationSummary,
    /// The frozen network inside; embedded trainer only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backbone: Option<Backbone>,
    /// Photos with the probabilities the model must give them.
    pub probes: Vec<Probe>,
}

/// How weights are stored; arithmetic is 32-bit either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// 32-bit floats.
    F32,
    /// 16-bit floats, widened when loaded: half the size.
    F16,
}

impl ModelCard {
    /// The identity of the model: the SHA-256 of `model.onnx`.
    pub fn digest(&self) -> Sha256Digest {
        self.model.sha256
    }
}

impl Artifact for ModelCard {
    const FILE: &'static str = "model.json";

    fn validate(&self) -> Result<(), String> {
        validate_model_fields(&self.labels, &self.preprocess, self.calibration, &self.probes)
    }
}
