//! What goes to the registry beside an image: the software in it, what it was built from, a signature.

use std::collections::BTreeMap;
use std::future::Future;
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
use crate::registry::{
    ArtifactManifest, Known, Listing, Moved, Pending, RegistryError, Repository, read_document,
};

/// How many documents are on their way at once.
const PARALLEL: usize = 4;

/// What goes to the registry beside the module's image.
#[derive(Clone, Copy)]
pub(super) struct Attestation<'a> {
    /// Where the image goes.
    pub(super) repository: &'a Repository<'a>,
    /// The layout of the module's image.
    pub(super) folder: &'a Path,
    /// The module.
    pub(super) module: &'a Module,
    /// Who signs, if anyone.
    pub(super) signer: Option<&'a Signer>,
    /// May name the pipeline's sources.
    pub(super) env: &'a Env,
    /// Where what was found in layers is kept.
    pub(super) cache: &'a Path,
}

/// Documents that are in the repository and not attached yet.
struct Documents {
    software: Vec<Pending>,
    statement: Pending,
}

impl Attestation<'_> {
    /// Sends the documents that are not attached yet. What it gives attaches them and signs: that waits until the
    /// image can be referred to.
    ///
    /// # Errors
    /// When the layout is not whole, or the registry refuses.
    pub(super) async fn send(
        self,
    ) -> Result<(Moved, impl Future<Output = Result<Moved, RegistryError>>), RegistryError> {
        let index = descriptor(&self.module.index);
        let known = self.repository.referrers(index.digest).await?;
        let attached =
            known.referrers.iter().any(|known| known.artifact_type.as_deref() == Some(statement::MEDIA_TYPE));
        let (documents, moved) = if attached {
            (None, Moved::default())
        } else {
            let (documents, moved) = self.send_documents(&index, known).await?;
            (Some(documents), moved)
        };
        Ok((moved, self.finish(documents)))
    }

    async fn send_documents(
        self,
        index: &Descriptor,
        known: Known,
    ) -> Result<(Documents, Moved), RegistryError> {
        let layout = Layout::open(self.folder)?;
        let texts: Index = serde_json::from_slice(&read_document(&layout, index)?).map_err(|source| {
            OciError::Document { what: index.digest.to_string(), form: "image index", source }
        })?;
        let statement = statement::attachment(self.module, &texts.annotations, self.env);
        let mut software = Vec::new();
        for built in &self.module.platforms {
            let image = layout.image(index.digest, built.platform)?;
            let contents = ImageContents::of(&layout, &image, self.cache)?;
            software.push((image.descriptor, sbom::attachment(&self.module.name, built.platform, &contents)));
        }
        let (of_index, of_images) = if known.kept {
            (Listing::Kept, Listing::Kept)
        } else {
            (Listing::Found(known.referrers), Listing::Tagged)
        };
        let (empty, moved) = self.repository.put_empty().await?;
        let software = stream::iter(&software)
            .map(|(image, document)| async {
                let (blob, moved) = self.repository.put_blob(document.media_type, &document.bytes).await?;
                let listing = of_images.clone();
                let pending = self.repository.prepare(image, document, empty.clone(), blob, listing).await?;
                Ok::<_, RegistryError>((pending, moved))
            })
            .buffer_unordered(PARALLEL)
            .try_collect::<Vec<_>>();
        let statement = async {
            // It names this image alone, which has none.
            let (blob, moved) = self.repository.put_new_blob(statement.media_type, &statement.bytes).await?;
            let pending = self.repository.prepare(index, &statement, empty.clone(), blob, of_index).await?;
            Ok((pending, moved))
        };
        let (software, (statement, last)) = try_join(software, statement).await?;
        let (software, moves): (Vec<_>, Vec<_>) = software.into_iter().unzip();
        let moved = moves.into_iter().fold(moved.and(last), Moved::and);
        Ok((Documents { software, statement }, moved))
    }

    async fn finish(self, documents: Option<Documents>) -> Result<Moved, RegistryError> {
        if let Some(Documents { software, statement }) = documents {
            // Each platform's image has a list of referrers of its own, so that none waits for another.
            stream::iter(software)
                .map(|software| self.repository.attach(software))
                .buffer_unordered(PARALLEL)
                .try_collect::<()>()
                .await?;
            // The statement last: where it is there, so is the rest.
            self.repository.attach(statement).await?;
        }
        match self.signer {
            Some(signer) => sign(self.repository, self.module, signer).await,
            None => Ok(Moved::default()),
        }
    }
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
