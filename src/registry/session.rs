//! Being let in: from a 401 to a request that the registry accepts.
//!
//! The first request goes without credentials; its refusal says how to sign in. What was learnt is kept: the
//! scheme, and a token per scope until the registry refuses it (distribution token specification; Azure Container
//! Registry's exchange of a Microsoft Entra token).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::RegistryError;
use super::address::Address;
use super::challenge::Challenge;
use super::credentials::Credentials;
use crate::http::{Client, HttpError, Request, Response, Url};
use crate::secret::Secret;

/// What a token must allow: `repository:<name>:pull,push`, one or more.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Scope(Vec<String>);

impl Scope {
    /// Reading a repository.
    pub(crate) fn pull(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull")])
    }

    /// Reading and writing a repository.
    pub(crate) fn push(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull,push")])
    }

    /// Also reading another one.
    pub(crate) fn and_pull(mut self, repository: &str) -> Self {
        self.0.push(format!("repository:{repository}:pull"));
        self
    }
}

/// How blobs are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Up to this many bytes are sent in one request, more in chunks of this size.
    pub(crate) chunk: u64,
    /// Before an upload goes on or begins again; doubles with each failure in a row.
    pub(crate) first_wait: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { chunk: 16 << 20, first_wait: Duration::from_millis(300) }
    }
}

/// A signed-in conversation with one registry.
pub(crate) struct Session {
    pub(crate) address: Address,
    pub(crate) pace: Pace,
    http: Client,
    credentials: Credentials,
    known: Mutex<Known>,
}

/// How long a registry is waited for while nothing is asked of it.
const AHEAD: Duration = Duration::from_secs(20);

/// What the registry taught us.
#[derive(Default)]
struct Known {
    basic: bool,
    tokens: BTreeMap<Scope, Secret>,
    /// What an Entra token was exchanged for.
    refresh: Option<Secret>,
}

/// What a request was signed with.
#[derive(PartialEq, Eq)]
enum Used {
    Nothing,
    Password,
    Token(Secret),
}

/// A token service's answer; both names are in use.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct ExchangeAnswer {
    refresh_token: String,
}

impl Session {
    pub(crate) fn new(http: Client, address: Address, credentials: Credentials) -> Self {
        Self { address, pace: Pace::default(), http, credentials, known: Mutex::default() }
    }

    /// A request of the API, allowed to go unencrypted where that was asked for.
    pub(crate) fn allow(&self, request: Request) -> Request {
        if self.address.insecure { request.plain() } else { request }
    }

    /// Sends `request` and reads the whole answer. `doing` tells in an error what it was for.
    ///
    /// # Errors
    /// When the request fails, or nobody is let in.
    pub(crate) async fn send(
        &self,
        request: Request,
        scope: &Scope,
        doing: &str,
    ) -> Result<Response, RegistryError> {
        let request = self.allow(request).also(&[401]);
        let failed = |source| self.failed(doing, source);
        let (signed, used) = self.authorised(request.clone(), scope);
        let first = self.http.send(&signed).await.map_err(failed)?;
        if first.status() != 401 {
            return Ok(first);
        }
        self.sign_in(&first.headers("www-authenticate"), &used, scope, doing).await?;
        let second = self.http.send(&self.authorised(request, scope).0).await.map_err(failed)?;
        if second.status() == 401 { Err(self.refused(doing)) } else { Ok(second) }
    }

    /// As [`Session::send`], with a body that is read as it arrives.
    ///
    /// # Errors
    /// When the request fails, or nobody is let in.
    pub(crate) async fn open(
        &self,
        request: Request,
        scope: &Scope,
        doing: &str,
    ) -> Result<crate::http::Incoming, RegistryError> {
        let request = self.allow(request).also(&[401]);
        let failed = |source| self.failed(doing, source);
        let (signed, used) = self.authorised(request.clone(), scope);
        let first = self.http.open(&signed).await.map_err(failed)?;
        if first.status() != 401 {
            return Ok(first);
        }
        self.sign_in(&first.headers("www-authenticate"), &used, scope, doing).await?;
        let second = self.http.open(&self.authorised(request, scope).0).await.map_err(failed)?;
        if second.status() == 401 { Err(self.refused(doing)) } else { Ok(second) }
    }

    /// Learns how to sign in, and gets what work in `scope` needs.
    ///
    /// # Errors
    /// When the registry cannot be asked, or nobody is let in.
    pub(crate) async fn prepare(&self, scope: &Scope) -> Result<(), RegistryError> {
        let doing = "sign in";
        // Whoever works there asks again, and waits longer.
        let request = Request::get(self.address.api("")).also(&[401, 404]).tries(1).within(AHEAD);
        let request = self.allow(request);
        let answer = self.http.send(&request).await.map_err(|source| self.failed(doing, source))?;
        if answer.status() == 401 {
            self.sign_in(&answer.headers("www-authenticate"), &Used::Nothing, scope, doing).await?;
        }
        Ok(())
    }

    pub(crate) fn failed(&self, doing: &str, source: HttpError) -> RegistryError {
        RegistryError::Request { doing: doing.into(), registry: self.address.name().into(), source }
    }

    /// An answer that is not what the specification says.
    pub(crate) fn odd(&self, doing: &str, problem: impl Into<String>) -> RegistryError {
        RegistryError::Protocol {
            registry: self.address.name().into(),
            doing: doing.into(),
            problem: problem.into(),
        }
    }

