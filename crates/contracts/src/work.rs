//! What the build side asks of the machine-learning side. It stands here so that the library
//! with the steps need not name the crates that link an inference engine.

use std::path::Path;

use crate::{
    Calibration, Dataset, Diagnosis, Evaluation, Fault, FaultKind, Label, ModelCard, Preprocess, Probe,
    Training, Weights,
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

/// One of several parts of a dataset's photos, so that several machines share the work: every `of`-th photo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    part: u32,
    of: u32,
}

impl Shard {
    /// The most parts.
    pub const MOST: u32 = 99;

    /// Reads `2/4`, the second of four parts; nothing where it is no part from 1 to [`Shard::MOST`].
    pub fn parse(text: &str) -> Option<Self> {
        let (part, of) = text.split_once('/')?;
        let (part, of) = (part.trim().parse().ok()?, of.trim().parse().ok()?);
        ((1..=of).contains(&part) && of <= Self::MOST).then_some(Self { part, of })
    }

    /// Whether the photo at this place of the dataset, counted from 0, is in this part.
    pub fn holds(self, index: usize) -> bool {
        index % self.of as usize + 1 == self.part as usize
    }

    /// Which part, from 1.
    pub fn part(self) -> u32 {
        self.part
    }

    /// How many parts there are.
    pub fn of(self) -> u32 {
        self.of
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.part, self.of)
    }
}

/// What to embed for a training elsewhere.
pub struct EmbedRequest<'a> {
    /// The whole dataset.
    pub dataset: &'a Dataset,
    /// Its folder. Each photo is verified against its digest when read.
    pub dataset_folder: &'a Path,
    /// Where embeddings are kept from one run to the next.
    pub cache: &'a Path,
    /// Which photos.
    pub shard: Shard,
    /// An existing empty folder, which becomes a cache with this part's embeddings and no others.
    pub out: &'a Path,
}

/// A trainer that has no embeddings was asked for some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this trainer keeps no embeddings, so its work cannot be shared")]
pub struct NoEmbeddings;

impl Diagnosis for NoEmbeddings {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some("leave `--shard` out".into())
    }
}

/// Learns labels from photos.
pub trait Trainer: Sync {
    /// Embeds a part of the photos for a training elsewhere and says how many they were.
    fn embed(&self, _: &EmbedRequest<'_>, _: &dyn Monitor) -> Result<usize, Fault> {
        Err(NoEmbeddings.into())
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_and_hold_every_photo_once() {
        for text in ["0/4", "5/4", "1/100", "1", "a/b", "", "1/0", "-1/2"] {
            assert_eq!(Shard::parse(text), None, "{text}");
        }
        assert_eq!(Shard::parse(" 2 / 4 ").map(|shard| shard.to_string()), Some("2/4".to_owned()));
        let parts: Vec<Shard> = (1..=3).filter_map(|part| Shard::parse(&format!("{part}/3"))).collect();
        for index in 0..10 {
            assert_eq!(parts.iter().filter(|part| part.holds(index)).count(), 1, "{index}");
        }
    }
}
