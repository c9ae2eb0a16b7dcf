//! Why work with Custom Vision fails.

use std::path::PathBuf;

use mynah_contracts::{Cancelled, Diagnosis, FaultKind, Label};
use mynah_photo::file::FileError;
use mynah_photo::{DecodeError, EncodeError};

use super::archive::ArchiveError;
use crate::azure::auth::AuthError;
use crate::http::HttpError;

/// Why work with Custom Vision fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VisionError {
    /// The network or the service.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Nobody could be signed in.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// Someone asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The endpoint is no address of a resource.
    #[error("`{endpoint}` is no endpoint of Custom Vision: {what}")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong.
        what: String,
    },
    /// The project's name is none.
    #[error("`{name}` is no name for a project")]
    ProjectName {
        /// What was given.
        name: String,
    },
    /// The resource does not have the domain.
    #[error("the resource has no domain `{wanted}`, it has {found}")]
    NoDomain {
        /// The domain's name.
        wanted: String,
        /// The compact domains there are.
        found: String,
    },
    /// A project of this name exists, but trains something else.
    #[error("the project `{project}` is {found}, `{wanted}` with one label per image is needed")]
    OtherProject {
        /// Its name.
        project: String,
        /// What it is.
        found: String,
        /// The domain that was asked for.
        wanted: String,
    },
    /// More labels than the service takes.
    #[error("the dataset has {labels} labels, Custom Vision takes 2 to {most}")]
    Labels {
        /// How many there are.
        labels: usize,
        /// The most it takes.
        most: usize,
    },
    /// More photos than the service takes.
    #[error("{photos} photos are to be sent, Custom Vision takes at most {most}")]
    Photos {
        /// How many there are.
        photos: usize,
        /// The most it takes.
        most: usize,
    },
    /// A label with fewer photos than the service trains with.
    #[error("`{label}` has {photos} photos to train with, Custom Vision needs {least}")]
    FewPhotos {
        /// The label.
        label: Label,
        /// How many would be sent.
        photos: usize,
        /// How many are needed.
        least: usize,
        /// How many are held out.
        held_out: usize,
    },
    /// A photo whose sides no service takes.
    #[error(
        "the photo `{photo}` has {width} × {height} pixels, a side at most {most} times the other is taken"
    )]
    Aspect {
        /// Its file, below the dataset's folder.
        photo: String,
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
        /// The largest quotient.
        most: u32,
    },
    /// A photo of the dataset is missing or was changed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A photo cannot be brought into a form that the service takes.
    #[error("the photo `{photo}` cannot be decoded")]
    Decode {
        /// Its file, below the dataset's folder.
        photo: String,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// A photo cannot be brought into a form that the service takes.
    #[error("the photo `{photo}` cannot be written anew")]
    Encode {
        /// Its file, below the dataset's folder.
        photo: String,
        /// Why.
        #[source]
        source: EncodeError,
    },
    /// The service took a batch, but not all of its images.
    #[error("Custom Vision did not take the photo `{photo}`: {status}")]
    Refused {
        /// Its file, below the dataset's folder.
        photo: String,
        /// The service's status for it.
        status: String,
    },
    /// The service's answer leaves something open that it must say.
    #[error("Custom Vision answered without {what}")]
    Incomplete {
        /// What is missing.
        what: String,
    },
    /// The service says that nothing changed since a training that is not there.
    #[error(
        "Custom Vision sees no need to train the project `{project}`, but has no finished iteration of it"
    )]
    NothingTrained {
        /// The project's name.
        project: String,
    },
    /// The training ended badly.
    #[error("the training `{iteration}` failed")]
    TrainingFailed {
        /// The iteration's name.
        iteration: String,
    },
    /// The training was not done in time.
    #[error("the training `{iteration}` is not done after {minutes} minutes, its status is `{status}`")]
    TrainingTimeout {
        /// The iteration's name.
        iteration: String,
        /// How long was waited.
        minutes: u64,
        /// What the service says of it.
        status: String,
    },
    /// The export ended badly.
    #[error("the export to {platform} of `{iteration}` failed")]
    ExportFailed {
        /// What it was exported to.
        platform: String,
        /// The iteration's name.
        iteration: String,
    },
    /// The export was not done in time.
    #[error("the export to {platform} of `{iteration}` is not done after {minutes} minutes")]
    ExportTimeout {
        /// What it was exported to.
        platform: String,
        /// The iteration's name.
        iteration: String,
        /// How long was waited.
        minutes: u64,
    },
    /// What was fetched is not what an export holds.
    #[error("the export of `{iteration}` cannot be used")]
    Archive {
        /// The iteration's name.
        iteration: String,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// A training that Custom Vision did not make.
    #[error("the training was not made by Custom Vision")]
    NotOurs,
    /// A file cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl VisionError {
    pub(super) fn http(&self) -> Option<&HttpError> {
        match self {
            Self::Http(error) => Some(error),
            _ => None,
        }
    }

    /// A hint for a code of the service (its OpenAPI description, `CustomVisionErrorCodes`).
    fn hint_of_code(&self) -> Option<&'static str> {
        Some(match self.code()? {
            "401" => {
                "check the training key and that the endpoint is of the same resource; keys are on its page \"Keys and Endpoint\""
            }
            "BadRequestExceedProjectLimit" => {
                "remove a project of the resource, or use a resource of the tier S0"
            }
            "BadRequestExceedTagPerProjectLimit" => "use fewer labels, or a resource of the tier S0",
            "BadRequestExceedIterationPerProjectLimit" => {
                "unpublish or remove iterations in the portal; published ones are never removed from here"
            }
            "BadRequestExceededQuota" | "BadRequestImageExceededCount" => {
                "the resource is full: remove images with `--prune-images`, or use the tier S0"
            }
            "BadRequestTrainingValidationFailed"
            | "BadRequestClassificationTrainingValidationFailed"
            | "BadRequestMultiClassClassificationTrainingValidationFailed" => {
                "each of at least two labels needs five images in the project; look whether someone removed some in the portal"
            }
            "BadRequestProjectUnsupportedExportPlatform" | "BadRequestExportValidationFailed" => {
                "use a project with a compact domain, such as `General (compact)`"
            }
            "NotFoundProject" | "NotFoundIteration" => "it was removed from the resource: train again",
            "ErrorFeaturizationServiceUnavailable" | "ErrorFeaturizationQueueTimeout" => {
                "the service has trouble; run the same command again later, it goes on from what is finished"
            }
            _ => return None,
        })
    }
}

