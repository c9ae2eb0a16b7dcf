//! `import-images`: a folder of photos, or a container of Blob Storage → a dataset.

use std::fmt;
use std::path::{Path, PathBuf};

use mynah_contracts::{Artifact as _, Dataset, Fault};
use mynah_photo::Limits;

use crate::agent::{Inputs, OptionKind, OptionSpec};
use crate::artifact;
use crate::azure::auth::TokenSource;
use crate::azure::storage::{Access, BlobError, Container, Credential, Location};
use crate::dataset::{ImportRequest, Source, import};
use crate::http::{Client, Policy};
use crate::step::{Context, Outcome, OutputSpec, Step};

/// The step.
pub struct ImportImages;

/// What is to be imported.
#[derive(Debug)]
pub struct Plan {
    origin: Origin,
    out: PathBuf,
    trained: Option<PathBuf>,
    seed: u64,
    strict: bool,
}

/// Where the photos are.
#[derive(Debug)]
enum Origin {
    Folder(PathBuf),
    Container {
        location: Location,
        /// The service connection to sign in with.
        connection: Option<String>,
    },
}

impl Origin {
    fn read(inputs: &Inputs) -> Result<Self, Fault> {
        let text = inputs.required("source")?;
        let connection = inputs.text("connection")?.map(str::to_owned);
        if Location::is_url(text) {
            let location = Location::parse(text).map_err(BlobError::from)?;
            return Ok(Self::Container { location, connection });
        }
        match connection {
            Some(connection) => Err(inputs
                .refused("connection", &connection, "nothing, or a --source in Blob Storage")
                .into()),
            None => Ok(Self::Folder(text.into())),
        }
    }

    /// The source with what opens it. Keys in the environment come before a sign-in, a service connection before both.
    fn open(&self, context: &Context<'_>) -> Result<Source, Fault> {
        let (location, connection) = match self {
            Self::Folder(folder) => return Ok(Source::Folder(folder.clone())),
            Self::Container { location, connection } => (location, connection.as_deref()),
        };
        let client = Client::new(Policy::default())?;
        let credential = match connection {
            Some(_) => None,
            None => Credential::of_environment(context.env, location).map_err(BlobError::from)?,
        };
        let access = match credential {
            Some(credential) => {
                tracing::debug!("opening `{location}` with {}", credential.words());
                Access::Credential(credential)
            }
            None => Access::SignedIn(
                TokenSource::discover(context.env, &client, connection).map_err(BlobError::from)?,
            ),
        };
        Ok(Source::Container(Box::new(Container::new(client, location.clone(), access))))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Folder(folder) => {
                writeln!(f, "import the photos in {}, each folder's name being a label", folder.display())?;
            }
            Origin::Container { location, connection } => {
                writeln!(f, "import the photos in {location}, each folder's name being a label")?;
                if let Some(connection) = connection {
                    writeln!(f, "sign in with the service connection {connection}")?;
                }
            }
        }
        if let Some(trained) = &self.trained {
            writeln!(f, "import nothing if the photos are those of {}", trained.display())?;
        }
        writeln!(f, "{} unusable files", if self.strict { "stop at" } else { "leave out" })?;
        writeln!(f, "deal them into folds with seed {}", self.seed)?;
        write!(f, "write {}", self.out.join(Dataset::FILE).display())
    }
}

