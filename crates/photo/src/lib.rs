//! Foreign image bytes to upright RGB pixels, and what is done with such pixels outside a model: resizing,
//! likeness, thumbnails.
//!
//! Everything that reads a photo reads it through [`decode`]: import, training, the export's check and the
//! device see the same pixels. Sizes are checked before memory is taken, and damaged files are errors,
//! never half-grey pictures.

mod decode;
mod encode;
pub mod file;
mod format;
mod jpeg;
mod jpeg_stream;
mod likeness;
mod resize;
mod rgb;

pub use decode::{DecodeError, Decoded, Limits, decode};
pub use encode::{EncodeError, encode_jpeg, encode_png};
pub use format::sniff;
pub use likeness::{Likeness, LikenessParseError};
pub use resize::{Rect, ResizeError, resize, thumbnail};
pub use rgb::RgbImage;
