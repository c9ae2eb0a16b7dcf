//! What the build side asks of the machine-learning side. It stands here so that the library
//! with the steps need not name the crates that link an inference engine.

use std::path::Path;

use crate::{
    Calibration, Dataset, Evaluation, Fault, Label, ModelCard, Preprocess, Probe, Training, Weights,
};

/// Watches long work: shows how far it is, and can ask it to stop.
pub trait Monitor: Sync {
    /// `done` of `total` units of `what` (such as `embedding photos`) are finished.
    fn progress(&self, what: &str, done: u64, total: u64);

    /// Whether someone asked to stop; long work looks between two units and returns a
    /// [`crate::FaultKind::Cancelled`].
    fn cancelled(&self) -> bool;
}

/// Shows nothing and never asks to stop.
pub struct Quiet;

impl Monitor for Quiet {
    fn progress(&self, _: &str, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// What to train on.
pub struct TrainRequest<'a> {
    /// The dataset.
    pub dataset: &'a Dataset,
    /// Its folder. Each photo is verified against its digest when read.
    pub dataset_folder: &'a Path,
    /// Photos kept apart to evaluate the final model on, with their folder.
    pub holdout: Option<(&'a Dataset, &'a Path)>,
    /// Where embeddings are kept from one run to the next.
    pub cache: &'a Path,
    /// What randomness is drawn from.
    pub seed: u64,
    /// An existing empty folder for the trainer's own files: the head, `probes/`.
    pub out: &'a Path,
}

/// Learns labels from photos.
pub trait Trainer: Sync {
    /// Trains, writes its files below [`TrainRequest::out`] and says how well it did. The caller writes
    /// `training.json`.
    fn train(&self, request: &TrainRequest<'_>, monitor: &dyn Monitor) -> Result<Training, Fault>;
}

/// What to make a model package of.
pub struct ExportRequest<'a> {
    /// The training.
    pub training: &'a Training,
    /// Its folder.
    pub training_folder: &'a Path,
    /// How weights are to be stored.
    pub weights: Weights,
    /// The dataset to check the exported model on, beside the training's probes.
    pub check: Option<(&'a Dataset, &'a Path)>,
    /// An existing empty folder for `model.onnx`, `labels.txt` and `probes/`.
    pub out: &'a Path,
}

/// Makes one self-contained model of a training.
pub trait Exporter: Sync {
    /// Writes the package's files and checks, with the device's own code, that they give training's
    /// probabilities. The caller writes `model.json`.
    fn export(&self, request: &ExportRequest<'_>, monitor: &dyn Monitor) -> Result<ModelCard, Fault>;
}

/// A classifier that another tool trained, with what it takes to judge it.
pub struct AdoptRequest<'a> {
    /// Its ONNX file.
    pub onnx: &'a [u8],
    /// What its outputs mean, in their order.
    pub outputs: &'a [Label],
    /// The dataset whose labels it learnt.
    pub dataset: &'a Dataset,
    /// The dataset's folder. Each photo is verified against its digest when read.
    pub dataset_folder: &'a Path,
    /// The fold of the dataset that it has not learnt from; without one, `holdout` judges it.
    pub held_out: Option<u8>,
    /// Photos kept apart, with their folder.
    pub holdout: Option<(&'a Dataset, &'a Path)>,
    /// An existing empty folder for `probes/`.
    pub out: &'a Path,
}

/// What is known of an adopted classifier.
#[derive(Clone, PartialEq, Debug)]
pub struct Adopted {
    /// From pixels to its input.
    pub preprocess: Preprocess,
    /// When to say nothing; the temperature is 1, the classifier gives probabilities itself.
    pub calibration: Calibration,
    /// How well it did on photos it had not learnt from.
    pub evaluation: Evaluation,
    /// How well it did on the photos kept apart, where another fold was held out beside them.
    pub holdout: Option<Evaluation>,
    /// A few photos with the probabilities it gave them.
    pub probes: Vec<Probe>,
}

/// Takes classifiers of other tools in.
pub trait Adopter: Sync {
    /// Finds out how pixels become the classifier's input, and judges it on photos it has not learnt from.
    fn adopt(&self, request: &AdoptRequest<'_>, monitor: &dyn Monitor) -> Result<Adopted, Fault>;

    /// Writes the classifier as a package of ours, as [`Exporter::export`] does. `onnx` and `outputs` are as in
    /// [`AdoptRequest`]; the labels and their order are the training's.
    fn pack(
        &self,
        request: &ExportRequest<'_>,
        onnx: &[u8],
        outputs: &[Label],
        monitor: &dyn Monitor,
    ) -> Result<ModelCard, Fault>;
}
