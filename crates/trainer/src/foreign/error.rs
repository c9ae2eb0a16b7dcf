//! Why a classifier of another tool cannot be taken in.

use mynah_contracts::{Diagnosis, FaultKind, Label};
use mynah_model::ModelError;

use crate::TrainerError;

/// Why a classifier of another tool cannot be taken in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForeignError {
    /// The bytes are not what an exporter of classifiers writes.
    #[error("the exported graph is not a classifier of pictures: {what}")]
    Graph {
        /// What is wrong.
        what: String,
    },
    /// The graph names its outputs otherwise than the labels that came with it.
    #[error(
        "the exported graph calls its output {position} `{graph}`, the labels that came with it say `{labels}`"
    )]
    OutputNames {
        /// The output, from 1.
        position: usize,
        /// The graph's name for it.
        graph: String,
        /// The name in the list.
        labels: String,
    },
    /// A label of the dataset has no output.
    #[error("the exported model has no output for `{label}`")]
    MissingLabel {
        /// The label.
        label: Label,
    },
    /// An output means nothing that the dataset knows.
    #[error("the exported model tells `{output}`, which is no label of the dataset")]
    StrangeOutput {
        /// The output.
        output: Label,
    },
    /// The outputs are no probabilities.
    #[error(
        "the exported model's outputs add up to {sum:.3} for the photo `{photo}`, probabilities add up to 1"
    )]
    NotProbabilities {
        /// The photo, below the dataset's folder.
        photo: String,
        /// Their sum.
        sum: f32,
    },
    /// Nothing to judge it by.
    #[error("no photo was held out to judge the exported model by")]
    NothingHeldOut,
    /// The engine refuses the graph.
    #[error("the exported model cannot be used")]
    Model(#[from] ModelError),
    /// A photo or a file cannot be used.
    #[error(transparent)]
    Trainer(#[from] TrainerError),
}

impl Diagnosis for ForeignError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::StrangeOutput { .. } | Self::MissingLabel { .. } | Self::NothingHeldOut => {
                FaultKind::BadInput
            }
            Self::Trainer(error) => error.kind(),
            _ => FaultKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Graph { .. } | Self::NotProbabilities { .. } => {
                "use a project of type Multiclass with a compact classification domain"
            }
            Self::OutputNames { .. } => "export the iteration again",
            Self::MissingLabel { .. } | Self::StrangeOutput { .. } => {
                "the dataset's labels changed since the training: train again"
            }
            Self::NothingHeldOut => {
                "add photos, hold out another fold, or name photos kept apart with `--holdout`"
            }
            Self::Model(error) => return error.hint(),
            Self::Trainer(error) => return error.hint(),
        };
        Some(hint.into())
    }
}
