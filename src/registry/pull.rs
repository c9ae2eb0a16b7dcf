//! Base images from registries, kept on this machine by digest.
//!
//! What a digest names never changes: an image pinned by digest whose blobs are kept needs no network.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use mynah_contracts::{Fault, Hasher, Monitor, Platform, Sha256Digest};
use serde::de::DeserializeOwned;

use super::blobs::{ATTEMPTS, Repository, may_do_better};
use super::session::Scope;
use super::{Registry, RegistryError, SignIn};
use crate::http;
use crate::oci::OciError;
use crate::oci::base::{BaseImage, BaseImages, BaseLayer, layer_media_type};
use crate::oci::reference::ImageReference;
use crate::oci::spec::{Descriptor, ImageConfig, Index, Manifest, PlatformFields, media_type};

/// How many layers are fetched at once.
const PARALLEL: usize = 4;

/// The largest document accepted; the specification asks registries for 4 MiB.
const MAX_DOCUMENT: u64 = 4 << 20;

/// The media type of Docker's image indexes.
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Fetches base images from the registries their references name.
pub struct RegistryImages<'a> {
    sign_in: SignIn,
    cache: Cache,
    monitor: &'a dyn Monitor,
}

impl<'a> RegistryImages<'a> {
    /// Keeps blobs in `folder`, which is made when it is needed.
    pub fn new(sign_in: SignIn, folder: PathBuf, monitor: &'a dyn Monitor) -> Self {
        Self { sign_in, cache: Cache { folder }, monitor }
    }

    async fn fetch(
        &self,
        registry: &Registry,
        reference: &ImageReference,
        platform: Platform,
    ) -> Result<BaseImage, RegistryError> {
        let scope = Scope::pull(reference.repository());
        let source = Repository { session: &registry.session, path: reference.repository(), scope: &scope };
        let kept = reference.digest().and_then(|digest| Some((digest, self.cache.document(digest)?, None)));
        let (mut digest, mut bytes, kind) = if let Some(kept) = kept {
            kept
        } else {
            let asked = reference.digest().map(|digest| digest.to_string());
            let asked = asked.as_deref().or(reference.tag()).unwrap_or("latest");
            self.manifest(&source, asked, reference).await?
        };
        if is_index(&bytes, kind.as_deref()) {
            let Index { manifests, .. } = parsed(&bytes, digest, "image index")?;
            let of = |one: &Descriptor| one.platform.as_ref().and_then(PlatformFields::known);
            let Some(chosen) = manifests.iter().find(|one| of(one) == Some(platform)) else {
                let mut available: Vec<_> = manifests.iter().filter_map(of).map(Platform::as_str).collect();
                available.dedup();
                return Err(
                    OciError::NoSuchPlatform { digest, platform, available: available.join(", ") }.into()
                );
            };
            digest = chosen.digest;
            bytes = match self.cache.document(digest) {
                Some(kept) => kept,
                None => self.manifest(&source, &digest.to_string(), reference).await?.1,
            };
        }
        let mut manifest: Manifest = parsed(&bytes, digest, "image manifest")?;
        self.blob(&source, &manifest.config).await?;
        let config = self.cache.document(manifest.config.digest).unwrap_or_default();
        let config: ImageConfig = parsed(&config, manifest.config.digest, "image configuration")?;
        if config.platform.known() != Some(platform) {
            let available = format!("{}/{}", config.platform.os, config.platform.architecture);
            return Err(OciError::NoSuchPlatform { digest, platform, available }.into());
        }
        if manifest.layers.len() != config.rootfs.diff_ids.len() {
            let problem = format!(
                "names {} layers, its configuration {}",
                manifest.layers.len(),
                config.rootfs.diff_ids.len()
            );
            return Err(OciError::Unsupported { what: reference.to_string(), problem }.into());
        }
        for layer in &mut manifest.layers {
            layer.media_type = layer_media_type(&layer.media_type)
                .map_err(|problem| OciError::Unsupported { what: layer.digest.to_string(), problem })?
                .into();
        }
        let total = manifest.layers.len() as u64;
        let mut done = 0;
        self.monitor.progress("fetching the base image", done, total);
        let mut arriving =
            stream::iter(&manifest.layers).map(|layer| self.blob(&source, layer)).buffer_unordered(PARALLEL);
        while arriving.try_next().await?.is_some() {
            done += 1;
            self.monitor.progress("fetching the base image", done, total);
        }
        drop(arriving);
        let layers = manifest.layers.into_iter().zip(&config.rootfs.diff_ids).map(|(descriptor, diff_id)| {
            let file = self.cache.path(descriptor.digest);
            BaseLayer { descriptor, diff_id: *diff_id, file }
        });
        Ok(BaseImage { digest, layers: layers.collect(), config })
    }

