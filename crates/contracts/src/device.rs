//! What a device reports: what it sees, and how it is.

use serde::{Deserialize, Serialize};

use crate::{Artifact, Label, SchemaVersion, Sha256Digest};

/// The folder into which devices upload pictures for people to label. It is no label: an import passes it over.
pub const REVIEW_FOLDER: &str = "_review";

/// What the device made of one frame; one line of `sightings.jsonl`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sighting {
    /// When the frame was taken, RFC 3339.
    pub time: String,
    /// The frame's number, from 0.
    pub frame: u64,
    /// The frame's file name, where it came from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What was seen; absent = unknown: no label reached the reject threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    /// The most probable label, also where it stays below the threshold.
    pub best: Label,
    /// Its probability, 0 to 1.
    pub probability: f32,
    /// The words spoken at this frame, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// The model: the SHA-256 of `model.onnx`.
    pub model: Sha256Digest,
}

/// `status.json`: how the device is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStatus {
    /// The form's version.
    pub schema_version: SchemaVersion,
    /// The runtime's version.
    pub version: String,
    /// What it is doing.
    pub state: DeviceState,
    /// The loaded model, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Sha256Digest>,
    /// Frames looked at so far.
    pub frames: u64,
    /// Frames that could not be read so far.
    pub unreadable_frames: u64,
    /// Words spoken so far.
    pub utterances: u64,
    /// How it speaks, such as `wav:out`; absent = it has no voice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speaker: Option<String>,
    /// Why it failed, or what it goes on without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// When this was written, RFC 3339.
    pub updated: String,
}

/// What a device is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// Loading the model.
    Starting,
    /// Its model passed its self-test and frames are being looked at.
    Running,
    /// It is about to end and still speaks: do not pull its plug.
    Busy,
    /// A source that ends has ended.
    Finished,
    /// It gave up; `problem` says why.
    Failed,
}

impl Artifact for DeviceStatus {
    const FILE: &'static str = "status.json";
}
