//! `mynah trace`: from an image in a registry back to the model, the dataset and the photos it learnt from.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use mynah_contracts::{Dataset, Diagnosis, Fault, FaultKind, Monitor, Sha256Digest};
use serde::Deserialize;

use crate::agent::{Env, Inputs, OptionKind, OptionSpec};
use crate::artifact;
use crate::http;
use crate::oci::reference::ImageReference;
use crate::oci::spec::{Descriptor, PlatformFields, annotation};
use crate::provenance::signature::{self, Checker};
use crate::publish;
use crate::registry::{Registry, RegistryError, Repository, Scope, SignIn};

/// The largest payload of a signature that is read; cosign's have some hundred bytes.
const MAX_PAYLOAD: u64 = 1 << 20;

/// What `--help` adds.
pub const DETAILS: &str = "\
Reads what an image says of itself: its model and its dataset, the software and the statement attached to
it, its signatures. With --dataset, the folder that import-images wrote, it lists the photos and fails where
that dataset is not the one. With --key it fails where nobody with that key signed the image.

A running container's image: `docker inspect --format '{{index .RepoDigests 0}}' IMAGE`, or on Kubernetes
the pod's `imageID`.

Example:
  mynah trace registry.example/factory/mynah-runtime@sha256:… --dataset work/dataset";

/// The options, beside the image.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::optional(
        "dataset",
        OptionKind::Path,
        "The folder that import-images wrote, to list its photos.",
    ),
    OptionSpec::optional(
        "key",
        OptionKind::Path,
        "A public key (ECDSA on P-256, PEM) that must have signed the image.",
    ),
    publish::CONNECTION,
    publish::INSECURE,
];

/// What is asked.
#[derive(Debug)]
pub struct Plan {
    image: ImageReference,
    dataset: Option<PathBuf>,
    key: Option<PathBuf>,
    connection: Option<String>,
    insecure: bool,
}

/// Why an image cannot be traced.
#[derive(Debug, thiserror::Error)]
enum TraceError {
    /// The text names no image.
    #[error(transparent)]
    Reference(#[from] crate::oci::reference::ImageReferenceError),
    /// The image says nothing of a dataset.
    #[error("the image `{0}` does not say what it learnt from")]
    Silent(String),
    /// The dataset is another.
    #[error("the dataset in `{path}` is {found}, the image learnt from {expected}", path = .path.display())]
    OtherDataset {
        /// The folder given.
        path: PathBuf,
        /// Its dataset.
        found: Sha256Digest,
        /// The image's.
        expected: String,
    },
    /// No signature of the key is on the image.
    #[error("the image `{image}` is not signed with the key `{key}`", key = .key.display())]
    Unsigned {
        /// The image.
        image: String,
        /// The key given.
        key: PathBuf,
    },
}

impl Diagnosis for TraceError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Unsigned { .. } => FaultKind::Failed,
            _ => FaultKind::BadInput,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Reference(_) => "name it as `docker pull` does, best with its digest".into(),
            Self::Silent(_) => "only images that build-modules made say so".into(),
            Self::OtherDataset { .. } => {
                "give the dataset of that day; a pipeline keeps it as an artifact of the run".into()
            }
            Self::Unsigned { .. } => {
                "do not run it before you know who pushed it; build-modules signs with --sign-key".into()
            }
        })
    }
}

/// What the registry tells.
struct Found {
    digest: Sha256Digest,
    texts: BTreeMap<String, String>,
    platforms: Vec<String>,
    attached: BTreeMap<String, u32>,
    signed: usize,
    signed_by_key: bool,
}