    /// A manifest from the registry, now kept: its digest, its bytes, its media type.
    async fn manifest(
        &self,
        source: &Repository<'_>,
        asked: &str,
        reference: &ImageReference,
    ) -> Result<(Sha256Digest, Vec<u8>, Option<String>), RegistryError> {
        let found =
            source.manifest(asked).await?.ok_or_else(|| RegistryError::NoSuchImage(reference.to_string()))?;
        let mut file = self.cache.temporary()?;
        file.write_all(&found.bytes).map_err(OciError::io("write", &self.cache.folder))?;
        self.cache.keep(file, found.digest)?;
        Ok((found.digest, found.bytes, Some(found.media_type)))
    }

    /// Sees to it that the blob is kept, whole.
    async fn blob(&self, source: &Repository<'_>, blob: &Descriptor) -> Result<(), RegistryError> {
        if self.cache.has(blob)? {
            return Ok(());
        }
        let mut file = self.cache.temporary()?;
        let mut failures = 0;
        loop {
            let error = match source.fetch(blob, &mut file).await {
                Ok(()) => break,
                Err(error) => error,
            };
            failures += 1;
            if failures >= ATTEMPTS || !may_do_better(&error) || error.is_missing() {
                return Err(error);
            }
            source.pause(&error, failures).await;
            let again = file.as_file_mut().rewind().and_then(|()| file.as_file().set_len(0));
            again.map_err(OciError::io("write", &self.cache.folder))?;
        }
        Ok(self.cache.keep(file, blob.digest)?)
    }
}

impl BaseImages for RegistryImages<'_> {
    fn resolve(&self, reference: &ImageReference, platform: Platform) -> Result<BaseImage, Fault> {
        let registry = Registry::new(reference.registry(), &self.sign_in, self.monitor)?;
        Ok(http::block_on(self.monitor, self.fetch(&registry, reference, platform))?)
    }
}

/// Whether a manifest is an index: by its type, or where that is not known, by what it has.
fn is_index(bytes: &[u8], media_type: Option<&str>) -> bool {
    match media_type {
        Some(media_type::INDEX | DOCKER_LIST) => true,
        Some(media_type::MANIFEST) => false,
        _ => serde_json::from_slice::<serde_json::Value>(bytes)
            .is_ok_and(|value| value["manifests"].is_array()),
    }
}

fn parsed<T: DeserializeOwned>(
    bytes: &[u8],
    digest: Sha256Digest,
    form: &'static str,
) -> Result<T, OciError> {
    serde_json::from_slice(bytes).map_err(|source| OciError::Document {
        what: digest.to_string(),
        form,
        source,
    })
}

/// Blobs by digest. Each is put there by a rename, so that what is there is whole; it is checked all the same.
struct Cache {
    folder: PathBuf,
}

impl Cache {
    fn path(&self, digest: Sha256Digest) -> PathBuf {
        self.folder.join("sha256").join(digest.hex())
    }

    /// A kept document; nothing where it is not there or damaged.
    fn document(&self, digest: Sha256Digest) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(digest)).ok()?.take(MAX_DOCUMENT).read_to_end(&mut bytes).ok()?;
        (Sha256Digest::of(&bytes) == digest).then_some(bytes)
    }

    fn has(&self, blob: &Descriptor) -> Result<bool, OciError> {
        let path = self.path(blob.digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(OciError::io("read", &path)(error)),
        };
        let mut hasher = Hasher::new();
        io::copy(&mut file, &mut hasher).map_err(OciError::io("read", &path))?;
        Ok(hasher.finish() == blob.digest)
    }

    fn temporary(&self) -> Result<tempfile::NamedTempFile, OciError> {
        let folder = self.folder.join("sha256");
        fs::create_dir_all(&folder).map_err(OciError::io("write", &folder))?;
        tempfile::Builder::new()
            .prefix(".fetching-")
            .tempfile_in(&folder)
            .map_err(OciError::io("write", &folder))
    }

    fn keep(&self, file: tempfile::NamedTempFile, digest: Sha256Digest) -> Result<(), OciError> {
        let path: &Path = &self.path(digest);
        file.as_file().sync_all().map_err(OciError::io("write", path))?;
        file.persist(path).map(drop).map_err(|refused| OciError::io("write", path)(refused.error))
    }
}
