//! Images: uploaded in batches, listed in pages, tagged, described, removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use image::{ImageFormat, ImageReader};
use mynah_contracts::Sha256Digest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Ask, Refusal, ok};
use super::state::{Image, Project, State};

/// Images of one upload.
const BATCH: usize = 64;
/// Tags of one upload.
const BATCH_TAGS: usize = 20;
/// The largest page of a listing.
const PAGE: usize = 256;
/// The longest side, in pixels.
const SIDE: u32 = 10_240;
/// The largest quotient of the sides.
const ASPECT: u32 = 25;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileBatch {
    images: Vec<FileEntry>,
    #[serde(default)]
    tag_ids: Vec<String>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileEntry {
    name: String,
    contents: String,
    #[serde(default)]
    tag_ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TagBatch {
    tags: Vec<TagEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TagEntry {
    image_id: String,
    tag_id: String,
}

/// An image on its way in.
struct Incoming {
    name: String,
    bytes: Vec<u8>,
    tags: Vec<String>,
}

impl State {
    pub(super) fn upload_files(&mut self, project: &str, ask: &Ask) -> Result<Response, Refusal> {
        self.check_body(ask)?;
        let batch: FileBatch = ask.json()?;
        let mut incoming = Vec::new();
        for entry in batch.images {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(&entry.contents)
                .map_err(|error| Refusal::wrong("BadRequestImageStream", error.to_string()))?;
            let tags = entry.tag_ids.into_iter().chain(batch.tag_ids.iter().cloned()).collect();
            incoming.push(Incoming { name: entry.name, bytes, tags });
        }
        self.upload(project, incoming, &batch.metadata.unwrap_or_default())
    }

    pub(super) fn upload_multipart(&mut self, project: &str, ask: &Ask) -> Result<Response, Refusal> {
        self.check_body(ask)?;
        let tags = ask.list("tagIds", BATCH_TAGS)?;
        let mut incoming = Vec::new();
        for (field, name, bytes) in ask.multipart()? {
            if field != "imageData" {
                return Err(Refusal::wrong("BadRequestImageStream", format!("there is no field `{field}`")));
            }
            incoming.push(Incoming { name, bytes, tags: tags.clone() });
        }
        self.upload(project, incoming, &BTreeMap::new())
    }

    fn check_body(&self, ask: &Ask) -> Result<(), Refusal> {
        let most = self.settings.limits.body_bytes;
        if ask.body_bytes() > most {
            let message = format!("a body of {} bytes, {most} are allowed", ask.body_bytes());
            return Err(Refusal::wrong("BadRequestImageBatch", message));
        }
        Ok(())
    }

    fn upload(
        &mut self,
        project: &str,
        incoming: Vec<Incoming>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Response, Refusal> {
        if incoming.is_empty() || incoming.len() > BATCH {
            let message = format!("a batch of {} images, 1 to {BATCH} are allowed", incoming.len());
            return Err(Refusal::wrong("BadRequestExceededBatchSize", message));
        }
        check_metadata(metadata)?;
        let known: BTreeSet<String> = self.project(project)?.tags.iter().map(|tag| tag.id.clone()).collect();
        let asked: BTreeSet<&String> = incoming.iter().flat_map(|image| &image.tags).collect();
        if asked.len() > BATCH_TAGS {
            return Err(Refusal::wrong("BadRequestImageTags", format!("{} tags in a batch", asked.len())));
        }
        if let Some(stranger) = asked.iter().find(|id| !known.contains(**id)) {
            return Err(Refusal::wrong("NotFoundTag", format!("there is no tag {stranger}")));
        }
        let mut results = Vec::new();
        let mut all_new = true;
        for image in incoming {
            let (status, image_json) = self.take_in(project, &image, metadata)?;
            all_new &= status == "OK";
            // The published examples wrap the name in quotation marks.
            let mut result = json!({ "sourceUrl": format!("\"{}\"", image.name), "status": status });
            if let (Some(image), Some(result)) = (image_json, result.as_object_mut()) {
                result.insert("image".into(), image);
            }
            results.push(result);
        }
        let body = Json(json!({ "isBatchSuccessful": all_new, "images": results }));
        let status = if all_new { StatusCode::OK } else { StatusCode::MULTI_STATUS };
        Ok((status, body).into_response())
    }

    fn take_in(
        &mut self,
        project: &str,
        incoming: &Incoming,
        metadata: &BTreeMap<String, String>,
    ) -> Result<(&'static str, Option<Value>), Refusal> {
        if let Some(status) = self.settings.image_statuses.pop_front() {
            return Ok((status, None));
        }
        let limits = self.settings.limits;
        if incoming.bytes.len() > limits.image_bytes {
            return Ok(("ErrorImageSize", None));
        }
        let Some((width, height, mean)) = look(&incoming.bytes) else {
            return Ok(("ErrorImageFormat", None));
        };
        if width.max(height) > SIDE || width.max(height) > ASPECT * width.min(height) {
            return Ok(("ErrorImageSize", None));
        }
        let (id, created) = (self.id(), self.time());
        let project = self.project(project)?;
        let digest = Sha256Digest::of(&incoming.bytes);
        if let Some(known) = project.images.iter().find(|image| image.digest == digest) {
            return Ok(("OKDuplicate", Some(image_json(project, known))));
        }
        if project.images.len() >= limits.images {
            return Ok(("ErrorLimitExceed", None));
        }
        let (tags, metadata) = (incoming.tags.clone(), metadata.clone());
        let image = Image { id, digest, width, height, mean, tags, metadata, created };
        let shown = image_json(project, &image);
        project.images.push(image);
        Ok(("OK", Some(shown)))
    }

    pub(super) fn list_images(&mut self, project: &str, ask: &Ask) -> Result<Response, Refusal> {
        let status = ask.get("taggingStatus").unwrap_or("All").to_owned();
        if !matches!(status.as_str(), "All" | "Tagged" | "Untagged") {
            return Err(Refusal::wrong("BadRequest", format!("`{status}` is no tagging status")));
        }
        self.page(project, ask, |image| match status.as_str() {
            "Tagged" => !image.tags.is_empty(),
            "Untagged" => image.tags.is_empty(),
            _ => true,
        })
    }

    pub(super) fn list_tagged(&mut self, project: &str, ask: &Ask) -> Result<Response, Refusal> {
        self.page(project, ask, |image| !image.tags.is_empty())
    }

    fn page(&mut self, project: &str, ask: &Ask, keep: impl Fn(&Image) -> bool) -> Result<Response, Refusal> {
        let (take, skip) = (ask.number("take", 50, PAGE)?, ask.number("skip", 0, usize::MAX)?);
        let tags = ask.list("tagIds", 20)?;
        let oldest = match ask.get("orderBy") {
            None | Some("Newest") => false,
            Some("Oldest") => true,
            Some(other) => return Err(Refusal::wrong("BadRequest", format!("`{other}` is no order"))),
        };
        let project = self.project(project)?;
        let mut images: Vec<&Image> = project
            .images
            .iter()
            .filter(|image| {
                keep(image) && (tags.is_empty() || image.tags.iter().any(|tag| tags.contains(tag)))
            })
            .collect();
        if !oldest {
            images.reverse();
        }
        let page = images.into_iter().skip(skip).take(take);
        Ok(ok(&page.map(|image| image_json(project, image)).collect::<Vec<_>>()))
    }

    pub(super) fn count_tagged(&mut self, project: &str) -> Result<Response, Refusal> {
        let tagged = self.project(project)?.images.iter().filter(|image| !image.tags.is_empty()).count();
        Ok(ok(&tagged))
    }

    pub(super) fn set_metadata(&mut self, project: &str, ask: &Ask) -> Result<Response, Refusal> {
        let ids = ask.list("imageIds", BATCH)?;
        let metadata: BTreeMap<String, String> = ask.json()?;
        check_metadata(&metadata)?;
        let project = self.project(project)?;
        let mut entries = Vec::new();
        for id in &ids {
            let found = project.images.iter_mut().find(|image| image.id == *id);
            entries.push(match found {
                Some(image) => {
                    image.metadata = metadata.clone();
                    json!({ "imageId": id, "status": "OK", "metadata": metadata })
                }
                None => json!({ "imageId": id, "status": "ErrorImageNotFound", "metadata": null }),
            });
        }
        let all = entries.iter().all(|entry| entry.get("status").is_some_and(|status| status == "OK"));
        let body = Json(json!({ "isBatchSuccessful": all, "images": entries }));
        Ok((if all { StatusCode::OK } else { StatusCode::MULTI_STATUS }, body).into_response())
    }

    pub(super) fn add_tags(&mut self, project: &str, ask: &Ask) -> Result<Response, Refusal> {
        let batch: TagBatch = ask.json()?;
        if batch.tags.len() > 128 {
            return Err(Refusal::wrong("BadRequestExceededBatchSize", "more than 128 pairs"));
        }
        let project = self.project(project)?;
        let (mut created, mut duplicated) = (Vec::new(), Vec::new());
        for TagEntry { image_id, tag_id } in batch.tags {
            if !project.tags.iter().any(|tag| tag.id == tag_id) {
                return Err(Refusal::wrong("NotFoundTag", format!("there is no tag {tag_id}")));
            }
            let image = project.images.iter_mut().find(|image| image.id == image_id);
            let image = image
                .ok_or_else(|| Refusal::absent("NotFoundImage", format!("there is no image {image_id}")))?;
            let pair = json!({ "imageId": image_id, "tagId": tag_id });
            if image.tags.contains(&tag_id) {
                duplicated.push(pair);
            } else {
                image.tags.push(tag_id);
                created.push(pair);
            }
        }
        Ok(ok(&json!({ "created": created, "duplicated": duplicated, "exceeded": [] })))
    }

    pub(super) fn remove_tags(&mut self, project: &str, ask: &Ask) -> Result<Response, Refusal> {
        let (images, tags) = (ask.list("imageIds", 64)?, ask.list("tagIds", 20)?);
        if images.is_empty() || tags.is_empty() {
            return Err(Refusal::wrong(
                "BadRequestRequiredParamIsNull",
                "`imageIds` and `tagIds` are needed",
            ));
        }
        for image in &mut self.project(project)?.images {
            if images.contains(&image.id) {
                image.tags.retain(|tag| !tags.contains(tag));
            }
        }
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    pub(super) fn delete_images(&mut self, project: &str, ask: &Ask) -> Result<Response, Refusal> {
        let ids = ask.list("imageIds", 256)?;
        let all = ask.get("allImages") == Some("true");
        let everywhere = ask.get("allIterations") == Some("true");
        if ids.is_empty() && !all {
            return Err(Refusal::wrong("BadRequestInvalidIds", "which images?"));
        }
        self.project(project)?.images.retain(|image| !all && !ids.contains(&image.id));
        let status = if all || everywhere { StatusCode::ACCEPTED } else { StatusCode::NO_CONTENT };
        Ok(status.into_response())
    }
}

fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if metadata.len() > 50 || metadata.keys().any(|key| key.is_empty() || key.len() > 256) {
        return Err(Refusal::wrong("BadRequestImageMetadataKey", "at most 50 keys of at most 256"));
    }
    if metadata.values().any(|value| value.len() > 512) {
        return Err(Refusal::wrong("BadRequestImageMetadataValue", "values of at most 512"));
    }
    Ok(())
}

/// Width, height and mean colour of a picture of a type that the service takes.
fn look(bytes: &[u8]) -> Option<(u32, u32, [f64; 3])> {
    let format = image::guess_format(bytes).ok()?;
    if !matches!(format, ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::Gif | ImageFormat::Bmp) {
        return None;
    }
    let picture = ImageReader::with_format(Cursor::new(bytes), format).decode().ok()?.to_rgb8();
    let pixels = f64::from(picture.width()) * f64::from(picture.height());
    let mean = [0, 1, 2].map(|channel| {
        picture.pixels().map(|pixel| f64::from(pixel.0[channel]) / 255.0).sum::<f64>() / pixels
    });
    Some((picture.width(), picture.height(), mean))
}

fn image_json(project: &Project, image: &Image) -> Value {
    let tags: Vec<Value> = image
        .tags
        .iter()
        .map(|id| json!({ "tagId": id, "tagName": project.tag_name(id), "created": image.created }))
        .collect();
    json!({
        "id": image.id,
        "created": image.created,
        "width": image.width,
        "height": image.height,
        "resizedImageUri": format!("https://images.invalid/{}/resized", image.id),
        "thumbnailUri": format!("https://images.invalid/{}/thumbnail", image.id),
        "originalImageUri": format!("https://images.invalid/{}", image.id),
        "tags": tags,
        "regions": [],
        "metadata": image.metadata,
    })
}