/// An index or a manifest, as far as it is looked at.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Plan {
    /// What the options and the image's name say.
    ///
    /// # Errors
    /// A name that is none, and options that are not what they should be.
    pub fn new(image: &str, inputs: &Inputs) -> Result<Self, Fault> {
        Ok(Self {
            image: image.parse().map_err(TraceError::from)?,
            dataset: inputs.path("dataset")?,
            key: inputs.path("key")?,
            connection: inputs.text("registryConnection")?.map(str::to_owned),
            insecure: inputs.switch("insecureRegistry")?,
        })
    }

    /// Asks the registry and gives the table for people.
    ///
    /// # Errors
    /// When the image cannot be read, its dataset is another, or nobody signed it who should have.
    pub fn run(&self, env: &Env, monitor: &dyn Monitor) -> Result<String, Fault> {
        let checker = self.key.as_deref().map(Checker::read).transpose()?;
        let sign_in = SignIn::new(env.clone(), self.connection.clone(), self.insecure);
        let registry = Registry::new(self.image.registry(), &sign_in, monitor)?;
        let found = http::block_on(monitor, self.ask(&registry, checker.as_ref()))?;
        let image = format!("{}/{}@{}", self.image.registry(), self.image.repository(), found.digest);
        if let Some(key) = self.key.as_ref().filter(|_| !found.signed_by_key) {
            return Err(TraceError::Unsigned { image, key: key.clone() }.into());
        }
        let text = |key: &str| found.texts.get(key).cloned();
        let mut rows = vec![
            ("image", Some(image.clone())),
            ("module", text(annotation::TITLE)),
            ("version", text(annotation::VERSION)),
            ("built", text(annotation::CREATED)),
            ("platforms", Some(found.platforms.join(", ")).filter(|platforms| !platforms.is_empty())),
            ("model", text(annotation::MODEL)),
            ("dataset", text(annotation::DATASET)),
        ];
        rows.extend(
            found.attached.iter().map(|(kind, count)| ("attached", Some(format!("{count} × {kind}")))),
        );
        rows.push((
            "signatures",
            Some(match (found.signed, &self.key) {
                (0, _) => "none".into(),
                (count, None) => format!("{count}, none checked: give --key"),
                (count, Some(key)) => format!("{count}, one of them with {}", key.display()),
            }),
        ));
        let mut table = String::new();
        for (name, value) in rows.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            // Writing to a String cannot fail.
            let _ = writeln!(table, "{name:<11} {}", value.escape_debug());
        }
        if let Some(folder) = &self.dataset {
            let learnt_from = text(annotation::DATASET).ok_or(TraceError::Silent(image))?;
            list_photos(folder, &learnt_from, &mut table)?;
        }
        Ok(table)
    }

    async fn ask(&self, registry: &Registry, checker: Option<&Checker>) -> Result<Found, RegistryError> {
        let scope = Scope::pull(self.image.repository());
        let repository = registry.repository(self.image.repository(), &scope);
        let digest = self.image.digest().map(|digest| digest.to_string());
        let asked = digest.as_deref().or(self.image.tag()).unwrap_or("latest");
        let top = repository.manifest(asked).await?;
        let top = top.ok_or_else(|| RegistryError::NoSuchImage(self.image.to_string()))?;
        let document: Document = serde_json::from_slice(&top.bytes).map_err(|source| {
            crate::oci::OciError::Document { what: top.digest.to_string(), form: "image manifest", source }
        })?;
        let mut attached = BTreeMap::new();
        let subjects = document.manifests.iter().map(|manifest| manifest.digest);
        for subject in [top.digest].into_iter().chain(subjects) {
            for referrer in repository.referrers(subject).await?.referrers {
                let kind = referrer.artifact_type.unwrap_or_else(|| "something".into());
                *attached.entry(kind).or_insert(0) += 1;
            }
        }
        let platform = |manifest: &Descriptor| {
            manifest.platform.as_ref().and_then(PlatformFields::known).map(|known| known.to_string())
        };
        let payloads = publish::signatures(&repository, &signature::tag(top.digest)).await?;
        let mut signed_by_key = false;
        if let Some(checker) = checker {
            for payload in payloads.iter().filter(|payload| payload.size <= MAX_PAYLOAD) {
                signed_by_key |= is_signed(&repository, payload, checker, top.digest).await?;
            }
        }
        Ok(Found {
            digest: top.digest,
            texts: document.annotations,
            platforms: document.manifests.iter().filter_map(platform).collect(),
            attached,
            signed: payloads.len(),
            signed_by_key,
        })
    }
}

async fn is_signed(
    repository: &Repository<'_>,
    payload: &Descriptor,
    checker: &Checker,
    digest: Sha256Digest,
) -> Result<bool, RegistryError> {
    let mut bytes = Vec::new();
    repository.fetch(payload, &mut bytes).await?;
    Ok(checker.accepts(payload, &bytes, digest))
}

fn list_photos(folder: &Path, learnt_from: &str, table: &mut String) -> Result<(), Fault> {
    let dataset: Dataset = artifact::load(folder)?;
    if dataset.digest.to_string() != learnt_from {
        return Err(TraceError::OtherDataset {
            path: folder.to_owned(),
            found: dataset.digest,
            expected: learnt_from.escape_debug().to_string(),
        }
        .into());
    }
    let _ = writeln!(table, "{:<11} {}", "photos", dataset.photos.len());
    for photo in &dataset.photos {
        let _ = writeln!(table, "  {}  {}  {}", photo.sha256, photo.label, photo.source.escape_debug());
    }
    Ok(())
}
