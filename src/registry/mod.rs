//! Registries of images, spoken to as the OCI distribution specification 1.1 says.
//!
//! `address` turns a registry's name into URLs, `credentials` finds who signs in, `session` is let in, `blobs` and
//! `manifests` are the API's two kinds of things, `push` and `pull` the two ways between a registry and this machine.

mod address;
mod attach;
mod blobs;
mod challenge;
mod credentials;
mod docker_config;
mod error;
mod manifests;
mod pull;
mod push;
mod session;
#[cfg(test)]
mod tests;
mod upload;

pub(crate) use address::split;
pub(crate) use attach::{ArtifactManifest, Attachment, Listing, Pending};
pub(crate) use blobs::Repository;
pub use credentials::SignIn;
pub use error::RegistryError;
pub(crate) use manifests::Known;
pub use pull::RegistryImages;
pub use push::Moved;
pub(crate) use push::{Homes, read as read_document};
pub(crate) use session::Scope;

use crate::http::{Client, Policy};
use address::Address;
use mynah_contracts::Monitor;
use session::Session;
use std::time::Duration;

/// A registry that is spoken to.
pub(crate) struct Registry {
    session: Session,
}

impl Registry {
    /// A repository of this registry.
    pub(crate) fn repository<'a>(&'a self, path: &'a str, scope: &'a Scope) -> Repository<'a> {
        Repository { session: &self.session, path, scope }
    }

    /// Signs in as far as that can be done before there is anything to ask for.
    ///
    /// # Errors
    /// When the registry cannot be asked, or nobody is let in.
    pub(crate) async fn prepare(&self, scope: &Scope) -> Result<(), RegistryError> {
        self.session.prepare(scope).await
    }

    /// The registry called `name`, a host with or without a port.
    ///
    /// # Errors
    /// When nobody can sign in, no connection can be prepared, or the name is none.
    pub(crate) fn new(name: &str, sign_in: &SignIn, monitor: &dyn Monitor) -> Result<Self, RegistryError> {
        // A chunk of 16 MiB on a slow line takes minutes in which nothing arrives.
        let limits = Duration::from_mins(10);
        let client = Client::new(Policy { idle: limits, deadline: limits, ..Policy::default() })?;
        let address = Address::of(name, sign_in.is_insecure()).ok_or_else(|| RegistryError::Credentials {
            source_of_them: format!("the registry `{}`", name.escape_debug()),
            problem: "is not a host with or without a port".into(),
        })?;
        let credentials = sign_in.credentials(&address, &client, monitor)?;
        Ok(Self { session: Session::new(client, address, credentials) })
    }
}
