//! An image of a layout → a repository: what is missing is sent, then the manifests, then the tag.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::try_join;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use mynah_contracts::{Monitor, Sha256Digest};

use super::blobs::{Content, Mount, Repository};
use super::session::Scope;
use super::{Registry, RegistryError};
use crate::oci::OciError;
use crate::oci::layout::Layout;
use crate::oci::spec::{Descriptor, Index, Manifest, media_type};

/// How many blobs are on their way at once.
const PARALLEL: usize = 4;

/// What a push moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moved {
    /// Blobs that were sent.
    pub sent: u32,
    /// The bytes of those blobs.
    pub bytes: u64,
    /// Blobs that were taken over from another repository of the registry.
    pub mounted: u32,
    /// Blobs that were there.
    pub present: u32,
    /// Whether the tag had to be put.
    pub tagged: bool,
}

impl Moved {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            bytes: self.bytes + other.bytes,
            mounted: self.mounted + other.mounted,
            present: self.present + other.present,
            tagged: self.tagged || other.tagged,
        }
    }
}

/// Blobs of a registry, each with a repository that has it.
pub(crate) type Homes = BTreeMap<Sha256Digest, String>;

/// The largest document sent; the specification asks registries to take 4 MiB.
const MAX_DOCUMENT: u64 = 4 << 20;

/// Documents of an image, by the order in which they are put: manifests first, the index last.
struct Documents {
    manifests: Vec<(Descriptor, Vec<u8>)>,
    index: (Descriptor, Vec<u8>),
    /// The largest first: it takes longest.
    blobs: Vec<Descriptor>,
}

/// An image of a layout, on its way to a repository.
pub(crate) struct Outgoing<'a> {
    registry: &'a Registry,
    layout: Layout,
    documents: Documents,
    path: &'a str,
    tag: &'a str,
    scope: Scope,
    homes: &'a Homes,
}

impl Registry {
    /// The image `index` of the layout in `folder`, on its way to `repository:tag`.
    ///
    /// `homes` names, for blobs that other repositories of the registry have, one of them.
    ///
    /// # Errors
    /// When the layout is not whole.
    pub(crate) fn outgoing<'a>(
        &'a self,
        folder: &Path,
        index: &Descriptor,
        repository: &'a str,
        tag: &'a str,
        homes: &'a Homes,
    ) -> Result<Outgoing<'a>, RegistryError> {
        let layout = Layout::open(folder)?;
        let documents = documents(&layout, index)?;
        let others: BTreeSet<&String> = documents
            .blobs
            .iter()
            .filter_map(|blob| homes.get(&blob.digest))
            .filter(|home| *home != repository)
            .collect();
        let scope = others.into_iter().fold(Scope::push(repository), |scope, home| scope.and_pull(home));
        Ok(Outgoing { registry: self, layout, documents, path: repository, tag, scope, homes })
    }
}

impl Outgoing<'_> {
    /// Where it goes.
    pub(crate) fn repository(&self) -> Repository<'_> {
        self.registry.repository(self.path, &self.scope)
    }

    /// Pushes the image, and checks that the registry gives it back. One that is there under its tag is not sent
    /// again.
    ///
    /// `company` is what goes there beside it: it runs while the layers are sent, what it ends in when the image can
    /// be referred to.
    ///
    /// # Errors
    /// When the registry refuses or gives something else back.
    pub(crate) async fn push<Rest>(
        &self,
        company: impl Future<Output = Result<(Moved, Rest), RegistryError>>,
        monitor: &dyn Monitor,
    ) -> Result<Moved, RegistryError>
    where
        Rest: Future<Output = Result<Moved, RegistryError>>,
    {
        let target = self.repository();
        // Also signs in, before several requests at once would.
        if self.is_there(&target).await? {
            let present = Moved { present: self.documents.blobs.len() as u32, ..Moved::default() };
            let (before, rest) = company.await?;
            return Ok(present.and(before).and(rest.await?));
        }
        let (moved, (before, rest)) = try_join(self.send_blobs(&target, monitor), company).await?;
        self.put_manifests(&target, moved).await?;
        let ((), after) = try_join(self.read_back(&target), rest).await?;
        Ok(Moved { tagged: true, ..moved.and(before).and(after) })
    }

    async fn is_there(&self, target: &Repository<'_>) -> Result<bool, RegistryError> {
        let (index, _) = &self.documents.index;
        Ok(target.manifest(self.tag).await?.is_some_and(|there| there.digest == index.digest))
    }

    async fn send_blobs(
        &self,
        target: &Repository<'_>,
        monitor: &dyn Monitor,
    ) -> Result<Moved, RegistryError> {
        let total: u64 = self.documents.blobs.iter().map(|blob| blob.size).sum();
        let done = AtomicU64::new(0);
        let advance = |bytes: u64| {
            let done = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            monitor.progress("pushing layers", done.min(total), total);
        };
        stream::iter(&self.documents.blobs)
            .map(|blob| move_blob(target, &self.layout, blob, self.homes.get(&blob.digest), &advance))
            .buffer_unordered(PARALLEL)
            .try_fold(Moved::default(), |sum, moved| async move { Ok(sum.and(moved)) })
            .await
    }

    /// Puts the manifests, then the index under the tag.
    async fn put_manifests(&self, target: &Repository<'_>, moved: Moved) -> Result<(), RegistryError> {
        stream::iter(&self.documents.manifests)
            .map(|(descriptor, bytes)| async {
                // With blobs that were not there, no manifest can have been.
                if moved.sent > 0 || !target.has_manifest(descriptor.digest).await? {
                    target
                        .put_manifest(&descriptor.digest.to_string(), &descriptor.media_type, bytes)
                        .await?;
                }
                Ok::<_, RegistryError>(())
            })
            .buffer_unordered(PARALLEL)
            .try_collect::<()>()
            .await?;
        // What is put under a tag is there under its digest too.
        let (descriptor, bytes) = &self.documents.index;
        target.put_manifest(self.tag, &descriptor.media_type, bytes).await.map(drop)
    }

    async fn read_back(&self, target: &Repository<'_>) -> Result<(), RegistryError> {
        let doing = || format!("read back `{}:{}`", target.shown(), self.tag);
        let (index, _) = &self.documents.index;
        match target.manifest(self.tag).await? {
            Some(back) if back.digest == index.digest => Ok(()),
            Some(back) => Err(target.lie(&doing(), index.digest, back.digest.to_string())),
            None => Err(self.registry.session.odd(&doing(), "with no such tag")),
        }
    }
}

