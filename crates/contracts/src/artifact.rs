//! What all JSON artifacts share: a version, the tool that wrote them, references to files.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Sha256Digest;

/// The version of an artifact's form: a newer minor adds fields, a newer major changes their meaning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SchemaVersion {
    /// Changes when an old reader would misunderstand.
    pub major: u32,
    /// Changes when an old reader misses something but understands the rest.
    pub minor: u32,
}

impl SchemaVersion {
    /// The version this crate writes.
    pub const CURRENT: Self = Self { major: 1, minor: 0 };
}

impl fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl std::str::FromStr for SchemaVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once('.')
            .and_then(|(major, minor)| Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? }))
            .ok_or_else(|| format!("`{}` is not a schema version such as `1.0`", text.escape_debug()))
    }
}

impl Serialize for SchemaVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SchemaVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for SchemaVersion {
    fn schema_name() -> Cow<'static, str> {
        "SchemaVersion".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9]+\\.[0-9]+$" })
    }
}

/// A JSON document that a step writes and a later one reads.
pub trait Artifact: Serialize + DeserializeOwned {
    /// Its file's name, such as `dataset.json`.
    const FILE: &'static str;

    /// What must hold between its fields and serde cannot say; called on every read.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Why an artifact's bytes are refused.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Not JSON of the expected form.
    #[error("`{file}` is not a valid artifact")]
    Form {
        /// The artifact's file name.
        file: &'static str,
        /// What is wrong, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a newer tool.
    #[error("`{file}` has schema version {found}, this tool reads up to {max}.x", max = SchemaVersion::CURRENT.major)]
    Newer {
        /// The artifact's file name.
        file: &'static str,
        /// The version it states.
        found: SchemaVersion,
    },
    /// Well-formed, but its fields contradict each other.
    #[error("`{file}` contradicts itself: {what}")]
    Inconsistent {
        /// The artifact's file name.
        file: &'static str,
        /// Which fields, and how.
        what: String,
    },
}

/// Reads an artifact; the version is looked at before the form, so that a newer document is told as such.
pub fn from_json<A: Artifact>(bytes: &[u8]) -> Result<A, ArtifactError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Versioned {
        schema_version: SchemaVersion,
    }
    let file = A::FILE;
    let form = |source| ArtifactError::Form { file, source };
    let Versioned { schema_version: found } = serde_json::from_slice(bytes).map_err(form)?;
    if found.major > SchemaVersion::CURRENT.major {
        return Err(ArtifactError::Newer { file, found });
    }
    let artifact: A = serde_json::from_slice(bytes).map_err(form)?;
    artifact.validate().map_err(|what| ArtifactError::Inconsistent { file, what })?;
    Ok(artifact)
}

/// An artifact as people and tools read it: indented JSON with a line feed at its end.
pub fn to_json<A: Artifact>(artifact: &A) -> Vec<u8> {
    // Our types hold no map with keys other than strings, the only thing serde_json could refuse.
    let mut bytes = serde_json::to_vec_pretty(artifact).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Writes an artifact as [`to_json`] has it, without ever holding all of its text.
///
/// # Errors
/// `out` does not take it.
pub fn write_json<A: Artifact>(artifact: &A, out: impl io::Write) -> io::Result<()> {
    let mut out = io::BufWriter::new(out);
    serde_json::to_writer_pretty(&mut out, artifact)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// The program that wrote an artifact.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tool {
    /// Its name: `mynah`.
    pub name: String,
    /// Its version, such as `0.1.0`.
    pub version: String,
}

impl Tool {
    /// This workspace's version.
    pub fn current() -> Self {
        Self { name: "mynah".into(), version: env!("CARGO_PKG_VERSION").into() }
    }
}

/// A path below an artifact's folder: relative, with forward slashes, never leaving the folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct RelativePath(String);

impl RelativePath {
    /// Checks that `text` stays below the folder it will be joined to.
    ///
    /// # Errors
    /// Says what is wrong with an absolute path, an empty part, `.`, `..`, a backslash or a control character.
    pub fn new(text: impl Into<String>) -> Result<Self, String> {
        let text = text.into();
        let ok = !text.is_empty()
            && !text.contains(|c: char| c == '\\' || c.is_control())
            && text.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        if ok {
            Ok(Self(text))
        } else {
            Err(format!("`{}` is not a path below its folder", text.escape_debug()))
        }
    }

    /// The text, with forward slashes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path below `folder`.
    pub fn below(&self, folder: &Path) -> PathBuf {
        folder.join(&self.0)
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelativePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A file beside the artifact that names it, verified by digest on every read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileRef {
    /// Where, below the artifact's folder.
    pub path: RelativePath,
    /// The SHA-256 of its bytes.
    pub sha256: Sha256Digest,
    /// Its size in bytes.
    pub bytes: u64,
}

impl FileRef {
    /// A reference to `bytes` stored at `path`.
    pub fn new(path: RelativePath, bytes: &[u8]) -> Self {
        Self { path, sha256: Sha256Digest::of(bytes), bytes: bytes.len() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_leave_its_folder() {
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a\\b", "./a", "a\0b"] {
            assert!(RelativePath::new(bad).is_err(), "{bad:?}");
        }
        assert!(RelativePath::new("photos/Ünïcode/1.jpg").is_ok());
    }

    #[test]
    fn a_newer_major_is_told_as_such_whatever_its_form() {
        let error = from_json::<crate::Dataset>(br#"{"schemaVersion":"2.0","surprise":[]}"#).unwrap_err();
        assert_eq!(error.to_string(), "`dataset.json` has schema version 2.0, this tool reads up to 1.x");
    }
}
