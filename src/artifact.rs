//! Reading the JSON artifact of an earlier step.

use std::fs;
use std::io;
use std::path::Path;

use mynah_contracts::{Artifact, ArtifactError, Diagnosis, FaultKind, from_json};

/// Why an artifact could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is not there.
    #[error("`{path}` does not exist")]
    Missing {
        /// Where it was looked for.
        path: String,
    },
    /// The file system refused.
    #[error("cannot read `{path}`")]
    Io {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its content is refused.
    #[error("cannot use `{path}`")]
    Content {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: ArtifactError,
    },
}

impl Diagnosis for LoadError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Missing { .. } => "run the step that writes it first, or name its folder".into(),
            Self::Io { .. } => "check that the file exists and may be read".into(),
            Self::Content { source: ArtifactError::Newer { .. }, .. } => {
                "it was written by a newer version: update this program, or run the earlier step again".into()
            }
            Self::Content { .. } => "it was changed or damaged: run the step that writes it again".into(),
        })
    }
}

/// Reads the artifact `A` in `folder`, under its own file name.
pub fn load<A: Artifact>(folder: &Path) -> Result<A, LoadError> {
    let file = folder.join(A::FILE);
    let path = || file.display().to_string();
    let bytes = fs::read(&file).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => LoadError::Missing { path: path() },
        _ => LoadError::Io { path: path(), source },
    })?;
    from_json(&bytes).map_err(|source| LoadError::Content { path: path(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_contracts::Dataset;

    #[test]
    fn what_is_missing_newer_or_damaged_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let damage = || load::<Dataset>(folder.path()).unwrap_err();
        assert!(matches!(damage(), LoadError::Missing { .. }));
        fs::write(folder.path().join("dataset.json"), r#"{"schemaVersion":"9.0"}"#).unwrap();
        assert!(damage().hint().unwrap().contains("newer version"));
        fs::write(folder.path().join("dataset.json"), "{").unwrap();
        assert!(damage().hint().unwrap().contains("damaged"));
    }
}
