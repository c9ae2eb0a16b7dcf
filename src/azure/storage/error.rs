//! Why blobs cannot be had, and what their reader can do.

use mynah_contracts::{Diagnosis, FaultKind};

use super::{Access, Credential};
use crate::azure::auth::AuthError;
use crate::http::HttpError;

/// Why a text is no place for blobs. The text itself is not shown: it may hold a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocationError {
    /// No URL.
    #[error("the source is not a URL")]
    Url(#[source] url::ParseError),
    /// Nothing behind the account.
    #[error("the source's URL names no container")]
    NoContainer,
    /// A secret in what is shown and recorded.
    #[error("the source's URL holds {0}")]
    Credentials(&'static str),
    /// Escapes that are not UTF-8.
    #[error("the source's URL holds escapes that are not UTF-8 text")]
    NotText,
}

impl Diagnosis for LocationError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Credentials(_) => {
                "leave it out of the URL, which is shown in logs; give a signature in AZURE_STORAGE_SAS_TOKEN, a key in AZURE_STORAGE_KEY"
            }
            _ => "give it as https://ACCOUNT.blob.core.windows.net/CONTAINER or with a folder below",
        };
        Some(hint.into())
    }
}

/// Why a credential in the environment cannot be used. None of it is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// Not `Name=Value;…`, or with neither key nor signature.
    #[error("`AZURE_STORAGE_CONNECTION_STRING` is not a connection string with a key or a signature")]
    ConnectionString,
    /// Not base64.
    #[error("`{variable}` is not a storage key, which is base64 text")]
    Key {
        /// Where it stands.
        variable: &'static str,
    },
    /// A query without `sig`.
    #[error("`{variable}` is not a shared access signature, which holds `sig=`")]
    Signature {
        /// Where it stands.
        variable: &'static str,
    },
    /// A key, and nobody says whose.
    #[error("the source's URL does not tell the account, and neither does `{variable}`")]
    NoAccount {
        /// What could tell it.
        variable: &'static str,
    },
    /// The credential is for another account.
    #[error("`{variable}` is for `{there}`, the photos are in `{here}`")]
    Elsewhere {
        /// Where it stands.
        variable: &'static str,
        /// What it opens.
        there: String,
        /// What is to be opened.
        here: String,
    },
}

impl Diagnosis for CredentialError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoAccount { .. } => "name the account in AZURE_STORAGE_ACCOUNT".into(),
            Self::Elsewhere { .. } => "give the credential of the account in --source, or its URL".into(),
            _ => "copy it from the storage account's page in the portal, and check that nothing is cut off"
                .into(),
        })
    }
}

/// What was being done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doing {
    Listing(String),
    Fetching(String),
}

