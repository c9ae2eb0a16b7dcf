//! Signing in as the machine: App Service's endpoint where the environment names one, else the metadata service of
//! virtual machines (Microsoft Entra, managed identities, "get a token using HTTP").

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::Token;
use super::error::AuthError;
use crate::agent::{Connection, Env};
use crate::http::{Client, HttpError, Policy, Request};
use crate::secret::Secret;

/// The metadata service, the same on every virtual machine.
const METADATA: &str = "http://169.254.169.254";

/// How long it is waited for where nobody said that there is one.
const PROBE: Duration = Duration::from_secs(2);

/// The identity of the machine, or the one of several that `client_id` names.
#[derive(Debug)]
pub(super) struct ManagedIdentity {
    endpoint: Url,
    /// App Service's proof that the request comes from the machine.
    header: Option<Secret>,
    client_id: Option<String>,
}

/// Both endpoints write numbers as text.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    expires_on: Option<String>,
    #[serde(default)]
    expires_in: Option<String>,
}

impl ManagedIdentity {
    pub(super) fn of_environment(env: &Env) -> Result<Self, AuthError> {
        Self::new(env, env.get("AZURE_CLIENT_ID"))
    }

    pub(super) fn of_connection(env: &Env, connection: &Connection) -> Result<Self, AuthError> {
        Self::new(env, connection.data("MSICLIENTID"))
    }

    fn new(env: &Env, client_id: Option<&str>) -> Result<Self, AuthError> {
        let app_service = env.get("IDENTITY_ENDPOINT").zip(env.get("IDENTITY_HEADER"));
        let (name, address, version, header) = if let Some((address, header)) = app_service {
            ("IDENTITY_ENDPOINT", address.to_owned(), "2019-08-01", Some(Secret::new(header)))
        } else {
            // The name other Azure clients read too; containers relay the metadata service there.
            let name = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
            let host = env.get(name).unwrap_or(METADATA).trim_end_matches('/');
            (name, format!("{host}/metadata/identity/oauth2/token"), "2018-02-01", None)
        };
        let mut endpoint = Url::parse(&address).map_err(|_| AuthError::Variable {
            name: name.into(),
            value: address.escape_debug().to_string(),
            expected: "an address",
        })?;
        endpoint.query_pairs_mut().append_pair("api-version", version);
        Ok(Self { endpoint, header, client_id: client_id.map(str::to_owned) })
    }

    /// `sure` where nothing else is to be tried: then a slow answer is waited for.
    pub(super) async fn fetch(&self, scope: &str, sure: bool) -> Result<Token, AuthError> {
        let failed = |source| AuthError::SignIn { who: "the managed identity".into(), source };
        // It is a place on this machine, which no proxy can reach.
        let client =
            Client::new(Policy { proxy: false, connect: PROBE, ..Policy::default() }).map_err(failed)?;
        let resource = scope.strip_suffix("/.default").unwrap_or(scope);
        let mut request = Request::get(self.endpoint.clone()).query("resource", resource).plain();
        request = match &self.header {
            Some(header) => request.secret_header("x-identity-header", header),
            None => request.header("metadata", "true"),
        };
        if let Some(client_id) = &self.client_id {
            request = request.query("client_id", client_id);
        }
        if !sure && self.header.is_none() {
            request = request.tries(1).within(PROBE);
        }
        let granted: Granted = match client.send(&request).await.and_then(|response| response.json()) {
            Ok(granted) => granted,
            // No such service, or one that is something else; a proxy in between may answer in its place.
            Err(
                HttpError::Unreachable { .. } | HttpError::Deadline { .. } | HttpError::Interrupted { .. },
            ) if !sure => {
                return Err(AuthError::NoIdentity);
            }
            Err(error) if !sure && matches!(error.status(), Some(400 | 403 | 404 | 405 | 502..=504)) => {
                return Err(AuthError::NoIdentity);
            }
            Err(error) => return Err(failed(error)),
        };
        let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<u64>().ok());
        let secret = Secret::new(granted.access_token);
        Ok(match (number(&granted.expires_on), number(&granted.expires_in)) {
            (Some(at), _) => Token::ending_at(secret, at),
            (None, seconds) => Token::ending_in(secret, seconds.unwrap_or_default()),
        })
    }
}
