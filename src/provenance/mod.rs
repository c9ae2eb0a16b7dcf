//! Where an image comes from, in forms that other tools read: what software is in it (`sbom`), what it was built
//! from (`statement`), and whose key vouches for it ([`signature`]).
//!
//! All of it is a function of the image and of what it was built from: no clock, no machine.

pub(crate) mod image_contents;
pub(crate) mod sbom;
pub mod signature;
pub(crate) mod statement;
