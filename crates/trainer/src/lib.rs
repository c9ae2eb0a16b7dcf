//! Photos and labels to a model: embeddings of a frozen backbone, a linear head, cross-validated metrics, one ONNX
//! file.
//!
//! [`Embedded`] is the whole: it implements [`Trainer`] and [`Exporter`]. Its parts, in the order a training uses
//! them: [`backbone`], [`augment`], [`embed`](mod@embed) with its [`cache`], [`cross_validation`] and [`head`],
//! [`calibration`], [`evaluation`], [`head_file`], and for the export [`onnx`].
//!
//! [`Foreign`] takes in what another tool trained and exported.
//!
//! [`Trainer`]: mynah_contracts::Trainer
//! [`Exporter`]: mynah_contracts::Exporter

pub mod augment;
pub mod backbone;
pub mod cache;
pub mod calibration;
pub mod cross_validation;
mod dual;
pub mod embed;
mod embedded;
mod error;
pub mod evaluation;
mod export;
mod foreign;
pub mod head;
pub mod head_file;
pub mod heap;
mod kernel;
mod lbfgs;
pub mod matrix;
pub mod onnx;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod scenario;

pub use embedded::Embedded;
pub use error::TrainerError;
pub use foreign::{Foreign, ForeignError};