/// Sees to it that the repository has the blob.
async fn move_blob(
    target: &Repository<'_>,
    layout: &Layout,
    blob: &Descriptor,
    home: Option<&String>,
    advance: &(dyn Fn(u64) + Sync),
) -> Result<Moved, RegistryError> {
    // The tag names another image, or none, and a configuration is of one image alone: it would be asked for in vain.
    if blob.media_type != media_type::CONFIG && target.has_blob(blob.digest).await? {
        advance(blob.size);
        return Ok(Moved { present: 1, ..Moved::default() });
    }
    let mut opened = None;
    if let Some(home) = home.filter(|home| *home != target.path) {
        match target.mount(blob.digest, home).await {
            Mount::Done => {
                advance(blob.size);
                return Ok(Moved { mounted: 1, ..Moved::default() });
            }
            Mount::Refused(session) => opened = session,
        }
    }
    // Of the size its descriptor says: a cut file is told here, not by the registry.
    layout.blob(blob)?;
    let told = AtomicU64::new(0);
    let sent = |received: u64| {
        let before = told.fetch_max(received, Ordering::Relaxed);
        advance(received.saturating_sub(before));
    };
    target.upload(blob, Content::File(&layout.blob_path(blob)), opened, &sent).await?;
    Ok(Moved { sent: 1, bytes: blob.size, ..Moved::default() })
}

/// Reads the documents of an image, and names its blobs.
fn documents(layout: &Layout, index: &Descriptor) -> Result<Documents, RegistryError> {
    let top = read(layout, index)?;
    let named = if index.media_type == media_type::INDEX {
        parsed::<Index>(&top, index, "image index")?.manifests
    } else {
        Vec::new()
    };
    let mut manifests = Vec::new();
    let mut blobs = BTreeMap::new();
    let mut add = |bytes: &[u8], descriptor: &Descriptor| -> Result<(), RegistryError> {
        let manifest: Manifest = parsed(bytes, descriptor, "image manifest")?;
        for blob in manifest.layers.into_iter().chain([manifest.config]) {
            blobs.insert(blob.digest, blob);
        }
        Ok(())
    };
    if index.media_type == media_type::MANIFEST {
        add(&top, index)?;
    }
    for descriptor in named {
        let bytes = read(layout, &descriptor)?;
        add(&bytes, &descriptor)?;
        manifests.push((descriptor, bytes));
    }
    let mut blobs: Vec<_> = blobs.into_values().collect();
    blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
    Ok(Documents { manifests, index: (index.clone(), top), blobs })
}

/// A document's bytes, its digest checked.
///
/// # Errors
/// When it is missing, too large or not intact.
pub(crate) fn read(layout: &Layout, descriptor: &Descriptor) -> Result<Vec<u8>, OciError> {
    if descriptor.size > MAX_DOCUMENT {
        let problem = format!("is a document of {} bytes", descriptor.size);
        return Err(OciError::Unsupported { what: descriptor.digest.to_string(), problem });
    }
    let mut blob = layout.blob(descriptor)?;
    let mut bytes = Vec::new();
    blob.read_to_end(&mut bytes).map_err(OciError::io("read", &layout.blob_path(descriptor)))?;
    blob.finish()?;
    Ok(bytes)
}

fn parsed<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    descriptor: &Descriptor,
    form: &'static str,
) -> Result<T, RegistryError> {
    serde_json::from_slice(bytes)
        .map_err(|source| OciError::Document { what: descriptor.digest.to_string(), form, source }.into())
}
