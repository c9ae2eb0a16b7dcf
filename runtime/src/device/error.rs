//! What ends a run as a failure.

use std::path::PathBuf;

use mynah_contracts::{Diagnosis, FaultKind};

use crate::sightings::SightingsError;

/// What went wrong over a whole run.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("cannot use the folder `{folder}` for models")]
    Store {
        folder: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot use the folder `{folder}` for pictures to review")]
    Review {
        folder: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot make clips on this device")]
    Engine(#[source] std::io::Error),
    #[error("none of the {unreadable} frames could be read")]
    NothingSeen { unreadable: u64 },
    #[error("{lost} of {frames} sightings were lost")]
    SightingsLost {
        lost: u64,
        frames: u64,
        #[source]
        last: SightingsError,
    },
}

impl Diagnosis for RunError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::NothingSeen { .. } | Self::Store { .. } | Self::Review { .. } | Self::Engine(_) => {
                FaultKind::BadInput
            }
            Self::SightingsLost { .. } => FaultKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Store { .. } => Some("name a folder this user may write to: `--model-store DIR`".into()),
            Self::Review { .. } => Some("name a folder this user may write to: `--review DIR`".into()),
            Self::Engine(_) => Some(
                "name a folder this user may write to: `--speech-cache DIR`, or `--speech-engine off`".into(),
            ),
            Self::NothingSeen { .. } => Some("the lines above say what is wrong with each frame".into()),
            Self::SightingsLost { last, .. } => last.hint(),
        }
    }
}
