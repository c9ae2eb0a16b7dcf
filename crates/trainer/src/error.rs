//! Why a training or an export fails.

use std::io;
use std::path::PathBuf;

use mynah_contracts::{Diagnosis, FaultKind, Label, Sha256Digest};
use mynah_model::ModelError;
use mynah_photo::DecodeError;
use mynah_photo::file::FileError;

/// Why a training or an export fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainerError {
    /// The backbone's file is none that we know.
    #[error("`{}` has the digest {found}, which is no backbone this version knows", path.display())]
    UnknownBackbone {
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: Sha256Digest,
    },
    /// The training was made with another backbone.
    #[error("the training used the backbone {expected}, `{}` is {found}", path.display())]
    OtherBackbone {
        /// The file.
        path: PathBuf,
        /// What `training.json` says.
        expected: Sha256Digest,
        /// Its digest.
        found: Sha256Digest,
    },
    /// The backbone does not run.
    #[error("the backbone `{}` cannot be used", path.display())]
    Backbone {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ModelError,
    },
    /// Not enough to tell apart.
    #[error("the dataset has {labels} label(s), telling apart needs at least 2")]
    TooFewLabels {
        /// How many there are.
        labels: usize,
    },
    /// Nothing could be held out.
    #[error("the photos lie in {folds} fold(s), cross-validation needs at least 2")]
    TooFewFolds {
        /// How many folds hold photos.
        folds: usize,
    },
    /// A file of the dataset or the training is missing or was changed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A photo that the import took cannot be decoded.
    #[error("the photo `{photo}` cannot be decoded")]
    Photo {
        /// Its file, below the dataset's folder.
        photo: String,
        /// What is wrong.
        #[source]
        source: DecodeError,
    },
    /// A photo cannot be taken through the network.
    #[error("the photo `{photo}` cannot be embedded")]
    Embed {
        /// Its file, below the dataset's folder.
        photo: String,
        /// What is wrong.
        #[source]
        source: ModelError,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// `read` or `write`, and so on.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A photo kept apart has a label that was not learnt.
    #[error("the holdout's label `{label}` is not among the dataset's")]
    StrangeLabel {
        /// The label.
        label: Label,
    },
    /// The training was not made by this trainer.
    #[error("`training.json` names no {what}, so it was not made by the embedded trainer")]
    NotEmbedded {
        /// What is missing.
        what: &'static str,
    },
    /// The head's file is not one.
    #[error("`{file}` is not a head for {labels} labels and embeddings of {columns} numbers: {what}")]
    Head {
        /// The file, below the training's folder.
        file: String,
        /// Labels in `training.json`.
        labels: usize,
        /// Numbers in the backbone's embeddings.
        columns: usize,
        /// What is wrong.
        what: String,
    },
    /// The backbone's graph cannot be joined with a head.
    #[error("the backbone's graph cannot be joined with a head: {what}")]
    Graph {
        /// What is wrong.
        what: String,
    },
    /// A file of ours would get an impossible name.
    #[error("{0}")]
    Name(String),
    /// The exported model does not load.
    #[error("the exported model cannot be used")]
    Exported(#[source] ModelError),
    /// The exported model does not say what training said.
    #[error(
        "the exported model gives the photo `{photo}` {got:.5} for `{label}`, training gave {expected:.5}"
    )]
    Mismatch {
        /// The photo, below its folder.
        photo: String,
        /// The label whose probability differs most.
        label: Label,
        /// What training gave.
        expected: f32,
        /// What the exported model gives.
        got: f32,
    },
    /// Someone asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

impl TrainerError {
    /// Wraps what the file system said about `path`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

impl Diagnosis for TrainerError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::UnknownBackbone { .. }
            | Self::OtherBackbone { .. }
            | Self::TooFewLabels { .. }
            | Self::TooFewFolds { .. }
            | Self::Photo { .. }
            | Self::StrangeLabel { .. }
            | Self::NotEmbedded { .. }
            | Self::Head { .. } => FaultKind::BadInput,
            Self::File(error) => error.kind(),
            Self::Backbone { source, .. } | Self::Embed { source, .. } => source.kind(),
            Self::Io { .. }
            | Self::Graph { .. }
            | Self::Name(_)
            | Self::Exported(_)
            | Self::Mismatch { .. } => FaultKind::Failed,
            Self::Cancelled => FaultKind::Cancelled,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnknownBackbone { .. } => {
                "use the backbone that came with this version; its file is `models/efficientnet-lite0-224.onnx`"
            }
            Self::OtherBackbone { .. } => "export with the backbone that was trained with, or train again",
            Self::TooFewLabels { .. } => "import photos of at least two labels: one folder for each",
            Self::TooFewFolds { .. } => {
                "add photos that differ: near-duplicates share a fold, and these all look alike"
            }
            Self::File(error) => return error.hint(),
            Self::Photo { .. } => "import the photos again; the import leaves out what cannot be decoded",
            Self::Backbone { source, .. } | Self::Embed { source, .. } => return source.hint(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space and run again; what was embedded so far is kept"
            }
            Self::StrangeLabel { .. } => "name the holdout's folders as the dataset's labels are named",
            Self::NotEmbedded { .. } => "export with the exporter of the trainer that made this training",
            Self::Head { .. } => "train again; files in the training's folder are not meant to be edited",
            Self::Mismatch { .. } => "this is a defect: please report it with the model's card",
            Self::Io { .. } | Self::Graph { .. } | Self::Name(_) | Self::Exported(_) | Self::Cancelled => {
                return None;
            }
        };
        Some(hint.into())
    }
}
