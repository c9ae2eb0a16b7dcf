//! `training.json`: what was learnt, from what, and how well.

use serde::{Deserialize, Serialize};

use crate::{Artifact, Evaluation, FileRef, Label, Preprocess, SchemaVersion, Sha256Digest, Tool};

/// The outcome of a training.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Training {
    /// The form's version.
    pub schema_version: SchemaVersion,
    /// Who wrote it.
    pub tool: Tool,
    /// When, as RFC 3339; only where `SOURCE_DATE_EPOCH` says so, since equal inputs give equal bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who trained.
    pub trainer: TrainerKind,
    /// What randomness was drawn from.
    pub seed: u64,
    /// What was learnt from.
    pub dataset: DatasetRef,
    /// The labels, in the order of every probability vector.
    pub labels: Vec<Label>,
    /// From pixels to the model's input.
    pub preprocess: Preprocess,
    /// The frozen network that embeds; embedded trainer only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backbone: Option<Backbone>,
    /// Names of the changed copies each photo was also learnt from.
    pub augmentations: Vec<String>,
    /// The linear layer; embedded trainer only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Head>,
    /// Where the service keeps what it trained; Custom Vision only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_vision: Option<CustomVisionModel>,
    /// How outputs become probabilities, and when to say nothing.
    pub calibration: Calibration,
    /// How well it did on photos it had not learnt from: on every fold in turn (embedded), or on the one fold
    /// that the service never got (Custom Vision; `folds` is 0).
    pub cross_validation: Evaluation,
    /// How well the final model did on photos kept apart (`--holdout`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holdout: Option<Evaluation>,
    /// A few photos with the probabilities training gave them: whoever runs the model must get the same.
    pub probes: Vec<Probe>,
}

/// Who trained.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrainerKind {
    /// Frozen backbone and linear head, on this machine.
    Embedded,
    /// Azure Custom Vision.
    CustomVision,
}

/// Which dataset.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatasetRef {
    /// [`crate::Dataset::digest`].
    pub digest: Sha256Digest,
    /// How many photos it holds.
    pub photos: u32,
}

/// The frozen network.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backbone {
    /// Its name, such as `efficientnet-lite0-224`.
    pub name: String,
    /// The SHA-256 of its ONNX file.
    pub sha256: Sha256Digest,
    /// Numbers in an embedding.
    pub embedding_length: u32,
}

/// The linear layer: logits = weight · embedding + bias.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// A safetensors file with `weight` (labels × embedding length) and `bias` (labels), 32-bit floats.
    pub file: FileRef,
    /// The strength of the L2 penalty on `weight`: ½ · l2 · ‖weight‖² added to the mean log loss.
    pub l2: f64,
    /// Iterations until the fit converged.
    pub iterations: u32,
}

/// Where Custom Vision keeps a trained model. It holds no key.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomVisionModel {
    /// The resource's endpoint.
    pub endpoint: String,
    /// The project's id.
    pub project: String,
    /// The project's name.
    pub project_name: String,
    /// The domain's name, such as `General (compact)`.
    pub domain: String,
    /// The iteration's id.
    pub iteration: String,
    /// The iteration's name.
    pub iteration_name: String,
    /// How many photos it learnt from.
    pub photos: u32,
    /// The fold of the dataset that the service never got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_fold: Option<u8>,
    /// The SHA-256 of the graph that was judged, as the service exported it.
    pub exported: Sha256Digest,
    /// What the service itself says of the iteration.
    pub metrics: ServiceMetrics,
}

/// What a service says of its own training, on a split of its own. All shares are 0 to 1.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMetrics {
    /// Share of its predictions that are right.
    pub precision: f64,
    /// Share of the tagged images that it finds.
    pub recall: f64,
    /// The area under its precision-recall curve, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average_precision: Option<f64>,
}

/// How outputs become probabilities, and when to say nothing.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Calibration {
    /// Logits are divided by it before softmax (Guo et al. 2017, §4.2); more than 0.
    pub temperature: f32,
    /// A best probability below it means "unknown"; 0 to 1.
    pub reject_threshold: f32,
}

impl Calibration {
    /// Whether the numbers are in range.
    pub fn validate(&self) -> Result<(), String> {
        if !(self.temperature.is_normal() && self.temperature > 0.0) {
            return Err(format!("`temperature` is {}, more than 0 is allowed", self.temperature));
        }
        if !(0.0..=1.0).contains(&self.reject_threshold) {
            return Err(format!("`rejectThreshold` is {}, 0 to 1 is allowed", self.reject_threshold));
        }
        Ok(())
    }
}

/// A photo and the probabilities training gave it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// The photo, below `probes/`.
    pub file: FileRef,
    /// What it shows.
    pub label: Label,
    /// One probability per label, in the labels' order.
    pub probabilities: Vec<f32>,
}

/// What `training.json` and `model.json` both promise.
pub(crate) fn validate_model_fields(
    labels: &[Label],
    preprocess: &Preprocess,
    calibration: Calibration,
    probes: &[Probe],
) -> Result<(), String> {
    if labels.len() < 2 {
        return Err(format!("`labels` holds {}, at least 2 are needed", labels.len()));
    }
    if let Some((a, b)) = crate::colliding(labels) {
        return Err(format!("the labels `{a}` and `{b}` differ only in letter case"));
    }
    preprocess.validate()?;
    calibration.validate()?;
    for probe in probes {
        if probe.probabilities.len() != labels.len() {
            return Err(format!(
                "the probe `{}` has {} probabilities for {} labels",
                probe.file.path,
                probe.probabilities.len(),
                labels.len()
            ));
        }
        if probe.probabilities.iter().any(|p| !(0.0..=1.0).contains(p)) {
            return Err(format!("the probe `{}` has a probability outside 0 to 1", probe.file.path));
        }
    }
    Ok(())
}

impl Artifact for Training {
    const FILE: &'static str = "training.json";

    fn validate(&self) -> Result<(), String> {
        validate_model_fields(&self.labels, &self.preprocess, self.calibration, &self.probes)
    }
}
