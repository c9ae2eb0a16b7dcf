//! OCI images without a daemon: the documents of the image specification, layers made deterministically,
//! image layouts written, read and verified, layers unpacked safely.
//!
//! Follows the OCI image specification 1.1: [`spec`] holds its documents, [`layer`] the
//! changesets, [`layout`] the folder form, [`unpack`] the way back to files. [`runtime_image`] is the one
//! image this project ships.

pub mod archive;
pub mod base;
pub(crate) mod docker_archive;
pub mod elf;
pub mod entry_path;
mod error;
mod gzip;
pub mod image;
pub mod layer;
pub mod layer_cache;
pub mod layout;
pub mod reference;
pub mod runtime_image;
pub mod spec;
pub(crate) mod tar_stream;
pub(crate) mod tree;
pub mod unpack;

pub use error::OciError;
