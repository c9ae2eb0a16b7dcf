//! Development only: small real inputs for tests, made on the spot.
//!
//! | what | made by |
//! |---|---|
//! | JPEG photos of one colour with noise | [`solid_colour_jpeg`] |
//! | a model package that tells red, green and blue apart | [`tiny_model_package`] |
//! | clips of its labels, real WAV files | [`tiny_speech`] |
//! | a camera of the network, whose plug can be pulled | [`camera::NetworkCamera`] |
//! | a folder served over HTTP | [`serve_folder`] |
//! | a caller over HTTP that may break off | [`caller::Caller`] |
//! | a strict registry of images with faults on demand | [`registry::Registry`] |
//! | Debian's own registry, where it is installed | [`debian_registry::DebianRegistry`] |
//! | Microsoft's emulator of Blob Storage, where it is installed | [`azurite::Azurite`] |
//!
//! And doubles of the services that the steps speak with: each keeps its state, is strict about what it is
//! asked, records every exchange ([`wire`]) and goes wrong where a test says so ([`faults`]).

pub mod agentpool;
pub mod azurite;
pub mod blobs;
pub mod caller;
pub mod camera;
mod clips;
pub mod customvision;
pub mod debian_registry;
#[cfg(unix)]
pub mod edge;
pub mod faults;
mod files;
pub mod iothub;
pub mod issuer;
pub mod kubernetes;
mod photos;
pub mod pipelines;
pub mod registry;
mod signer;
pub mod speech;
mod tiny_model;
pub mod tokens;
pub mod wire;

pub use clips::{replace_clip, tiny_speech};
pub use files::serve_folder;
pub use photos::{BLUE, GREEN, GREY, RED, solid_colour_jpeg};
pub use signer::ModelSigner;
pub use tiny_model::{edit_card, tiny_labels, tiny_model_package};
