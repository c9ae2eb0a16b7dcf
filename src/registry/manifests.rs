//! Manifests of a repository: asking for them, putting them, the manifests that refer to one.

use mynah_contracts::Sha256Digest;
use serde::{Deserialize, Serialize};

use super::RegistryError;
use super::attach::Referrer;
use super::blobs::Repository;
use crate::http::{Body, Method, Request};
use crate::oci::spec::{canonical, media_type};

/// The types of manifests we can read, Docker's beside those of the specification.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                        application/vnd.docker.distribution.manifest.list.v2+json, \
                        application/vnd.docker.distribution.manifest.v2+json";

/// The largest manifest accepted; the specification asks registries for 4 MiB.
const MAX_MANIFEST: usize = 4 << 20;

/// A manifest as the registry gave it, its digest checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fetched {
    /// The media type, as the registry states it.
    pub(crate) media_type: String,
    /// The digest of the bytes.
    pub(crate) digest: Sha256Digest,
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
}

/// What refers to a manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    /// The manifests whose subject it is.
    pub(crate) referrers: Vec<Referrer>,
    /// Whether the registry keeps that list itself; else it stands under a tag.
    pub(crate) kept: bool,
}

/// A list of referrers: an image index whose descriptors say what kind of thing they are.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Referrers {
    schema_version: u32,
    media_type: String,
    manifests: Vec<Referrer>,
}

impl Repository<'_> {
    fn manifest_url(&self, reference: &str) -> crate::http::Url {
        self.session.address.api(&format!("{}/manifests/{reference}", self.path))
    }

    /// Whether the repository has the manifest.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub(crate) async fn has_manifest(&self, digest: Sha256Digest) -> Result<bool, RegistryError> {
        let doing = format!("look for `{}@{digest}`", self.shown());
        let request = Request::new(Method::HEAD, self.manifest_url(&digest.to_string()))
            .header("accept", ACCEPTED)
            .also(&[404]);
        Ok(self.session.send(request, self.scope, &doing).await?.status() != 404)
    }

    /// The manifest under a tag or digest; nothing where there is none. Asked for by digest, it is checked.
    ///
    /// # Errors
    /// When it cannot be fetched, is larger than allowed, or is not what its digest says.
    pub(crate) async fn manifest(&self, reference: &str) -> Result<Option<Fetched>, RegistryError> {
        let doing = format!("fetch the manifest `{reference}` of `{}`", self.shown());
        let request = Request::get(self.manifest_url(reference)).header("accept", ACCEPTED).also(&[404]);
        let answer = self.session.send(request, self.scope, &doing).await?;
        if answer.status() == 404 {
            return Ok(None);
        }
        if answer.bytes().len() > MAX_MANIFEST {
            return Err(self.session.odd(&doing, format!("with more than {MAX_MANIFEST} bytes")));
        }
        let digest = Sha256Digest::of(answer.bytes());
        let stated =
            answer.header("docker-content-digest").and_then(|text| text.parse::<Sha256Digest>().ok());
        let asked = reference.parse::<Sha256Digest>().ok();
        if let Some(expected) = asked.or(stated).filter(|expected| *expected != digest) {
            return Err(self.lie(&doing, expected, digest.to_string()));
        }
        let stated = answer.header("content-type").unwrap_or_default();
        let media_type = stated.split(';').next().unwrap_or_default().trim().to_owned();
        Ok(Some(Fetched { media_type, digest, bytes: answer.into_bytes() }))
    }

    /// Puts a manifest under a tag, or under its own digest, and says whether the registry keeps referrers itself.
    ///
    /// # Errors
    /// When the registry refuses it, or says that it is something else.
    pub(crate) async fn put_manifest(
        &self,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<bool, RegistryError> {
        let doing = format!("push the manifest `{reference}` to `{}`", self.shown());
        let request =
            Request::put(self.manifest_url(reference)).body(media_type, Body::Bytes(bytes.to_vec()));
        let answer = self.session.send(request, self.scope, &doing).await?;
        let digest = Sha256Digest::of(bytes);
        match answer.header("docker-content-digest") {
            Some(stated) if stated != digest.to_string() => {
                Err(self.lie(&doing, digest, stated.chars().take(80).collect()))
            }
            _ => Ok(answer.header("oci-subject").is_some()),
        }
    }

    /// The manifests whose subject is `digest`: from the registry's list, or where it keeps none, from the tag
    /// that stands in its place (distribution-spec, "Referrers Tag Schema").
    ///
    /// # Errors
    /// When the registry cannot be asked, or the list is no index.
    pub(crate) async fn referrers(&self, digest: Sha256Digest) -> Result<Known, RegistryError> {
        let doing = format!("list what refers to `{}@{digest}`", self.shown());
        let url = self.session.address.api(&format!("{}/referrers/{digest}", self.path));
        let request = Request::get(url).header("accept", media_type::INDEX).also(&[400, 404, 405]);
        let answer = self.session.send(request, self.scope, &doing).await?;
        if answer.status() >= 400 {
            return Ok(Known { referrers: self.listed_by_tag(digest).await?, kept: false });
        }
        Ok(Known { referrers: self.list(answer.bytes(), &doing)?, kept: true })
    }

    /// The list under the tag that stands in the place of a registry's own.
    pub(super) async fn listed_by_tag(&self, digest: Sha256Digest) -> Result<Vec<Referrer>, RegistryError> {
        let tag = referrers_tag(digest);
        match self.manifest(&tag).await? {
            Some(index) => self.list(&index.bytes, &format!("read the list `{}:{tag}`", self.shown())),
            None => Ok(Vec::new()),
        }
    }

    fn list(&self, bytes: &[u8], doing: &str) -> Result<Vec<Referrer>, RegistryError> {
        let list: Referrers = serde_json::from_slice(bytes)
            .map_err(|error| self.session.odd(doing, format!("with no image index ({error})")))?;
        Ok(list.manifests)
    }

    /// Adds `referrer` to `listed`, the list under the tag that stands in the place of a registry's own.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub(super) async fn add_referrer(
        &self,
        subject: Sha256Digest,
        referrer: Referrer,
        mut listed: Vec<Referrer>,
    ) -> Result<(), RegistryError> {
        if listed.iter().any(|known| known.manifest.digest == referrer.manifest.digest) {
            return Ok(());
        }
        listed.push(referrer);
        let list = Referrers { schema_version: 2, media_type: media_type::INDEX.into(), manifests: listed };
        self.put_manifest(&referrers_tag(subject), media_type::INDEX, &canonical(&list)).await.map(drop)
    }
}

/// The tag of the referrers of `digest`, for registries without a list of their own.
fn referrers_tag(digest: Sha256Digest) -> String {
    format!("sha256-{}", digest.hex())
}
