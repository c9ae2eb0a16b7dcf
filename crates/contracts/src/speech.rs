//! `speech.json`: the clips a device plays, made before it is deployed.

use serde::{Deserialize, Serialize};

use crate::{Artifact, FileRef, Label, SchemaVersion};

/// The spoken words of a model's labels.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Speech {
    /// The form's version.
    pub schema_version: SchemaVersion,
    /// What made the clips, such as `espeak-ng 1.51`.
    pub engine: String,
    /// The engine's name of the voice, such as `en`.
    pub voice: String,
    /// One clip per label that has one.
    pub clips: Vec<Clip>,
}

/// One label's clip: a WAV file, 16-bit PCM, one channel.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Clip {
    /// The label it speaks.
    pub label: Label,
    /// The words spoken.
    pub text: String,
    /// The WAV file.
    pub file: FileRef,
}

impl Artifact for Speech {
    const FILE: &'static str = "speech.json";
}
