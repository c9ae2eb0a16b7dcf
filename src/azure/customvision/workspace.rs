//! A project brought in line with a dataset: the project, its tags, its images. Only what differs is sent.
//!
//! Each image of ours carries the SHA-256 of its photo in its metadata. The API takes metadata for a whole batch
//! only, so they are set image by image after a batch. A run that was killed between both leaves images without
//! metadata: their photos are sent again, the service answers `OKDuplicate` with the image it has, and that one
//! gets its metadata then.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::TryStreamExt as _;
use mynah_contracts::{Dataset, Label, Monitor, Photo};

use super::VisionError;
use super::api::Api;
use super::photos::{prepare, to_send};
use super::place::Place;
use super::wire::{
    Image, ImageCreateResult, ImageFileCreateBatch, ImageFileCreateEntry, ImageTagCreateBatch,
    ImageTagCreateEntry, Project, TrainingParameters,
};

/// The metadata under which an image carries the digest of its photo.
const DIGEST: &str = "mynahSha256";

/// Images of one upload (the API's limit).
const BATCH_IMAGES: usize = 64;
/// Tags of one upload (the API's limit).
const BATCH_TAGS: usize = 20;
/// Bytes of the photos of one upload: as base64 a third more. Bodies of 55 MB have run into time-outs.
const BATCH_BYTES: usize = 20_000_000;
/// Images whose tags are changed by one call (the API's limit).
const RETAGGED: usize = 64;
/// Images that are removed by one call: as many as fit into an address; the API would take 256.
const REMOVED: usize = 64;
/// Calls under way at once where each is about one image.
const PARALLEL: usize = 4;
/// How often a photo is sent whose refusal may pass.
const TRIES: u32 = 4;

/// A project that holds what the dataset asks for.
#[derive(Debug)]
pub(super) struct Workspace {
    pub(super) project: Project,
    /// How many photos the service trains with.
    pub(super) photos: usize,
    /// What was done, for people.
    pub(super) summary: Summary,
    /// The tags to train on, where the project has others too.
    pub(super) selected: Option<Vec<String>>,
}

/// What bringing in line took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) uploaded: usize,
    pub(super) present: usize,
    pub(super) retagged: usize,
    pub(super) removed: usize,
    /// Images of ours whose photos left the dataset, still there.
    pub(super) left: usize,
    /// Images that someone else put there.
    pub(super) foreign: usize,
}

impl Workspace {
    pub(super) fn parameters(&self) -> Option<TrainingParameters> {
        self.selected.clone().map(|selected_tags| TrainingParameters { selected_tags })
    }
}

/// Brings the project in line with `dataset`.
pub(super) async fn bring_in_line(
    api: &Api,
    place: &Place,
    (dataset, folder): (&Dataset, &Path),
    held_out: Option<u8>,
    prune: bool,
    monitor: &dyn Monitor,
) -> Result<Workspace, VisionError> {
    let photos = to_send(dataset, held_out)?;
    let project = find_project(api, place).await?;
    let (tags, selected) = bring_tags(api, &project.id, dataset).await?;
    let mut work = Work {
        api,
        project: &project.id,
        folder,
        tags: &tags,
        summary: Summary::default(),
        monitor,
        wanted: photos.iter().map(|photo| (photo.sha256.hex(), *photo)).collect(),
    };
    let held: BTreeSet<String> = dataset
        .photos
        .iter()
        .filter(|photo| Some(photo.fold) == held_out)
        .map(|photo| photo.sha256.hex())
        .collect();
    let present = work.look_over(&held, prune).await?;
    let missing: Vec<&Photo> =
        photos.iter().copied().filter(|photo| !present.contains(&photo.sha256.hex())).collect();
    work.upload(&missing).await?;
    let summary = work.summary;
    Ok(Workspace { project, photos: photos.len(), summary, selected })
}

async fn find_project(api: &Api, place: &Place) -> Result<Project, VisionError> {
    let domains = api.domains().await?;
    let classifiers = || domains.iter().filter(|domain| domain.kind == "Classification");
    let wanted = place.domain.name();
    let Some(domain) = classifiers().find(|domain| domain.name == wanted) else {
        let compact: Vec<String> = classifiers()
            .filter(|domain| domain.name.contains("(compact)"))
            .map(|domain| format!("`{}`", domain.name.escape_debug()))
            .collect();
        let found = if compact.is_empty() { "no compact one".into() } else { compact.join(", ") };
        return Err(VisionError::NoDomain { wanted: wanted.to_owned(), found });
    };
    let by_name = |projects: Vec<Project>| projects.into_iter().find(|project| project.name == place.project);
    let found = match by_name(api.projects().await?) {
        Some(project) => project,
        None => match api.create_project(&place.project, &domain.id).await {
            // An earlier try was done after all.
            Err(error) if error.code() == Some("BadRequestProjectNameNotUnique") => {
                by_name(api.projects().await?).ok_or(error)?
            }
            other => other?,
        },
    };
    let other_domain = found.settings.domain_id != domain.id;
    let multilabel = found.settings.classification_type.as_deref() == Some("Multilabel");
    if other_domain || multilabel {
        let name = domains
            .iter()
            .find(|domain| domain.id == found.settings.domain_id)
            .map_or("of an unknown domain", |domain| domain.name.as_str());
        let many = if multilabel { " with several labels per image" } else { "" };
        return Err(VisionError::OtherProject {
            project: place.project.clone(),
            found: format!("`{}`{many}", name.escape_debug()),
            wanted: wanted.to_owned(),
        });
    }
    Ok(found)
}