/// Why blobs cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The place is none.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The credential is none.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// Nobody could be signed in.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The account key signs nothing.
    #[error("the account key cannot be used to sign")]
    Key,
    /// The container does not let itself be listed.
    #[error("cannot list the blobs in `{place}`")]
    List {
        /// Where.
        place: String,
        /// With what.
        with: Opener,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// A blob does not let itself be fetched.
    #[error("cannot fetch the blob `{}`", .name.escape_debug())]
    Fetch {
        /// Which.
        name: String,
        /// With what.
        with: Opener,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// The answer is no listing.
    #[error("the answer of `{place}` is no listing of blobs")]
    Listing {
        /// Where.
        place: String,
    },
    /// The network, apart from any request.
    #[error(transparent)]
    Network(#[from] HttpError),
    /// A blob is no longer what was listed.
    #[error("the blob `{}` changed while it was fetched", .name.escape_debug())]
    Changed {
        /// Which.
        name: String,
    },
    /// A blob's content is not what its MD5 says.
    #[error("the content of the blob `{}` does not match its MD5", .name.escape_debug())]
    Damaged {
        /// Which.
        name: String,
    },
}

/// What a container was opened with, for the hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opener {
    /// An account's key.
    Key,
    /// A shared access signature.
    Signature,
    /// A sign-in.
    Token,
}

impl BlobError {
    pub(super) fn changed(name: &str) -> Self {
        Self::Changed { name: name.to_owned() }
    }

    pub(super) fn http(doing: Doing, access: &Access, source: HttpError) -> Self {
        let with = match access {
            Access::Credential(Credential::Key { .. }) => Opener::Key,
            Access::Credential(Credential::Signature(_)) => Opener::Signature,
            Access::SignedIn(_) => Opener::Token,
        };
        match doing {
            // Another version took its place, or none did.
            Doing::Fetching(name)
                if matches!(source.status(), Some(404 | 412))
                    && source.code() != Some("ContainerNotFound") =>
            {
                Self::Changed { name }
            }
            Doing::Fetching(name) => Self::Fetch { name, with, source },
            Doing::Listing(place) => Self::List { place, with, source },
        }
    }

    /// Whether the connection broke: what arrived is good, and the rest may be fetched.
    pub fn is_interruption(&self) -> bool {
        matches!(
            self,
            Self::Fetch { source: HttpError::Interrupted { .. } | HttpError::Unreachable { .. }, .. }
                | Self::Network(HttpError::Interrupted { .. })
        )
    }
}

impl Diagnosis for BlobError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Location(error) => error.kind(),
            Self::Credential(error) => error.kind(),
            Self::Auth(error) => error.kind(),
            Self::Key => FaultKind::BadInput,
            Self::List { source, .. } | Self::Fetch { source, .. } | Self::Network(source) => source.kind(),
            Self::Listing { .. } | Self::Damaged { .. } => FaultKind::ServiceRefused,
            Self::Changed { .. } => FaultKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Location(error) => return error.hint(),
            Self::Credential(error) => return error.hint(),
            Self::Auth(error) => return error.hint(),
            Self::Network(error) => return error.hint(),
            Self::Key => "copy the key from the storage account's page in the portal",
            Self::List { with, source, .. } | Self::Fetch { with, source, .. } => {
                return storage_hint(*with, source).map(str::to_owned).or_else(|| source.hint());
            }
            Self::Listing { .. } => "check that --source is a container of Blob Storage",
            Self::Changed { .. } => "run the import again once nothing writes to the container any more",
            Self::Damaged { .. } => "upload the blob again, then run the import again",
        };
        Some(hint.into())
    }
}

/// What the service's codes ask for (Azure Storage REST, error codes).
fn storage_hint(with: Opener, error: &HttpError) -> Option<&'static str> {
    let refusal = error.refusal()?;
    let clock = refusal.clock_is_off();
    Some(match (refusal.code.as_deref().unwrap_or_default(), with) {
        ("ContainerNotFound" | "ContainerBeingDeleted" | "ResourceNotFound", _) => {
            "check the container's name in --source, and that it exists"
        }
        ("AuthenticationFailed" | "AuthorizationFailure" | "RequestTimeTooSkewed", _) if clock => {
            "the clock of this machine is off; set it right"
        }
        ("AuthenticationFailed" | "AuthorizationFailure", Opener::Key) => {
            "the key is not this account's; copy one of its two keys from the portal"
        }
        ("AuthenticationFailed" | "AuthorizationFailure", Opener::Signature) => {
            "the shared access signature is wrong, has expired, or comes from an address it does not allow; make a new one"
        }
        ("InvalidAuthenticationInfo" | "AuthenticationFailed", Opener::Token) => {
            "the sign-in is for another tenant than the storage account's; sign in to that one"
        }
        ("AuthorizationPermissionMismatch" | "AuthorizationFailure", Opener::Token) => {
            "give whoever signs in the role Storage Blob Data Reader on the storage account, and wait some minutes"
        }
        (
            "AuthorizationPermissionMismatch"
            | "AuthorizationServiceMismatch"
            | "AuthorizationResourceTypeMismatch",
            _,
        ) => {
            "the shared access signature does not allow this; make one for blobs with the permissions read and list"
        }
        ("AuthorizationProtocolMismatch" | "AccountRequiresHttps", _) => {
            "give an address that begins with https://"
        }
        ("AuthorizationSourceIPMismatch", _) => {
            "the account's network rules keep this machine out; let it in or run where it is"
        }
        ("KeyBasedAuthenticationNotPermitted", _) => {
            "this account takes no keys; sign in instead, as with a service connection"
        }
        ("PublicAccessNotPermitted" | "NoAuthenticationInformation", _) => {
            "the container is private; give a key, a signature or a sign-in"
        }
        _ => return None,
    })
}
