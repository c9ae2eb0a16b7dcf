//! Why an import or a reading of a dataset fails, and what its reader can do.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use mynah_contracts::{ArtifactError, Cancelled, Diagnosis, FaultKind, Label, LabelError, Skipped};
use mynah_photo::EncodeError;

use crate::azure::storage::BlobError;
use crate::http::HttpError;

/// How many of a kind a message names.
const NAMED: usize = 10;

/// The fewest labels a model can tell apart.
pub(super) const MIN_LABELS: usize = 2;

/// The fewest photos of a label: one for each cross-validation fold.
pub(super) const MIN_PHOTOS: u32 = mynah_contracts::FOLDS as u32;

/// Why an import ends without a dataset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Someone asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A file or folder cannot be read or written.
    #[error("cannot {what} `{path}`")]
    Io {
        /// What was tried, such as `read the folder`.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The source is missing, or no folder.
    #[error("`{path}` is not a folder that can be read")]
    Source {
        /// The source.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A name that is not UTF-8.
    #[error("the name `{shown}` is not valid UTF-8")]
    Name {
        /// The path, with a replacement character for each bad byte.
        shown: String,
    },
    /// Folder names that cannot be labels.
    #[error("{}", enumerate("folders whose names cannot be labels", .0, |(folder, why)| format!("`{}` ({why})", folder.escape_debug())))]
    BadLabels(Vec<(String, LabelError)>),
    /// A label that names something else of a dataset.
    #[error("the folder `{0}` has a name that a dataset needs for itself")]
    ReservedLabel(Label),
    /// Two labels that differ only in letter case.
    #[error("the labels `{0}` and `{1}` differ only in letter case")]
    CaseCollision(Label, Label),
    /// Nothing to learn from.
    #[error("no photos in `{place}`: {skipped} files were left out")]
    NoPhotos {
        /// The source.
        place: String,
        /// How many files were looked at.
        skipped: usize,
    },
    /// Nothing to tell apart.
    #[error("all photos have the label `{0}`, at least {MIN_LABELS} labels are needed")]
    FewLabels(Label),
    /// Labels with too few photos.
    #[error("{}", enumerate(&format!("labels with fewer than {MIN_PHOTOS} photos"), .0, |(label, count)| format!("`{label}` ({count})")))]
    FewPhotos(Vec<(Label, u32)>),
    /// Unusable files, where none are allowed.
    #[error("{}", enumerate("unusable files", .0, |skipped| format!("`{}`: {}", skipped.source, skipped.detail)))]
    Defects(Vec<Skipped>),
    /// A photo was written to while it was imported.
    #[error("`{path}` changed while it was being imported")]
    Changed {
        /// The photo.
        path: PathBuf,
    },
    /// One of source and output lies in the other.
    #[error("the source `{source_folder}` and the output `{out}` lie within each other")]
    Overlap {
        /// The source.
        source_folder: PathBuf,
        /// The output.
        out: PathBuf,
    },
    /// The output holds something that is no dataset.
    #[error("`{out}` is not empty and holds no `dataset.json`")]
    Foreign {
        /// The output.
        out: PathBuf,
    },
    /// Another import writes to the output, or did so since this one looked at it.
    #[error("another import writes to `{out}`")]
    Busy {
        /// The output.
        out: PathBuf,
    },
    /// The output's `dataset.json` cannot be followed.
    #[error("the dataset in `{out}` cannot be brought up to date")]
    Previous {
        /// The output.
        out: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ArtifactError,
    },
    /// The container cannot be had.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A contact sheet cannot be made.
    #[error("cannot make the contact sheet of `{label}`")]
    Sheet {
        /// Whose.
        label: Label,
        /// Why.
        #[source]
        source: EncodeError,
    },
}

/// `labels with too few photos: a, b`; beyond [`NAMED`] only counted.
fn enumerate<T>(what: &str, items: &[T], show: impl Fn(&T) -> String) -> String {
    let named: Vec<String> = items.iter().take(NAMED).map(show).collect();
    let mut text = format!("{what}: {}", named.join(", "));
    if items.len() > NAMED {
        let _ = write!(text, " and {} more", items.len() - NAMED);
    }
    text
}

impl ImportError {
    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

impl From<HttpError> for ImportError {
    fn from(error: HttpError) -> Self {
        Self::Blob(error.into())
    }
}

impl Diagnosis for ImportError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Cancelled(_) => FaultKind::Cancelled,
            Self::Blob(error) => error.kind(),
            Self::Io { .. } | Self::Busy { .. } | Self::Changed { .. } | Self::Sheet { .. } => {
                FaultKind::Failed
            }
            _ => FaultKind::BadInput,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Cancelled(cancelled) => return cancelled.hint(),
            Self::Blob(error) => return error.hint(),
            Self::Sheet { .. } => return None,
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "free some space and run the import again; what it has copied is kept"
                }
                io::ErrorKind::PermissionDenied => "check who may read and write there",
                io::ErrorKind::ReadOnlyFilesystem => "name a folder with `--out` that can be written",
                _ => return None,
            },
            Self::Source { .. } => "--source takes a folder that holds one folder of photos for each label",
            Self::Name { .. } => "rename it, since labels and records are UTF-8 text",
            Self::BadLabels(_) | Self::ReservedLabel(_) => {
                "rename the folder; its name is the word that is spoken"
            }
            Self::CaseCollision(..) => "merge the two folders or rename one",
            Self::NoPhotos { .. } => {
                "put JPEG, PNG, BMP, GIF or WebP photos into one folder for each label, such as `photos/apple/1.jpg`"
            }
            Self::FewLabels(_) => "add a folder with photos of something else, such as the empty background",
            Self::FewPhotos(_) => "add photos to these folders, or remove the folders",
            Self::Defects(_) => "replace or remove these files, or import without --strict to leave them out",
            Self::Changed { .. } => "run the import again once nothing writes to the photos any more",
            Self::Overlap { .. } => "give --out a folder outside --source",
            Self::Foreign { .. } => {
                "give --out a new or empty folder, so that nothing of yours gets mixed up"
            }
            Self::Busy { .. } => {
                "run this one again when the other has ended, or give each job an --out of its own"
            }
            Self::Previous { .. } => "give --out another folder, or remove this one to import from the start",
        };
        Some(hint.into())
    }
}
