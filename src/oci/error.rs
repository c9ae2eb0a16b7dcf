//! Why an image could not be written, read or unpacked.

use std::io;
use std::path::{Path, PathBuf};

use mynah_contracts::{Cancelled, Diagnosis, FaultKind, Platform, Sha256Digest};

/// Why an image could not be written, read or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The file system refused.
    #[error("cannot {action} `{path}`", path = path.display())]
    Io {
        /// What was tried, such as `write`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The folder holds something else.
    #[error("`{path}` holds files but is no OCI image layout", path = .0.display())]
    NotALayout(PathBuf),
    /// A document is not what the image specification says.
    #[error("`{what}` is not a valid {form}")]
    Document {
        /// A file name or digest.
        what: String,
        /// Which document it should be, such as `image index`.
        form: &'static str,
        /// Where it breaks.
        #[source]
        source: serde_json::Error,
    },
    /// A document says something this version cannot read.
    #[error("`{what}` {problem}")]
    Unsupported {
        /// A file name or digest.
        what: String,
        /// What is unsupported about it.
        problem: String,
    },
    /// A named blob is not there.
    #[error("the blob `{digest}` is missing in `{layout}`", layout = layout.display())]
    MissingBlob {
        /// Its digest.
        digest: Sha256Digest,
        /// The layout's folder.
        layout: PathBuf,
    },
    /// A blob's bytes are not those its descriptor promises.
    #[error("the blob `{expected}` in `{layout}` {problem}", layout = layout.display())]
    Corrupt {
        /// The digest promised.
        expected: Sha256Digest,
        /// The layout's folder.
        layout: PathBuf,
        /// How it differs.
        problem: String,
    },
    /// The image has nothing for this platform.
    #[error("the image `{digest}` has nothing for {platform}, only {available}")]
    NoSuchPlatform {
        /// The image index.
        digest: Sha256Digest,
        /// The platform asked for.
        platform: Platform,
        /// The platforms it has.
        available: String,
    },
    /// A file differs from what the artifact that names it says.
    #[error("`{path}` is not the file its artifact names: expected {expected}, found {found}", path = path.display())]
    ChangedFile {
        /// The file.
        path: PathBuf,
        /// The digest in the artifact.
        expected: Sha256Digest,
        /// The digest of the bytes read.
        found: Sha256Digest,
    },
    /// A layer's content was not the same when it was read a second time.
    #[error("a file changed while the image was being built")]
    ChangedMeanwhile,
    /// A layer holds what cannot be unpacked safely.
    #[error("the layer's entry `{entry}` {problem}")]
    UnsafeEntry {
        /// The entry's name, escaped and shortened.
        entry: String,
        /// Why it is refused.
        problem: String,
    },
    /// A layer is larger than allowed.
    #[error("the image holds more than {limit}")]
    TooLarge {
        /// The limit, in words.
        limit: String,
    },
    /// The layer is no valid tar or gzip stream.
    #[error("the layer `{layer}` cannot be read")]
    LayerStream {
        /// Its digest, or where it came from.
        layer: String,
        /// What the decoder said.
        #[source]
        source: io::Error,
    },
    /// Someone asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// Two things were to be put at one place in a layer.
    #[error("`{0}` is put into a layer twice")]
    DuplicateEntry(String),
}

impl OciError {
    /// Names the place where the file system refused.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

impl Diagnosis for OciError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => FaultKind::BadInput,
            Self::Io { .. } => FaultKind::Failed,
            Self::Cancelled => FaultKind::Cancelled,
            _ => FaultKind::BadInput,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Cancelled => return Cancelled.hint(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space, then run again; nothing was lost"
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "give this user access to the folder, or choose another one"
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                "choose a folder that can be written"
            }
            Self::NotALayout(_) => "choose an empty folder, so that nothing of yours is replaced",
            Self::MissingBlob { .. } | Self::Corrupt { .. } => "run build-modules again: it mends the layout",
            Self::ChangedFile { .. } => "run the step that wrote it again, or restore the file",
            Self::ChangedMeanwhile => "run it again when nothing writes to the folders it reads",
            Self::NoSuchPlatform { .. } => "run build-modules for this platform",
            _ => return None,
        };
        Some(hint.into())
    }
}
