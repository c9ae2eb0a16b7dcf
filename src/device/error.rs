//! Why a deployment did not arrive.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use mynah_contracts::{Cancelled, Diagnosis, FaultKind, Sha256Digest};

use crate::manifest::ManifestError;
use crate::oci::OciError;
use crate::staging::StagingError;

/// Why a deployment did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The file system refused.
    #[error("cannot {action} `{path}`", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The output folder holds something else.
    #[error("`{folder}` is not empty and holds no earlier deployment", folder = .0.display())]
    Foreign(PathBuf),
    /// A module of an earlier deployment still runs there.
    #[error("another deployment still runs in `{folder}`", folder = .0.display())]
    Busy(PathBuf),
    /// The folder of frames is none.
    #[error("`{folder}` is not a folder of frames", folder = .0.display())]
    NoFrames(PathBuf),
    /// The manifest is refused.
    #[error("`{path}` cannot be deployed", path = path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// No module can run here.
    #[error("no module of the manifest can run on this machine: {}", .0.join("; "))]
    NothingToRun(Vec<String>),
    /// More than one module wants the frames.
    #[error("the manifest has {} modules with a model ({}), this machine runs one", .0.len(), .0.join(", "))]
    TooMany(Vec<String>),
    /// This machine is no platform of ours.
    #[error("this machine is none of the platforms that images are built for")]
    UnknownHost,
    /// The image is refused.
    #[error("the image of `{module}` cannot be used")]
    Image {
        /// The module.
        module: String,
        /// Why.
        #[source]
        source: OciError,
    },
    /// The image names no program it holds.
    #[error("the image of `{module}` does not hold the program it starts")]
    NoProgram {
        /// The module.
        module: String,
    },
    /// The unpacked image could not be put in place.
    #[error("cannot put the image of `{module}` in place")]
    Staging {
        /// The module.
        module: String,
        /// Why.
        #[source]
        source: StagingError,
    },
    /// The program could not be started.
    #[error("cannot start `{program}`", program = program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended too early or badly.
    #[error("`{module}` ended with {status} {when}{}", said(last))]
    Ended {
        /// The module.
        module: String,
        /// How.
        status: ExitStatus,
        /// At which point.
        when: &'static str,
        /// Its last lines.
        last: Vec<String>,
    },
    /// It reported a failure.
    #[error("`{module}` failed: {problem}{}", said(last))]
    Failed {
        /// The module.
        module: String,
        /// What it reported.
        problem: String,
        /// Its last lines.
        last: Vec<String>,
    },
    /// It runs another model.
    #[error("`{module}` runs the model {found}, {expected} was deployed")]
    OtherModel {
        /// The module.
        module: String,
        /// Reported.
        found: Sha256Digest,
        /// Deployed.
        expected: Sha256Digest,
    },
    /// It reported nothing new for too long.
    #[error("`{module}` {what} within {seconds} s{}", said(last))]
    Silent {
        /// The module.
        module: String,
        /// What it did not do.
        what: &'static str,
        /// The limit in seconds.
        seconds: u64,
        /// Its last lines.
        last: Vec<String>,
    },
    /// Someone asked to stop.
    #[error("cancelled")]
    Cancelled,
}

fn said(last: &[String]) -> String {
    if last.is_empty() { String::new() } else { format!("; it said: {}", last.join(" | ")) }
}

impl DeviceError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

impl Diagnosis for DeviceError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Foreign(_)
            | Self::NoFrames(_)
            | Self::NothingToRun(_)
            | Self::TooMany(_)
            | Self::NoProgram { .. }
            | Self::UnknownHost => FaultKind::BadInput,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => FaultKind::BadInput,
            Self::Manifest { source, .. } => source.kind(),
            Self::Image { source, .. } => source.kind(),
            Self::Staging { source, .. } => source.kind(),
            Self::Cancelled => FaultKind::Cancelled,
            _ => FaultKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Io { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
                ) =>
            {
                "name a folder with `--out` that this user can write"
            }
            Self::Foreign(_) => "choose an empty folder, so that nothing of yours is replaced",
            Self::Busy(_) => "wait until it has ended, or choose another folder",
            Self::NoFrames(_) => "give --frames a folder with pictures the device is to look at",
            Self::NothingToRun(_) => {
                "give --images the folder with the modules.json that the manifest was generated from"
            }
            Self::Manifest { source, .. } => return source.hint(),
            Self::Image { source, .. } => return source.hint(),
            Self::Staging { source, .. } => return source.hint(),
            Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "the program needs shared libraries this machine lacks, or was built for another one"
            }
            Self::OtherModel { .. } => "run build-modules and generate-manifest again",
            Self::Silent { .. } => "a slow machine may need more: raise --wait",
            Self::Cancelled => return Cancelled.hint(),
            _ => return None,
        };
        Some(hint.into())
    }
}