/// The id of each label's tag; and the tags to select where the project has more than the dataset's.
async fn bring_tags(
    api: &Api,
    project: &str,
    dataset: &Dataset,
) -> Result<(BTreeMap<Label, String>, Option<Vec<String>>), VisionError> {
    let mut known = api.tags(project).await?;
    let mut tags = BTreeMap::new();
    for label in dataset.label_names() {
        let mut found = known.iter().find(|tag| tag.name == label.as_str()).map(|tag| tag.id.clone());
        if found.is_none() {
            found = Some(match api.create_tag(project, label.as_str()).await {
                Err(error) if error.code() == Some("BadRequestTagNameNotUnique") => {
                    known = api.tags(project).await?;
                    known
                        .iter()
                        .find(|tag| tag.name == label.as_str())
                        .map(|tag| tag.id.clone())
                        .ok_or(error)?
                }
                other => other?.id,
            });
        }
        tags.extend(found.map(|id| (label, id)));
    }
    let others = known.iter().filter(|tag| !tags.values().any(|id| *id == tag.id)).count();
    let selected = (others > 0).then(|| tags.values().cloned().collect());
    Ok((tags, selected))
}

struct Work<'a> {
    api: &'a Api,
    project: &'a str,
    folder: &'a Path,
    tags: &'a BTreeMap<Label, String>,
    summary: Summary,
    monitor: &'a dyn Monitor,
    /// The photos that are to be there, by the digits of their digests.
    wanted: BTreeMap<String, &'a Photo>,
}

