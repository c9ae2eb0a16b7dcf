//! Pixels to probabilities: the same code in training, in the export check and on the device.
//!
//! A photo passes through three doors, and whoever runs a model uses all three, so that training and the
//! device agree by construction:
//!
//! 1. [`input_values`] cuts, resizes and normalises upright pixels as a [`Preprocess`] says;
//! 2. [`Network::run`] takes those numbers through an ONNX graph, on the CPU, one image at a time;
//! 3. [`ModelPackage`] holds both with the model's card, verified against its digests and its probes.
//!
//! Graphs come from files and are not trusted: [`Network::from_onnx`] looks at a graph before it spends
//! memory or time on it, and turns every fault, a panic in the inference engine included, into a
//! [`ModelError`].
//!
//! [`Preprocess`]: mynah_contracts::Preprocess

mod error;
mod graph;
mod guard;
mod network;
mod ops;
mod package;
mod preprocess;

pub use error::ModelError;
pub use graph::{GraphError, MAX_MODEL_BYTES, MAX_TENSOR_ELEMENTS};
pub use network::{Network, Operators};
pub use package::{ModelPackage, PROBE_TOLERANCE};
pub use preprocess::input_values;
