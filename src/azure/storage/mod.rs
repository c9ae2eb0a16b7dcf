//! Blob Storage: listing a container below a prefix, and fetching blobs.
//!
//! Two operations of the REST interface (List Blobs, Get Blob) over our own client. The official crate has neither
//! shared keys nor connection strings, and takes no token for a service on this machine; with it a second retry policy
//! and a second vocabulary of errors would come in.

mod container;
mod credential;
mod error;
mod listing;
mod location;
mod shared_key;

pub use container::{Access, Container};
pub use credential::Credential;
pub use error::{BlobError, CredentialError, LocationError};
pub use listing::{Blob, BlobKind, Page};
pub use location::Location;
