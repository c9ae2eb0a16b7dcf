//! Why the relay cannot work, and what its reader can do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use mynah_contracts::{Cancelled, Diagnosis, FaultKind};

use crate::azure::pipelines::PipelinesError;
use crate::http::HttpError;
use crate::staging::StagingError;

/// Why the relay cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The address is taken, not ours, or needs rights.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody could be told from a stranger.
    #[error("no key is given by which callers are known")]
    NoKey,
    /// A key that can be guessed, or that no address can hold.
    #[error(
        "key {number} of the relay is too short or holds other characters than letters, digits, `-`, `_`, `.` and `~`"
    )]
    Key {
        /// Which, counted from 1.
        number: usize,
    },
    /// The file with keys cannot be read.
    #[error("cannot read the keys in `{path}`")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The state cannot be kept.
    #[error("cannot keep the relay's state in `{path}`")]
    State {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The journal cannot be begun anew.
    #[error("cannot shorten the journal")]
    Snapshot(#[source] StagingError),
    /// The journal is not what was written.
    #[error("line {line} of the journal `{path}` is damaged")]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// The thread that writes the journal has ended.
    #[error("the journal is not written any more")]
    Closed,
    /// No thread is to be had.
    #[error("cannot start the thread that writes the journal")]
    Thread(#[source] io::Error),
    /// Azure DevOps refuses or does not answer.
    #[error(transparent)]
    Pipelines(#[from] PipelinesError),
    /// No network.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Someone asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Diagnosis for RelayError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Listen { .. } | Self::NoKey | Self::Key { .. } | Self::KeyFile { .. } => {
                FaultKind::BadInput
            }
            Self::State { .. } | Self::Damaged { .. } | Self::Closed | Self::Thread(_) => FaultKind::Failed,
            Self::Snapshot(error) => error.kind(),
            Self::Pipelines(error) => error.kind(),
            Self::Http(error) => error.kind(),
            Self::Cancelled(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Listen { .. } => "choose another address with `--listen ADDRESS:PORT`".into(),
            Self::NoKey => {
                "make one with `openssl rand -hex 24` and give it in MYNAH_RELAY_KEY or with `--key-file`, or take tokens \
                 with `--tenant` and `--audience`"
                    .into()
            }
            Self::Key { .. } => "make one with `openssl rand -hex 24`".into(),
            Self::KeyFile { .. } => "give a file with one key a line".into(),
            Self::State { .. } => "give a folder with `--state` that can be written and lasts".into(),
            Self::Damaged { .. } => {
                "keep a copy, remove the file, and run the pipeline once: it imports whatever was uploaded"
                    .into()
            }
            Self::Closed => "look at the messages before this one".into(),
            Self::Thread(_) => return None,
            Self::Snapshot(error) => return error.hint(),
            Self::Pipelines(error) => return error.hint(),
            Self::Http(error) => return error.hint(),
            Self::Cancelled(error) => return error.hint(),
        })
    }
}
