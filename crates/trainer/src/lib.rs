//! Photos and labels to a model: embeddings of a frozen backbone, a linear head, cross-validated metrics, one
//! ONNX file.

pub mod calibration;
pub mod cross_validation;
pub mod evaluation;
pub mod head;
mod lbfgs;
pub mod matrix;
#[cfg(test)]
mod sample;
