//! What goes to the registry beside an image: the software in it, what it was built from, a signature.

use std::collections::BTreeMap;
use std::path::Path;

use futures::future::try_join;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use mynah_contracts::Module;

use super::descriptor;
use crate::agent::Env;
use crate::oci::OciError;
use crate::oci::layout::Layout;
use crate::oci::spec::{Descriptor, Index, canonical, media_type};
use crate::provenance::image_contents::ImageContents;
use crate::provenance::signature::{self, Signer};
use crate::provenance::{sbom, statement};
use crate::registry::{ArtifactManifest, Moved, Registry, RegistryError, Repository, Scope, read_document};

/// How many lists of software are on their way at once.
const PARALLEL: usize = 4;

/// What a statement and a list of software are made with, beside the image.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    /// May name the pipeline's sources.
    pub(super) env: &'a Env,
    /// Where what was found in layers is kept.
    pub(super) cache: &'a Path,
}

/// Attaches to the module's image in `path` what is not attached yet. `folder` is its layout.
///
/// The statement is attached last: where it is there, so is the rest.
///
/// # Errors
/// When the layout is not whole, or the registry refuses.
pub(super) async fn attest(
    registry: &Registry,
    path: &str,
    folder: &Path,
    module: &Module,
    signer: Option<&Signer>,
    with: Surroundings<'_>,
) -> Result<Moved, RegistryError> {
    let scope = Scope::push(path);
    let repository = registry.repository(path, &scope);
    let index = descriptor(&module.index);
    // Most images are new, so that something is attached: what every attachment needs is seen to meanwhile.
    let (known, (empty, mut moved)) =
        try_join(repository.referrers(index.digest), repository.put_empty()).await?;
    if !known.iter().any(|known| known.artifact_type.as_deref() == Some(statement::MEDIA_TYPE)) {
        let layout = Layout::open(folder)?;
        let texts: Index = serde_json::from_slice(&read_document(&layout, &index)?).map_err(|source| {
            OciError::Document { what: index.digest.to_string(), form: "image index", source }
        })?;
        let statement = statement::attachment(module, &texts.annotations, with.env);
        let mut software = Vec::new();
        for built in &module.platforms {
            let image = layout.image(index.digest, built.platform)?;
            let contents = ImageContents::of(&layout, &image, with.cache)?;
            software.push((image.descriptor, sbom::attachment(&module.name, built.platform, &contents)));
        }
        // Each platform's image has a list of referrers of its own, so that none waits for another.
        let software = stream::iter(&software)
            .map(|(image, document)| async {
                let (blob, moved) = repository.put_blob(document.media_type, &document.bytes).await?;
                repository.refer(image, document, empty.clone(), blob).await?;
                Ok::<_, RegistryError>(moved)
            })
            .buffer_unordered(PARALLEL)
            .try_fold(Moved::default(), |sum, moved| async move { Ok(sum.and(moved)) });
        let (attached, (blob, sent)) =
            try_join(software, repository.put_blob(statement.media_type, &statement.bytes)).await?;
        repository.refer(&index, &statement, empty, blob).await?;
        moved = moved.and(attached).and(sent);
    }
    if let Some(signer) = signer {
        moved = moved.and(sign(&repository, module, signer).await?);
    }
    Ok(moved)
}

/// Adds a signature to those of the image, unless it is among them.
async fn sign(repository: &Repository<'_>, module: &Module, signer: &Signer) -> Result<Moved, RegistryError> {
    let payload = signature::payload(&module.repository, module.index.digest);
    let signed = signer.sign(&payload);
    let tag = signature::tag(module.index.digest);
    let mut payloads = signatures(repository, &tag).await?;
    if payloads.contains(&signed) {
        return Ok(Moved::default());
    }
    let (_, first) = repository.put_blob(signature::PAYLOAD_TYPE, &payload).await?;
    payloads.push(signed);
    let configuration = signature::configuration(&payloads);
    let (config, second) = repository.put_blob(media_type::CONFIG, &configuration).await?;
    let manifest = ArtifactManifest {
        schema_version: 2,
        media_type: media_type::MANIFEST.into(),
        artifact_type: None,
        config,
        layers: payloads,
        subject: None,
        annotations: BTreeMap::new(),
    };
    repository.put_manifest(&tag, media_type::MANIFEST, &canonical(&manifest)).await?;
    Ok(first.and(second))
}

/// The signed payloads under `tag`.
///
/// # Errors
/// When the registry cannot be asked, or has something else there.
pub(crate) async fn signatures(
    repository: &Repository<'_>,
    tag: &str,
) -> Result<Vec<Descriptor>, RegistryError> {
    let Some(found) = repository.manifest(tag).await? else { return Ok(Vec::new()) };
    let manifest: ArtifactManifest = serde_json::from_slice(&found.bytes).map_err(|source| {
        OciError::Document { what: format!("{}:{tag}", repository.shown()), form: "image manifest", source }
    })?;
    Ok(manifest.layers)
}
