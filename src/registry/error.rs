//! Why a registry was not reached, refused, or cannot be believed.

use std::path::PathBuf;

use mynah_contracts::{Cancelled, Diagnosis, FaultKind, Sha256Digest};

use crate::agent::ConnectionError;
use crate::azure::auth::AuthError;
use crate::http::HttpError;
use crate::oci::OciError;

/// Why talking to a registry came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A request failed.
    #[error("cannot {doing}")]
    Request {
        /// What was being done to what, such as `push the layer … to …`.
        doing: String,
        /// The registry, as references name it.
        registry: String,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// Nobody vouched for us, or nobody the registry believes.
    #[error("cannot sign in to `{registry}` to {doing}: {problem}")]
    SignIn {
        /// The registry, as references name it.
        registry: String,
        /// What was being done.
        doing: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The registry's content is not what its digest says.
    #[error("`{registry}` gave {found} for `{what}`, which is {expected}")]
    OtherDigest {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// The digest it must have.
        expected: Sha256Digest,
        /// What the registry says or sent.
        found: String,
    },
    /// An answer without what the specification asks for.
    #[error("`{registry}` answered `{doing}` {problem}")]
    Protocol {
        /// The registry.
        registry: String,
        /// What was being done.
        doing: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// There is no such image.
    #[error("there is no image `{0}`")]
    NoSuchImage(String),
    /// A file with credentials cannot be used.
    #[error("cannot use the credentials in `{path}`", path = .path.display())]
    CredentialFile {
        /// The file.
        path: PathBuf,
        /// Why, without a word of its content.
        #[source]
        source: std::io::Error,
    },
    /// Credentials that cannot be used.
    #[error("{source_of_them} {problem}")]
    Credentials {
        /// Where they come from, such as the service connection `x`.
        source_of_them: String,
        /// What is wrong.
        problem: String,
    },
    /// A service connection that cannot be used.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// Nobody could be signed in to Azure, whose tokens the registry wants.
    #[error(transparent)]
    Azure(#[from] AuthError),
    /// The image on this machine cannot be read.
    #[error(transparent)]
    Image(#[from] OciError),
    /// The network cannot be used at all.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Someone asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl RegistryError {
    /// Whether the registry says that there is no such thing.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Request { source, .. } if source.status() == Some(404))
    }
}

impl Diagnosis for RegistryError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Request { source, .. } | Self::Http(source) => source.kind(),
            Self::SignIn { .. } | Self::OtherDigest { .. } | Self::Protocol { .. } => {
                FaultKind::ServiceRefused
            }
            Self::NoSuchImage(_) | Self::CredentialFile { .. } | Self::Credentials { .. } => {
                FaultKind::BadInput
            }
            Self::Connection(error) => error.kind(),
            Self::Azure(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Cancelled(cancelled) => cancelled.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Request { source, registry, .. } => match (source.status(), source.code()) {
                (Some(401), _) => return Some(sign_in(registry)),
                (Some(400), Some("DIGEST_INVALID")) => {
                    "the file changed on its way; run build-modules again, it mends the layout".into()
                }
                (Some(403), _) => format!(
                    "whoever signed in to `{registry}` may not do this: give the account the right to push to the repository (Azure Container Registry: the role AcrPush), or choose a repository of its own"
                ),
                (Some(404), _) => {
                    "check the name of the repository and the tag; some registries want a repository to be made first".into()
                }
                (Some(413), _) => {
                    "the registry, or a proxy before it, takes no body this large; raise its limit".into()
                }
                _ if matches!(source, HttpError::Unreachable { .. }) => format!(
                    "check the name `{registry}` and the network; a registry without TLS is spoken to with --insecure-registry only"
                ),
                _ => return source.hint(),
            },
            Self::SignIn { registry, .. } => sign_in(registry),
            Self::OtherDigest { .. } => {
                "do not trust this registry before its operator has looked at its storage and at the proxies before it".into()
            }
            Self::Protocol { .. } => {
                "check that a registry answers at this address (OCI distribution specification); a proxy before it must state the address it is known by".into()
            }
            Self::NoSuchImage(_) => "check its name and its tag or digest".into(),
            Self::CredentialFile { .. } => "sign in again with `docker login`, or mend the file".into(),
            Self::Credentials { .. } => return None,
            Self::Connection(error) => return error.hint(),
            Self::Azure(error) => return error.hint(),
            Self::Image(error) => return error.hint(),
            Self::Http(error) => return error.hint(),
            Self::Cancelled(cancelled) => return cancelled.hint(),
        };
        Some(hint)
    }
}

fn sign_in(registry: &str) -> String {
    format!(
        "sign in with `docker login {registry}`, name a service connection with --registry-connection, or set MYNAH_REGISTRY_USER and MYNAH_REGISTRY_PASSWORD"
    )
}