impl Diagnosis for VisionError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Http(error) => error.kind(),
            Self::Auth(error) => error.kind(),
            Self::Cancelled(error) => error.kind(),
            Self::File(error) => error.kind(),
            Self::Endpoint { .. }
            | Self::ProjectName { .. }
            | Self::NoDomain { .. }
            | Self::OtherProject { .. }
            | Self::Labels { .. }
            | Self::Photos { .. }
            | Self::FewPhotos { .. }
            | Self::Aspect { .. }
            | Self::Decode { .. }
            | Self::NotOurs => FaultKind::BadInput,
            Self::Encode { .. } | Self::Write { .. } => FaultKind::Failed,
            Self::Refused { .. }
            | Self::Incomplete { .. }
            | Self::NothingTrained { .. }
            | Self::TrainingFailed { .. }
            | Self::TrainingTimeout { .. }
            | Self::ExportFailed { .. }
            | Self::ExportTimeout { .. }
            | Self::Archive { .. } => FaultKind::ServiceRefused,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Http(error) => return self.hint_of_code().map(str::to_owned).or_else(|| error.hint()),
            Self::Auth(error) => return error.hint(),
            Self::Cancelled(error) => return error.hint(),
            Self::File(error) => return error.hint(),
            Self::Decode { source, .. } => return source.hint(),
            Self::FewPhotos { held_out, .. } if *held_out > 0 => {
                return Some(format!(
                    "{held_out} of its photos are held out to judge the model by; add photos, or judge it by photos kept apart with `--holdout` and `--holdout-fold none`"
                ));
            }
            Self::Endpoint { .. } => {
                "give the endpoint of the training resource, such as https://westeurope.api.cognitive.microsoft.com/"
            }
            Self::ProjectName { .. } => "name the project with `--project`",
            Self::NoDomain { .. } => "name one of these with `--domain`",
            Self::OtherProject { .. } => "name another project with `--project`; a new one is made",
            Self::Labels { .. } => "join labels, or train with `--trainer embedded`",
            Self::Photos { .. } => "train with fewer photos, or with `--trainer embedded`",
            Self::FewPhotos { .. } => "add photos of this label",
            Self::Aspect { .. } => "cut the photo, or remove it, and import again",
            Self::Refused { status, .. } if status.contains("Limit") => {
                "the project is full: remove images with `--prune-images`, or use a resource of the tier S0"
            }
            Self::Refused { .. } => "save it as an ordinary JPEG or PNG and import again, or run again later",
            Self::NothingTrained { .. } => "change the dataset, or train the project once in the portal",
            Self::TrainingFailed { .. } => {
                "run the same command again; if it fails again, look at the project in the portal"
            }
            Self::TrainingTimeout { .. } => {
                "run the same command again: it waits for the same training; `--timeout` says for how many minutes"
            }
            Self::ExportFailed { .. } => "remove the export's iteration in the portal and train again",
            Self::ExportTimeout { .. } => "run the same command again: it waits for the same export",
            Self::Archive { .. } => "run the same command again; if it fails again, train again",
            Self::NotOurs => "export it with the trainer that made it",
            Self::Incomplete { .. } | Self::Encode { .. } | Self::Write { .. } => return None,
        };
        Some(hint.into())
    }
}
