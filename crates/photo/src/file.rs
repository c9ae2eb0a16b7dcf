//! Reading files that an artifact names together with their digest.

use std::io;
use std::path::{Path, PathBuf};

use mynah_contracts::{Diagnosis, FaultKind, Sha256Digest};

/// Why a file named in an artifact cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its bytes are not those the artifact was written for.
    #[error("`{path}` was changed after it was recorded: its digest is {actual}, expected {expected}")]
    Changed {
        /// Where.
        path: PathBuf,
        /// The digest the artifact states.
        expected: Sha256Digest,
        /// The digest of the bytes found.
        actual: Sha256Digest,
    },
}

impl Diagnosis for FileError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some("run the step that wrote this folder again; files in it are not meant to be edited".into())
    }
}

/// The bytes of the file at `path`, if they have the digest `expected`.
pub fn read_verified(path: &Path, expected: &Sha256Digest) -> Result<Vec<u8>, FileError> {
    let bytes = std::fs::read(path).map_err(|source| FileError::Read { path: path.to_path_buf(), source })?;
    let actual = Sha256Digest::of(&bytes);
    if actual == *expected {
        Ok(bytes)
    } else {
        Err(FileError::Changed { path: path.to_path_buf(), expected: *expected, actual })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_recorded_bytes_are_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        std::fs::write(&path, b"one").unwrap();
        let digest = Sha256Digest::of(b"one");
        assert_eq!(read_verified(&path, &digest).unwrap(), b"one");
        std::fs::write(&path, b"two").unwrap();
        let error = read_verified(&path, &digest).unwrap_err();
        assert!(matches!(error, FileError::Changed { .. }));
        assert!(error.to_string().contains(&Sha256Digest::of(b"two").to_string()));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read_verified(&path, &digest), Err(FileError::Read { .. })));
    }
}
