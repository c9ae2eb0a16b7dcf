//! Types of every artifact and message that crosses a step or the wire.
//!
//! A photo becomes a spoken word by passing through six steps; each reads one artifact and writes the
//! next. This crate says what those artifacts are and holds no I/O, so that the build side, the trainer
//! and the device agree by construction:
//!
//! | artifact | type | written by |
//! |---|---|---|
//! | `dataset.json` | [`Dataset`] | import-images |
//! | `training.json` | [`Training`] | train-model |
//! | `model.json` | [`ModelCard`] | export-model |
//! | `modules.json` | [`ModuleSet`] | build-modules |
//! | `speech.json` | [`Speech`] | build-modules |
//! | `deployment-record.json` | [`DeploymentRecord`] | deploy-modules |
//! | one line of `sightings.jsonl` | [`Sighting`] | the runtime |
//! | `status.json` | [`DeviceStatus`] | the runtime |
//!
//! Every JSON artifact opens with `"schemaVersion"`; [`from_json`] refuses a newer major version.

mod artifact;
pub mod azure_speech;
mod dataset;
mod deployment;
mod device;
mod digest;
mod evaluation;
mod fault;
pub mod iot_edge;
mod label;
mod model_card;
mod modules;
mod preprocess;
mod speech;
mod speech_map;
mod training;
mod work;

pub use artifact::{
    Artifact, ArtifactError, FileRef, RelativePath, SchemaVersion, Tool, from_json, to_json, write_json,
};
pub use dataset::{
    Dataset, FOLDS, ImageFormat, LabelCount, NearDuplicate, Photo, SkipReason, Skipped, Snapshot,
    SnapshotBlob,
};
pub use deployment::{
    ClusterDeployment, DeployTarget, DeployedModule, DeployedPod, DeploymentRecord, HubDeployment,
};
pub use device::{DeviceState, DeviceStatus, REVIEW_FOLDER, Sighting};
pub use digest::{DigestParseError, Hasher, Sha256Digest};
pub use evaluation::{CalibrationBin, Evaluation, EvaluationSummary, LabelScore, Mistake};
pub use fault::{Cancelled, Diagnosis, Fault, FaultKind, error_chain};
pub use label::{Label, LabelError, colliding};
pub use model_card::{ModelCard, Weights};
pub use modules::{Descriptor, Module, ModuleSet, Platform, PlatformImage, PlatformParseError};
pub use preprocess::{ChannelOrder, Geometry, Preprocess, ResizeFilter};
pub use speech::{Clip, Speech};
pub use speech_map::{SpeechMap, SpeechMapProblem, is_of_voice};
pub use training::{
    Backbone, Calibration, CustomVisionModel, DatasetRef, Head, Probe, ServiceMetrics, TrainerKind, Training,
};
pub use work::{
    AdoptRequest, Adopted, Adopter, EmbedRequest, ExportRequest, Exporter, Monitor, NoEmbeddings, Quiet,
    Shard, TrainRequest, Trainer,
};
