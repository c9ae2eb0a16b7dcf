//! Why a module's source cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use mynah_contracts::{Diagnosis, FaultKind, Platform};

/// Why a module's source cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// A file or folder cannot be read or written.
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
    /// No folder below the one named holds a `module.json`.
    #[error("no folder in `{folder}` holds a module.json", folder = .0.display())]
    NoModules(PathBuf),
    /// A module cannot be named so.
    #[error("`{path}`: a module's folder is named with letters, digits, `-` and `_`", path = .0.display())]
    Name(PathBuf),
    /// `module.json` is not what it should be.
    #[error("`{path}` is not a valid module.json", path = path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// Where it breaks.
        #[source]
        source: serde_json::Error,
    },
    /// `module.json` says what cannot be done.
    #[error("`{path}`: {problem}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// There is no Dockerfile for a platform.
    #[error("`{path}` has no Dockerfile for {platform}, only for: {available}", path = path.display())]
    NoPlatform {
        /// The file.
        path: PathBuf,
        /// The platform asked for.
        platform: Platform,
        /// The names it has.
        available: String,
    },
    /// A builder of others is not installed or failed.
    #[error("`{program}` {problem}")]
    Builder {
        /// The program.
        program: String,
        /// What went wrong, with its last words.
        problem: String,
    },
    /// Someone asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl ModuleError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

impl Diagnosis for ModuleError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Io { action: "write", .. } | Self::Builder { .. } => FaultKind::Failed,
            Self::Cancelled => FaultKind::Cancelled,
            _ => FaultKind::BadInput,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoModules(_) => "name the folder above the modules' folders, such as `modules`",
            Self::NoPlatform { .. } => {
                "add it to `image.tag.platforms`, or leave the platform out of --platform"
            }
            Self::Builder { .. } => "install it, or write the Dockerfile without `RUN`",
            _ => return None,
        };
        Some(hint.into())
    }
}
