//! Documents that refer to an image: artifacts with a `subject` (image-spec, "Guidelines for Artifact Usage").

use std::collections::BTreeMap;

use futures::future::try_join;
use mynah_contracts::Sha256Digest;
use serde::{Deserialize, Serialize};

use super::blobs::{Content, Repository};
use super::{Moved, RegistryError};
use crate::oci::spec::{Descriptor, canonical, media_type};

/// The configuration of artifacts that have none.
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// Its content.
const EMPTY: &[u8] = b"{}";

/// A document to be attached to an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Attachment {
    /// What kind of thing it is.
    pub(crate) artifact_type: &'static str,
    /// The media type of its bytes.
    pub(crate) media_type: &'static str,
    /// The document.
    pub(crate) bytes: Vec<u8>,
}

/// A manifest of an artifact. Registries store it as they store images.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ArtifactManifest {
    /// Always 2.
    pub(crate) schema_version: u32,
    /// Always that of an image manifest.
    pub(crate) media_type: String,
    /// What kind of thing it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    /// Its configuration.
    pub(crate) config: Descriptor,
    /// Its documents.
    pub(crate) layers: Vec<Descriptor>,
    /// What it refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<Descriptor>,
    /// Free texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A descriptor in a list of referrers, which also says what kind of thing it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Referrer {
    /// The manifest.
    #[serde(flatten)]
    pub(crate) manifest: Descriptor,
    /// What kind of thing it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
}

/// A manifest that will attach a document to its subject, everything it names being in the repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pending {
    subject: Sha256Digest,
    referrer: Referrer,
    bytes: Vec<u8>,
    /// Where the registry keeps no list of what refers to a manifest: the one under a tag. The manifest is then
    /// there, and only that list says what it is attached to.
    listed: Option<Vec<Referrer>>,
}

/// Where it is listed what refers to a manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Listing {
    /// The registry keeps the list itself.
    Kept,
    /// Under a tag, where somebody has to look.
    Tagged,
    /// Under a tag, where this was found.
    Found(Vec<Referrer>),
}

impl Repository<'_> {
    /// Sees to it that the repository has the configuration of artifacts that have none.
    ///
    /// # Errors
    /// When the registry refuses it.
    pub(crate) async fn put_empty(&self) -> Result<(Descriptor, Moved), RegistryError> {
        self.put_blob(EMPTY_TYPE, EMPTY).await
    }

    /// Sees to it that nothing is left but to attach `document` to the manifest `subject`, which need not be there
    /// yet. The repository has both `document` and `config`.
    ///
    /// # Errors
    /// When the registry refuses the manifest, or cannot be asked what refers to `subject`.
    pub(crate) async fn prepare(
        &self,
        subject: &Descriptor,
        attachment: &Attachment,
        config: Descriptor,
        document: Descriptor,
        listing: Listing,
    ) -> Result<Pending, RegistryError> {
        let plain = Descriptor::new(&subject.media_type, subject.digest, subject.size);
        let manifest = ArtifactManifest {
            schema_version: 2,
            media_type: media_type::MANIFEST.into(),
            artifact_type: Some(attachment.artifact_type.into()),
            config,
            layers: vec![document],
            subject: Some(plain),
            annotations: BTreeMap::new(),
        };
        let bytes = canonical(&manifest);
        let descriptor = Descriptor::of(media_type::MANIFEST, &bytes);
        let reference = descriptor.digest.to_string();
        let put = || self.put_manifest(&reference, media_type::MANIFEST, &bytes);
        let listed = match listing {
            Listing::Kept => None,
            Listing::Tagged => Some(try_join(put(), self.listed_by_tag(subject.digest)).await?.1),
            Listing::Found(listed) => {
                put().await?;
                Some(listed)
            }
        };
        let referrer = Referrer { manifest: descriptor, artifact_type: manifest.artifact_type };
        Ok(Pending { subject: subject.digest, referrer, bytes, listed })
    }

    /// Attaches what was prepared. The same document twice is once.
    ///
    /// # Errors
    /// When the registry refuses it.
    pub(crate) async fn attach(&self, pending: Pending) -> Result<(), RegistryError> {
        let Pending { subject, referrer, bytes, listed } = pending;
        if let Some(listed) = listed {
            return self.add_referrer(subject, referrer, listed).await;
        }
        let reference = referrer.manifest.digest.to_string();
        if !self.put_manifest(&reference, media_type::MANIFEST, &bytes).await? {
            // It answers for a list that it does not keep.
            let listed = self.listed_by_tag(subject).await?;
            self.add_referrer(subject, referrer, listed).await?;
        }
        Ok(())
    }

    /// Sees to it that the repository has these bytes as a blob.
    ///
    /// # Errors
    /// When the registry refuses them.
    pub(crate) async fn put_blob(
        &self,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(Descriptor, Moved), RegistryError> {
        let blob = Descriptor::of(media_type, bytes);
        if self.has_blob(blob.digest).await? {
            return Ok((blob, Moved { present: 1, ..Moved::default() }));
        }
        self.put_new_blob(media_type, bytes).await
    }

    /// Puts these bytes as a blob without asking whether it is there. If it is, it is there once more, and once.
    ///
    /// # Errors
    /// When the registry refuses them.
    pub(crate) async fn put_new_blob(
        &self,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(Descriptor, Moved), RegistryError> {
        let blob = Descriptor::of(media_type, bytes);
        self.upload(&blob, Content::Bytes(bytes), None, &|_| {}).await?;
        let moved = Moved { sent: 1, bytes: blob.size, ..Moved::default() };
        Ok((blob, moved))
    }
}
