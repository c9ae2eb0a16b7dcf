//! Why a model cannot be loaded, run or trusted.

use std::path::PathBuf;

use mynah_contracts::{ArtifactError, Diagnosis, FaultKind, Label, RelativePath, Sha256Digest};

use crate::GraphError;

/// Why a model cannot be loaded, run or trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The ONNX file is refused.
    #[error("the ONNX model cannot be used")]
    Graph(#[source] GraphError),
    /// The input is not of the length the network takes.
    #[error("the network takes {expected} input values, it was given {found}")]
    InputLength {
        /// How many numbers it takes.
        expected: usize,
        /// How many it was given.
        found: usize,
    },
    /// The engine failed in the middle of an inference.
    #[error("the inference failed")]
    Inference(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Infinity or "not a number" came out.
    #[error("the network's output number {index} is `{value}`, not a finite number")]
    NotFinite {
        /// Which output, counted from 0.
        index: usize,
        /// What came out.
        value: f32,
    },
    /// The photo could not be brought to the network's size.
    #[error("the photo cannot be resized to {size} × {size}")]
    Resize {
        /// The network's input side, in pixels.
        size: u32,
        /// What is wrong.
        #[source]
        source: mynah_photo::ResizeError,
    },
    /// A file of the package cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: std::io::Error,
    },
    /// `model.json` is refused.
    #[error("the model's card is refused")]
    Card(#[source] ArtifactError),
    /// A file is not the one the card speaks of.
    #[error("`{file}` has the digest {found}, `model.json` says {expected}")]
    Digest {
        /// The file, below the package's folder.
        file: RelativePath,
        /// What the card says.
        expected: Sha256Digest,
        /// What the file has.
        found: Sha256Digest,
    },
    /// `labels.txt` and the card name different labels.
    #[error("line {line} of `{file}` is `{}`, `model.json` says `{}`", found.escape_debug(), expected)]
    Labels {
        /// The labels' file.
        file: RelativePath,
        /// Counted from 1.
        line: usize,
        /// The line, empty where the file is shorter.
        found: String,
        /// The card's label, empty where the card has fewer.
        expected: String,
    },
    /// The graph gives another number of probabilities than there are labels.
    #[error("the network gives {outputs} numbers for {labels} labels")]
    OutputLength {
        /// Numbers in the output.
        outputs: usize,
        /// Labels on the card.
        labels: usize,
    },
    /// A probe is not a photo.
    #[error("the probe `{probe}` cannot be decoded")]
    ProbePhoto {
        /// The probe's file.
        probe: RelativePath,
        /// What is wrong with it.
        #[source]
        source: mynah_photo::DecodeError,
    },
    /// The model answers a probe otherwise than in training.
    #[error("the probe `{probe}` gets {got:.4} for `{label}`, training gave {expected:.4}")]
    ProbeMismatch {
        /// The probe's file.
        probe: RelativePath,
        /// The label whose probability differs most.
        label: Label,
        /// What training gave.
        expected: f32,
        /// What this machine gives.
        got: f32,
    },
}

impl From<GraphError> for ModelError {
    fn from(error: GraphError) -> Self {
        Self::Graph(error)
    }
}

impl Diagnosis for ModelError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::InputLength { .. }
            | Self::Inference(_)
            | Self::NotFinite { .. }
            | Self::ProbeMismatch { .. } => FaultKind::Failed,
            Self::Read { source, .. } if source.kind() != std::io::ErrorKind::NotFound => FaultKind::Failed,
            _ => FaultKind::BadInput,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Graph(error) => error.hint(),
            Self::InputLength { .. } => return None,
            Self::Inference(_) | Self::NotFinite { .. } => {
                "export the model again; if it happens again, the graph does not suit this engine"
            }
            Self::Resize { .. } => "leave this photo out, or replace it by a larger one",
            Self::Read { .. } => "point --model at a folder that export-model wrote, with all its files",
            Self::Card(_) => "export the model again with this version of the tool",
            Self::Digest { .. } | Self::Labels { .. } => {
                "the package was changed after export: export the model again, or copy the whole folder again"
            }
            Self::OutputLength { .. } => {
                "`model.onnx` and `labels.txt` belong to different models: export again"
            }
            Self::ProbePhoto { .. } => "copy the whole model folder again, `probes/` included",
            Self::ProbeMismatch { .. } => {
                "this machine does not compute what training computed: export the model again with this version"
            }
        };
        Some(hint.into())
    }
}
