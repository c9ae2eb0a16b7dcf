//! The file of a speech map.

use std::fs;
use std::path::{Path, PathBuf};

use mynah_contracts::{Diagnosis, FaultKind, SpeechMap, SpeechMapProblem};

/// The largest file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Why a speech map is refused.
#[derive(Debug, thiserror::Error)]
pub enum SpeechMapError {
    /// It cannot be read.
    #[error("cannot read the speech map `{path}`", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no speech map.
    #[error("`{path}` is no speech map", path = path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// What it says cannot be.
    #[error("the speech map `{path}` {problem}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl Diagnosis for SpeechMapError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some(
            "it looks like `{\"voice\": \"en-AU-NatashaNeural\", \"default\": \"I see a {label}\", \"map\": \
             [{\"key\": \"panda\", \"value\": \"Here comes the panda\"}]}`"
                .into(),
        )
    }
}

/// Reads a speech map.
///
/// # Errors
/// When it cannot be read, is no speech map, or says the same label twice.
pub fn read_map(path: &Path) -> Result<SpeechMap, SpeechMapError> {
    let io = |source| SpeechMapError::Io { path: path.to_owned(), source };
    let wrong = |problem: String| SpeechMapError::Content { path: path.to_owned(), problem };
    let size = fs::metadata(path).map_err(io)?.len();
    if size > MAX_BYTES {
        return Err(wrong(format!("has {size} bytes, {MAX_BYTES} are allowed")));
    }
    SpeechMap::parse(&fs::read(path).map_err(io)?).map_err(|problem| match problem {
        SpeechMapProblem::Form(source) => SpeechMapError::Form { path: path.to_owned(), source },
        SpeechMapProblem::Content(problem) => wrong(problem),
    })
}
