//! The API's JSON, version 3.3: of each type the fields that are used here. Published definitions are in the
//! service's OpenAPI description (`Training.json`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Domain {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Project {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) settings: ProjectSettings,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProjectSettings {
    pub(super) domain_id: String,
    #[serde(default)]
    pub(super) classification_type: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tag {
    pub(super) id: String,
    pub(super) name: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Image {
    pub(super) id: String,
    #[serde(default)]
    pub(super) tags: Option<Vec<ImageTag>>,
    #[serde(default)]
    pub(super) metadata: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageTag {
    pub(super) tag_id: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageFileCreateBatch {
    pub(super) images: Vec<ImageFileCreateEntry>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageFileCreateEntry {
    pub(super) name: String,
    /// Base64.
    pub(super) contents: String,
    pub(super) tag_ids: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageCreateSummary {
    pub(super) images: Vec<ImageCreateResult>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageCreateResult {
    pub(super) status: String,
    #[serde(default)]
    pub(super) image: Option<Image>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageMetadataUpdateSummary {
    pub(super) images: Vec<ImageMetadataUpdateEntry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageMetadataUpdateEntry {
    pub(super) status: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageTagCreateBatch {
    pub(super) tags: Vec<ImageTagCreateEntry>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageTagCreateEntry {
    pub(super) image_id: String,
    pub(super) tag_id: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TrainingParameters {
    pub(super) selected_tags: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Iteration {
    pub(super) id: String,
    pub(super) name: String,
    /// A plain text without a published list of values; `Training`, `Completed` and `Failed` are known.
    #[serde(default)]
    pub(super) status: Option<String>,
    /// RFC 3339: in order as text.
    #[serde(default)]
    pub(super) created: Option<String>,
    #[serde(default)]
    pub(super) trained_at: Option<String>,
    #[serde(default)]
    pub(super) publish_name: Option<String>,
}

impl Iteration {
    pub(super) fn is_completed(&self) -> bool {
        self.status.as_deref() == Some("Completed")
    }

    pub(super) fn is_failed(&self) -> bool {
        self.status.as_deref() == Some("Failed")
    }

    /// Whether the service works on it. An iteration that is being made is the workspace until it is trained.
    pub(super) fn is_training(&self) -> bool {
        matches!(self.status.as_deref(), Some("Training" | "Queued"))
    }

    pub(super) fn is_published(&self) -> bool {
        self.publish_name.as_ref().is_some_and(|name| !name.is_empty())
    }

    /// When it was trained, else when it was made.
    pub(super) fn age(&self) -> (&str, &str) {
        (self.trained_at.as_deref().or(self.created.as_deref()).unwrap_or_default(), &self.id)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IterationPerformance {
    pub(super) precision: f64,
    pub(super) recall: f64,
    #[serde(default)]
    pub(super) average_precision: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Export {
    pub(super) platform: String,
    pub(super) status: String,
    #[serde(default)]
    pub(super) download_uri: Option<String>,
    #[serde(default)]
    pub(super) flavor: Option<String>,
}
