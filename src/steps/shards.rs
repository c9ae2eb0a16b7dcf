//! Embeddings that several machines made: each part says what it is, and one machine takes them in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mynah_contracts::{Dataset, Diagnosis, FaultKind, Sha256Digest, Shard};
use serde::{Deserialize, Serialize};

/// The file by which a part is known.
pub(crate) const MARK: &str = "shard.json";

/// How files of embeddings end.
const EXTENSION: &str = "embeddings";

/// What a part says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    /// The digest of the whole dataset.
    dataset: Sha256Digest,
    /// Which part, from 1.
    part: u32,
    /// How many there are.
    of: u32,
}

/// Why parts cannot be taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShardError {
    #[error("`{folder}` holds no part of any embeddings")]
    None { folder: String },
    #[error("`{file}` does not say which part it is")]
    Mark {
        file: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("`{folder}` is a part of another dataset, {found} instead of {wanted}")]
    Dataset { folder: String, found: Sha256Digest, wanted: Sha256Digest },
    #[error("of {of} parts, {missing} is missing below `{folder}`")]
    Missing { folder: String, missing: u32, of: u32 },
    #[error("cannot take in `{path}`")]
    Io {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl Diagnosis for ShardError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Io { .. } => FaultKind::Failed,
            _ => FaultKind::BadInput,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { .. } => return None,
            Self::None { .. } => "name the folder in which each part has a folder of its own".into(),
            Self::Missing { .. } => "look whether each of the agents published its part".into(),
            Self::Mark { .. } | Self::Dataset { .. } => "embed all parts again from this dataset".into(),
        })
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ShardError {
    let path = path.display().to_string();
    move |source| ShardError::Io { path, source }
}

/// What goes into [`MARK`].
pub(crate) fn mark(dataset: &Dataset, shard: Shard) -> Vec<u8> {
    let mark = Mark { dataset: dataset.digest, part: shard.part(), of: shard.of() };
    // Numbers and digests can always be written.
    let mut bytes = serde_json::to_vec_pretty(&mark).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Copies the embeddings of all parts below `parts` into `cache` and says how many files were new there. Nothing is
/// copied before all parts were found to belong together.
///
/// # Errors
/// Where a part is missing, damaged or of another dataset, or something cannot be read or written.
pub(crate) fn take_in(parts: &Path, dataset: &Dataset, cache: &Path) -> Result<usize, ShardError> {
    let shown = || parts.display().to_string();
    let mut folders: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(parts).map_err(failed(parts))? {
        let path = entry.map_err(failed(parts))?.path();
        if path.join(MARK).is_file() {
            folders.push(path);
        }
    }
    folders.sort();
    let mut marks = Vec::new();
    for folder in &folders {
        let file = folder.join(MARK);
        let bytes = fs::read(&file).map_err(failed(&file))?;
        let mark: Mark = serde_json::from_slice(&bytes)
            .map_err(|source| ShardError::Mark { file: file.display().to_string(), source })?;
        if mark.dataset != dataset.digest {
            let folder = folder.display().to_string();
            return Err(ShardError::Dataset { folder, found: mark.dataset, wanted: dataset.digest });
        }
        marks.push(mark);
    }
    let Some(of) = marks.first().map(|mark| mark.of) else {
        return Err(ShardError::None { folder: shown() });
    };
    if let Some(missing) = (1..=of).find(|part| !marks.iter().any(|mark| mark.part == *part && mark.of == of))
    {
        return Err(ShardError::Missing { folder: shown(), missing, of });
    }
    let mut taken = 0;
    for folder in &folders {
        for entry in walkdir::WalkDir::new(folder).min_depth(2).max_depth(2).sort_by_file_name() {
            let entry = entry.map_err(|error| failed(folder)(error.into()))?;
            let path = entry.path();
            let shelf = path.parent().and_then(Path::file_name).unwrap_or_default();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                taken += usize::from(copy(path, &cache.join(shelf))?);
            }
        }
    }
    Ok(taken)
}

/// Copies a file under a name made of its content, so that taking in the same twice adds nothing.
fn copy(from: &Path, folder: &Path) -> Result<bool, ShardError> {
    let bytes = fs::read(from).map_err(failed(from))?;
    let to = folder.join(format!("{}.{EXTENSION}", &Sha256Digest::of(&bytes).hex()[..32]));
    if to.is_file() {
        return Ok(false);
    }
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let partial = tempfile::NamedTempFile::new_in(folder).map_err(failed(folder))?;
    fs::write(partial.path(), &bytes).map_err(failed(&to))?;
    partial.persist(&to).map_err(|error| failed(&to)(error.error))?;
    Ok(true)
}