impl Step for ImportImages {
    const NAME: &'static str = "import-images";
    const TASK: &'static str = "ImportImages";
    const ABOUT: &'static str = "Imports a folder of labelled photos as a dataset";
    const DETAILS: &'static str = "\
Reads a tree of folders: the first folder below the source is the label, and it may hold folders of its own.
JPEG, PNG, BMP, GIF and WebP are told by their content. Copies each photo, deals it into a cross-validation fold,
makes a contact sheet of each label, and writes dataset.json last. Run again, it touches only what changed.

The same photo twice under a label counts once; under two labels it is left out and both places are named, as are
files that are damaged, empty, too small or too large. At least 2 labels with 5 photos each are needed.

From Blob Storage only what is new or changed is fetched. The container opens with a service connection, with
AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, or with whoever is signed in: an
application in the environment, the machine's managed identity, or the Azure CLI.

Examples:
  import-images --source photos --out work/dataset
  import-images --source https://ACCOUNT.blob.core.windows.net/photos --out work/dataset";
    const OPTIONS: &'static [OptionSpec] = &[
        OptionSpec::required(
            "source",
            OptionKind::Path,
            "The folder with one folder of photos for each label, such as `photos/apple/1.jpg`; or the URL of a container of Blob Storage, with or without a folder below.",
        ),
        OptionSpec::optional(
            "connection",
            OptionKind::Text,
            "The service connection that may read the container. In a pipeline alone.",
        ),
        OptionSpec::optional(
            "trained",
            OptionKind::Path,
            "The dataset.json, or its folder, that the last model was trained on: `changed` then says whether the photos differ from it, and a container that has not changed since is not fetched.",
        ),
        OptionSpec::required(
            "out",
            OptionKind::Path,
            "The dataset's folder: new, empty, or the result of an earlier import.",
        ),
        OptionSpec::with_default(
            "seed",
            OptionKind::Integer { min: 0, max: u64::MAX },
            "1",
            "What the cross-validation folds are drawn from.",
        ),
        OptionSpec::optional(
            "strict",
            OptionKind::Switch,
            "Stop at damaged, empty, too small or too large photos and at photos under two labels, instead of leaving them out.",
        ),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec { name: "photos", about: "How many photos the dataset holds." },
        OutputSpec { name: "labels", about: "How many labels it has." },
        OutputSpec { name: "datasetDigest", about: "The digest of its photos, labels and folds." },
        OutputSpec {
            name: "changed",
            about: "`true` if the dataset is other than the one of --trained or, without it, than it was before; else `false`.",
        },
    ];

    type Plan = Plan;

    fn plan(inputs: &Inputs) -> Result<Plan, Fault> {
        Ok(Plan {
            origin: Origin::read(inputs)?,
            trained: inputs.path("trained")?,
            out: inputs.required_path("out")?,
            seed: inputs.integer("seed")?.unwrap_or(1),
            strict: inputs.switch("strict")?,
        })
    }

    fn run(&self, plan: &Plan, context: &Context<'_>) -> Result<Outcome, Fault> {
        let trained = plan.trained.as_deref().map(load_dataset).transpose()?;
        let request = ImportRequest {
            source: plan.origin.open(context)?,
            out: plan.out.clone(),
            seed: plan.seed,
            strict: plan.strict,
            limits: Limits::default(),
            trained,
        };
        let imported = import(&request, context.monitor)?;
        let dataset = &imported.dataset;
        let changed = match &request.trained {
            Some(trained) => trained.digest != dataset.digest,
            None => imported.changed,
        };
        for count in &dataset.labels {
            tracing::debug!("{} photos of `{}`", count.photos, count.label);
        }
        let (photos, labels) = (dataset.photos.len(), dataset.labels.len());
        Ok(Outcome {
            headline: format!(
                "imported {photos} photos of {labels} labels ({} fetched, {} copied, {} removed, {} files left out): {}",
                imported.fetched,
                imported.copied,
                imported.removed,
                dataset.skipped.len(),
                dataset.digest
            ),
            variables: vec![
                ("photos", photos.to_string()),
                ("labels", labels.to_string()),
                ("datasetDigest", dataset.digest.to_string()),
                ("changed", changed.to_string()),
            ],
            ..Outcome::default()
        })
    }
}

/// The dataset of a folder, or of its `dataset.json`.
fn load_dataset(path: &Path) -> Result<Dataset, artifact::LoadError> {
    let is_record = path.file_name().is_some_and(|name| name == Dataset::FILE);
    let folder = path.parent().filter(|_| is_record).unwrap_or(path);
    // A bare file name has an empty parent, which is this folder.
    artifact::load(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}