impl Work<'_> {
    /// Looks at what is there: wrong tags are changed, what must not be there is removed. Gives the digests that
    /// need not be sent.
    async fn look_over(
        &mut self,
        held: &BTreeSet<String>,
        prune: bool,
    ) -> Result<BTreeSet<String>, VisionError> {
        let images = self.api.images(self.project).await?;
        let mut present = BTreeSet::new();
        let (mut remove, mut retag) = (Vec::new(), Vec::new());
        for image in &images {
            let Some(digest) = image.metadata.as_ref().and_then(|metadata| metadata.get(DIGEST)) else {
                self.summary.foreign += 1;
                continue;
            };
            match self.wanted.get(digest) {
                // A photo is learnt from once.
                Some(_) if !present.insert(digest.clone()) => remove.push(image.id.clone()),
                Some(photo) => retag.extend(self.wrong_tags(image, photo)),
                // A model must not have learnt from what judges it, whoever asked for pruning.
                None if held.contains(digest) || prune => remove.push(image.id.clone()),
                None => self.summary.left += 1,
            }
        }
        self.summary.present = present.len();
        for ids in remove.chunks(REMOVED) {
            self.api.delete_images(self.project, ids).await?;
        }
        self.summary.removed = remove.len();
        self.retag(&retag).await?;
        if self.summary.left > 0 {
            tracing::warn!(
                "{} images in the project are of photos that left the dataset and are still learnt from; --prune-images removes them",
                self.summary.left
            );
        }
        Ok(present)
    }

    /// What must change for `image` to carry its photo's label and no other.
    fn wrong_tags(&self, image: &Image, photo: &Photo) -> Option<Retag> {
        let right = self.tags.get(&photo.label)?;
        let carried: Vec<&String> = image.tags.iter().flatten().map(|tag| &tag.tag_id).collect();
        if carried == [right] {
            return None;
        }
        Some(Retag {
            image: image.id.clone(),
            add: (!carried.contains(&right)).then(|| right.clone()),
            remove: carried.into_iter().filter(|id| *id != right).cloned().collect(),
        })
    }

    /// Takes wrong tags off first: a project of one label per image may refuse a second one.
    async fn retag(&mut self, changes: &[Retag]) -> Result<(), VisionError> {
        let mut by_tag: BTreeMap<&String, Vec<String>> = BTreeMap::new();
        for change in changes {
            for tag in &change.remove {
                by_tag.entry(tag).or_default().push(change.image.clone());
            }
        }
        for (tag, images) in by_tag {
            for images in images.chunks(RETAGGED) {
                self.api.remove_tags(self.project, images, std::slice::from_ref(tag)).await?;
            }
        }
        let additions: Vec<ImageTagCreateEntry> = changes
            .iter()
            .filter_map(|change| {
                let tag_id = change.add.clone()?;
                Some(ImageTagCreateEntry { image_id: change.image.clone(), tag_id })
            })
            .collect();
        for tags in additions.chunks(RETAGGED) {
            self.api.add_tags(self.project, &ImageTagCreateBatch { tags: tags.to_vec() }).await?;
        }
        self.summary.retagged += changes.len();
        Ok(())
    }

    /// Sends the photos that are missing, and again those whose refusal may pass.
    async fn upload(&mut self, missing: &[&Photo]) -> Result<(), VisionError> {
        let total = missing.len() as u64;
        let mut open: Vec<&Photo> = missing.to_vec();
        let mut done = 0;
        for tried in 1..=TRIES {
            let mut again: Vec<(&Photo, String)> = Vec::new();
            let mut rest = open.as_slice();
            while !rest.is_empty() {
                let (batch, after) = self.fill(rest).await?;
                rest = after;
                let (took, refused) = self.send(&batch).await?;
                again.extend(refused);
                done += took;
                self.monitor.progress("uploading photos", done as u64, total);
            }
            let Some((first, status)) = again.first() else { return Ok(()) };
            if tried == TRIES {
                return Err(VisionError::Refused { photo: first.file.to_string(), status: status.clone() });
            }
            tracing::debug!(
                "{} photos were not taken, the first with {status}; sending them again",
                again.len()
            );
            tokio::time::sleep(std::time::Duration::from_millis(250 << tried)).await;
            open = again.into_iter().map(|(photo, _)| photo).collect();
        }
        Ok(())
    }

    /// The first of `photos` that fit into one upload, with their bytes, and the rest.
    async fn fill<'p, 's>(
        &self,
        photos: &'s [&'p Photo],
    ) -> Result<(Vec<(&'p Photo, Vec<u8>)>, &'s [&'p Photo]), VisionError> {
        let mut batch: Vec<(&Photo, Vec<u8>)> = Vec::new();
        let mut labels = BTreeSet::new();
        let mut bytes = 0;
        for photo in photos.iter().take(BATCH_IMAGES) {
            labels.insert(&photo.label);
            if labels.len() > BATCH_TAGS {
                break;
            }
            let (one, folder) = ((*photo).clone(), self.folder.to_owned());
            let prepared = tokio::task::spawn_blocking(move || prepare(&one, &folder)).await;
            let prepared = prepared.map_err(|_| VisionError::Refused {
                photo: photo.file.to_string(),
                status: "it broke its decoder".into(),
            })??;
            if !batch.is_empty() && bytes + prepared.len() > BATCH_BYTES {
                break;
            }
            bytes += prepared.len();
            batch.push((photo, prepared));
        }
        let rest = photos.get(batch.len()..).unwrap_or_default();
        Ok((batch, rest))
    }

    /// Sends one batch. Gives how many were taken, and those that may be sent again with the service's status.
    async fn send<'p>(
        &mut self,
        batch: &[(&'p Photo, Vec<u8>)],
    ) -> Result<(usize, Vec<(&'p Photo, String)>), VisionError> {
        let images = batch
            .iter()
            .map(|(photo, bytes)| ImageFileCreateEntry {
                name: photo.sha256.hex(),
                contents: STANDARD.encode(bytes),
                tag_ids: self.tags.get(&photo.label).cloned().into_iter().collect(),
            })
            .collect();
        let answer = self.api.upload(self.project, &ImageFileCreateBatch { images }).await?;
        if answer.images.len() != batch.len() {
            let what = format!("a status for each of {} images", batch.len());
            return Err(VisionError::Incomplete { what });
        }
        let (mut taken, mut retag, mut again) = (Vec::new(), Vec::new(), Vec::new());
        for ((photo, _), ImageCreateResult { status, image }) in batch.iter().zip(answer.images) {
            match status.as_str() {
                "OK" | "OKDuplicate" => {
                    // Without the image, the photo is there but cannot be told from a foreign one later on.
                    if let Some(image) = image {
                        retag.extend(self.wrong_tags(&image, photo));
                        taken.push((image.id, photo.sha256.hex()));
                    }
                }
                "ErrorStorage" | "ErrorUnknown" | "ErrorSource" => again.push((*photo, status)),
                _ => return Err(VisionError::Refused { photo: photo.file.to_string(), status }),
            }
        }
        self.retag(&retag).await?;
        self.describe(taken).await?;
        let took = batch.len() - again.len();
        self.summary.uploaded += took;
        Ok((took, again))
    }

    /// Writes each photo's digest into its image's metadata.
    async fn describe(&self, images: Vec<(String, String)>) -> Result<(), VisionError> {
        let (api, project) = (self.api, self.project);
        futures::stream::iter(images.into_iter().map(Ok))
            .try_for_each_concurrent(PARALLEL, |(image, digest)| async move {
                let metadata = BTreeMap::from([(DIGEST, digest)]);
                let answer = api.set_metadata(project, &image, &metadata).await?;
                match answer.images.first() {
                    Some(entry) if entry.status == "OK" => Ok(()),
                    entry => Err(VisionError::Incomplete {
                        what: format!(
                            "having stored an image's metadata ({})",
                            entry.map_or("no status", |entry| entry.status.as_str()).escape_debug()
                        ),
                    }),
                }
            })
            .await
    }
}

/// A change of tags.
#[derive(Debug)]
struct Retag {
    image: String,
    add: Option<String>,
    remove: Vec<String>,
}
