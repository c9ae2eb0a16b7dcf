//! Dockerfiles carried out without a daemon, root or emulation, as far as they only arrange files and
//! settings: all but `RUN`.
//!
//! [`parse`] reads one (Dockerfile reference 1.x), [`build`] carries it out for one platform on top of a base
//! image. Files carry no time of their own, so that equal content gives equal layers.

pub mod build;
mod context;
mod copy;
mod error;
pub mod instruction;
mod lines;
pub mod parse;
pub(crate) mod pattern;
mod settings;
mod words;

pub use error::{DockerfileError, Problem};
