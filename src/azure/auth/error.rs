//! Why nobody could be signed in, and what its reader can do.

use std::io;
use std::path::PathBuf;

use mynah_contracts::{Diagnosis, FaultKind};

use crate::agent::ConnectionError;
use crate::http::HttpError;

/// Why nobody could be signed in to Azure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The service connection cannot be used.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// A variable holds what it cannot hold.
    #[error("`{name}` is `{value}`, {expected} is expected")]
    Variable {
        /// The variable, or the service connection's field.
        name: String,
        /// What it holds.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
    /// A pipeline that gives no token to ask for others with.
    #[error("the job has no `{0}` to get a federated token with")]
    NoJobToken(&'static str),
    /// A file with a credential cannot be read.
    #[error("cannot read `{path}` to sign in to Azure")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate that cannot be used.
    #[error("cannot sign in with the certificate of {who}: {problem}")]
    Certificate {
        /// Who signs in.
        who: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The sign-in was refused, or nobody answered.
    #[error("cannot sign in to Azure as {who}")]
    SignIn {
        /// Who.
        who: String,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// This machine has no managed identity.
    #[error("this machine has no managed identity")]
    NoIdentity,
    /// The Azure CLI is not there.
    #[error("the Azure CLI `az` cannot be run")]
    NoCli(#[source] crate::child::RunError),
    /// The Azure CLI gives no token.
    #[error("the Azure CLI gives no token ({0})")]
    Cli(String),
    /// Nobody to sign in as.
    #[error("nobody to sign in to Azure as ({tried})")]
    NoSource {
        /// What was tried, and what came of it.
        tried: String,
    },
}

impl AuthError {
    /// Whether there is nobody to sign in as here, so that another source may be tried.
    pub(super) fn is_unavailable(&self) -> bool {
        matches!(self, Self::NoIdentity | Self::NoCli(_) | Self::Cli(_))
    }
}

impl Diagnosis for AuthError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Connection(error) => error.kind(),
            Self::SignIn { source, .. } => source.kind(),
            Self::File { .. } => FaultKind::Failed,
            _ => FaultKind::BadInput,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Connection(error) => return error.hint(),
            Self::SignIn { source, .. } => match entra_hint(source) {
                Some(hint) => hint,
                None => return source.hint(),
            },
            Self::NoJobToken(_) => "run this in a pipeline's job, whose agent gives it to the task",
            Self::Certificate { .. } => {
                "give one PEM file with the RSA private key and the certificate that the application knows"
            }
            Self::NoIdentity => "assign an identity to the machine, or sign in another way",
            Self::NoCli(_) | Self::Cli(_) => "install the Azure CLI and run `az login`",
            Self::NoSource { .. } => {
                "give a service connection in a pipeline; elsewhere run `az login`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"
            }
            Self::Variable { .. } | Self::File { .. } => return None,
        };
        Some(hint.into())
    }
}

/// What the numbers in Entra's refusals ask for (Microsoft Entra error codes reference).
fn entra_hint(error: &HttpError) -> Option<&'static str> {
    let message = error.refusal()?.message.as_deref()?;
    let (_, rest) = message.split_once("AADSTS")?;
    let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(match number.as_str() {
        "7000215" => "the client secret is wrong; give the secret's value, not its id",
        "7000222" => "the client secret has expired; make a new one and put it into the service connection",
        "90002" | "900023" => "there is no such tenant; check the tenant id and the cloud",
        "700016" => "the tenant does not know this application; check tenant id and client id",
        "700024" => "the clock of this machine is off; set it right",
        "70021" | "700211" | "700212" | "700213" => {
            "the application trusts no such federated token; its federated credential needs the issuer and subject of this service connection"
        }
        "700027" => "the application does not know this certificate; upload it there",
        "500011" => {
            "the tenant does not know the service the token is for; check the tenant id and the cloud"
        }
        _ => return None,
    })
}
