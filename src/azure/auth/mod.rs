//! Signing in to Azure, once for every service: a [`TokenSource`] gives bearer tokens for a scope.
//!
//! In a pipeline it is the service connection a task's input names; elsewhere the environment's application
//! (`AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and a secret, certificate or federated token), then the managed identity of
//! the machine, then whoever is signed in to the Azure CLI.
//!
//! The few requests are made with our own client: `azure_identity` takes no token endpoint on this machine, needs
//! OpenSSL for certificates, and reads the process' environment by itself.

mod application;
mod certificate;
mod cli;
mod error;
mod managed;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tracing::debug;

use self::application::Application;
use self::managed::ManagedIdentity;
use crate::agent::{Connection, Env};
use crate::http::Client;
use crate::secret::Secret;

pub(crate) use application::authority;
pub use error::AuthError;

/// What a token is for.
pub mod scope {
    /// Blob Storage.
    pub const STORAGE: &str = "https://storage.azure.com/.default";
    /// Custom Vision, Speech and the other AI services.
    pub const COGNITIVE_SERVICES: &str = "https://cognitiveservices.azure.com/.default";
    /// IoT Hub's service interface.
    pub const IOT_HUB: &str = "https://iothubs.azure.net/.default";
    /// Azure Container Registry.
    pub const CONTAINER_REGISTRY: &str = "https://containerregistry.azure.net/.default";
    /// Azure's own management.
    pub const MANAGEMENT: &str = "https://management.azure.com/.default";
    /// Azure DevOps, which goes by its application's id.
    pub const DEVOPS: &str = "499b84ac-1321-427f-aa17-267ca6975798/.default";
}

/// A token is not used in the last minutes of its life.
const MARGIN: Duration = Duration::from_mins(5);

/// Gives bearer tokens; clones share them.
#[derive(Clone, Debug)]
pub struct TokenSource(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Client,
    sources: Vec<Source>,
    tokens: Mutex<Tokens>,
}

#[derive(Debug, Default)]
struct Tokens {
    by_scope: BTreeMap<String, Token>,
    /// The source that worked.
    settled: Option<usize>,
}

/// A token and when it ends.
#[derive(Clone, Debug)]
struct Token {
    secret: Secret,
    ends: Instant,
}

#[derive(Debug)]
enum Source {
    Application(Application),
    Managed(ManagedIdentity),
    Cli,
}

impl TokenSource {
    /// Finds out how to sign in; nothing is sent yet.
    ///
    /// With `connection`, the id in a task's input, it is that service connection and nothing else.
    ///
    /// # Errors
    /// A service connection or an environment that is incomplete, and a certificate that cannot be read.
    pub fn discover(env: &Env, client: &Client, connection: Option<&str>) -> Result<Self, AuthError> {
        let sources = match connection {
            Some(id) => vec![Self::of_connection(env, &Connection::read(env, id)?)?],
            None => match Application::of_environment(env)? {
                Some(application) => vec![Source::Application(application)],
                None => vec![Source::Managed(ManagedIdentity::of_environment(env)?), Source::Cli],
            },
        };
        Ok(Self(Arc::new(Shared { client: client.clone(), sources, tokens: Mutex::default() })))
    }

    fn of_connection(env: &Env, connection: &Connection) -> Result<Source, AuthError> {
        match connection.scheme() {
            "ManagedServiceIdentity" => Ok(Source::Managed(ManagedIdentity::of_connection(env, connection)?)),
            _ => Ok(Source::Application(Application::of_connection(env, connection)?)),
        }
    }

    /// A token for `scope`, see [`scope`]; a fresh one where the last is near its end.
    ///
    /// # Errors
    /// Why nobody could be signed in.
    pub async fn token(&self, scope: &str) -> Result<Secret, AuthError> {
        // Held while a token is fetched, so that parallel requests fetch one.
        let mut tokens = self.0.tokens.lock().await;
        if let Some(token) = tokens.by_scope.get(scope)
            && Instant::now() + MARGIN < token.ends
        {
            return Ok(token.secret.clone());
        }
        let mut unavailable = Vec::new();
        for (place, source) in self.0.sources.iter().enumerate() {
            if tokens.settled.is_some_and(|settled| settled != place) {
                continue;
            }
            match source.fetch(&self.0.client, scope, self.0.sources.len() == 1).await {
                Ok(token) => {
                    debug!("signed in to Azure as {}", source.who());
                    tokens.settled = Some(place);
                    tokens.by_scope.insert(scope.to_owned(), token.clone());
                    return Ok(token.secret);
                }
                Err(error) if error.is_unavailable() && self.0.sources.len() > 1 => {
                    unavailable.push(format!("{}: {}", source.who(), mynah_contracts::error_chain(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        Err(AuthError::NoSource { tried: unavailable.join("; ") })
    }

    /// Forgets the token for `scope`, as when a service says that it has ended.
    pub async fn forget(&self, scope: &str) {
        self.0.tokens.lock().await.by_scope.remove(scope);
    }
}

impl Source {
    /// `sure` where this is the only source: then it is waited for.
    async fn fetch(&self, client: &Client, scope: &str, sure: bool) -> Result<Token, AuthError> {
        match self {
            Self::Application(application) => application.fetch(client, scope).await,
            Self::Managed(identity) => identity.fetch(scope, sure).await,
            Self::Cli => cli::fetch(scope).await,
        }
    }

    fn who(&self) -> String {
        match self {
            Self::Application(application) => application.who().to_owned(),
            Self::Managed(_) => "the managed identity".into(),
            Self::Cli => "the user of the Azure CLI".into(),
        }
    }
}

impl Token {
    /// A token that ends after `seconds`.
    fn ending_in(secret: Secret, seconds: u64) -> Self {
        let now = Instant::now();
        // No token lives for longer than a day; a wrong number must not overflow.
        Self { secret, ends: now + Duration::from_secs(seconds.min(86_400)) }
    }

    /// A token that ends at a time in seconds since 1970.
    fn ending_at(secret: Secret, at: u64) -> Self {
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
        Self::ending_in(secret, at.saturating_sub(now))
    }
}