    fn refused(&self, doing: &str) -> RegistryError {
        let anonymous = matches!(self.credentials, Credentials::Anonymous);
        RegistryError::SignIn {
            registry: self.address.name().into(),
            doing: doing.into(),
            problem: if anonymous {
                "it wants to know who asks, and no credentials were found"
            } else {
                "it does not accept the credentials"
            },
        }
    }

    fn with_known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The request with what we know to be wanted, and what that was.
    fn authorised(&self, request: Request, scope: &Scope) -> (Request, Used) {
        let (basic, token) = self.with_known(|known| (known.basic, known.tokens.get(scope).cloned()));
        match (token, &self.credentials) {
            (Some(token), _) => (request.bearer(&token), Used::Token(token)),
            (None, Credentials::Password { user, password }) if basic => {
                (request.authorization("Basic", &basic_credentials(user, password)), Used::Password)
            }
            _ => (request, Used::Nothing),
        }
    }

    /// Learns what the registry asks for, and gets it. `used` did not suffice.
    async fn sign_in(
        &self,
        headers: &[&str],
        used: &Used,
        scope: &Scope,
        doing: &str,
    ) -> Result<(), RegistryError> {
        match Challenge::choose(headers.iter().copied()) {
            Some(Challenge::Basic) => {
                let password = matches!(self.credentials, Credentials::Password { .. });
                if !password || *used == Used::Password {
                    return Err(self.refused(doing));
                }
                self.with_known(|known| known.basic = true);
                Ok(())
            }
            Some(Challenge::Bearer { realm, service }) => {
                let renewed = self.with_known(|known| known.tokens.get(scope).cloned());
                if renewed.is_some_and(|token| *used != Used::Token(token)) {
                    // Another request was here first.
                    return Ok(());
                }
                let Ok(realm) = realm.parse::<Url>() else {
                    return Err(self.odd(doing, "with a token service that is no address"));
                };
                let token = self.token(&realm, service.as_deref(), scope, doing).await?;
                self.with_known(|known| known.tokens.insert(scope.clone(), token));
                Ok(())
            }
            None => Err(self.odd(doing, "with 401 and no way to sign in that we know")),
        }
    }

    /// A token of the service at `realm`.
    async fn token(
        &self,
        realm: &Url,
        service: Option<&str>,
        scope: &Scope,
        doing: &str,
    ) -> Result<Secret, RegistryError> {
        let service = service.unwrap_or_else(|| self.address.service());
        let request = match &self.credentials {
            Credentials::Anonymous | Credentials::Password { .. } => {
                let mut url = realm.clone();
                {
                    let mut query = url.query_pairs_mut();
                    query.append_pair("service", service);
                    query.extend_pairs(scope.0.iter().map(|scope| ("scope", scope)));
                }
                let request = Request::get(url);
                match &self.credentials {
                    Credentials::Password { user, password } => {
                        request.authorization("Basic", &basic_credentials(user, password))
                    }
                    _ => request,
                }
            }
            Credentials::IdentityToken(token) => refresh(realm, service, scope, token),
            Credentials::Entra { source, tenant } => {
                let known = self.with_known(|known| known.refresh.clone());
                let refresh_token = if let Some(token) = known {
                    token
                } else {
                    let entra = Credentials::entra_token(source).await?;
                    self.exchange(&entra, tenant.as_deref(), doing).await?
                };
                refresh(realm, service, scope, &refresh_token)
            }
        };
        let request = self.allow(request).also(&[400, 401, 403]);
        let answer = self.http.send(&request).await.map_err(|source| self.failed(doing, source))?;
        if answer.status() >= 400 {
            // The next attempt exchanges anew: a refresh token does not live long.
            self.with_known(|known| known.refresh = None);
            return Err(self.refused(doing));
        }
        let tokens: TokenAnswer = answer.json().map_err(|source| self.failed(doing, source))?;
        let token = tokens.token.or(tokens.access_token).filter(|token| !token.is_empty());
        token.map(Secret::new).ok_or_else(|| self.odd(doing, "with no token"))
    }

    /// Azure Container Registry: a Microsoft Entra token for a refresh token of the registry.
    async fn exchange(
        &self,
        entra: &Secret,
        tenant: Option<&str>,
        doing: &str,
    ) -> Result<Secret, RegistryError> {
        let mut fields = vec![
            ("grant_type", "access_token"),
            ("service", self.address.service()),
            ("access_token", entra.expose()),
        ];
        fields.extend(tenant.map(|tenant| ("tenant", tenant)));
        let request = Request::post(self.address.below("/oauth2/exchange")).form(&fields);
        let request = self.allow(request).also(&[400, 401, 403]).repeat(crate::http::Repeat::Always);
        let answer = self.http.send(&request).await.map_err(|source| self.failed(doing, source))?;
        if answer.status() >= 400 {
            return Err(self.refused(doing));
        }
        let answer: ExchangeAnswer = answer.json().map_err(|source| self.failed(doing, source))?;
        let token = Secret::new(answer.refresh_token);
        self.with_known(|known| known.refresh = Some(token.clone()));
        Ok(token)
    }
}

/// The request that turns a refresh token into an access token.
fn refresh(realm: &Url, service: &str, scope: &Scope, token: &Secret) -> Request {
    let scopes = scope.0.join(" ");
    Request::post(realm.clone())
        .form(&[
            ("grant_type", "refresh_token"),
            ("service", service),
            ("scope", &scopes),
            ("client_id", "mynah"),
            ("refresh_token", token.expose()),
        ])
        .repeat(crate::http::Repeat::Always)
}

fn basic_credentials(user: &str, password: &Secret) -> Secret {
    Secret::new(STANDARD.encode(format!("{user}:{}", password.expose())))
}
