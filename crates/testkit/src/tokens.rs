//! A double of the places that give tokens: the tenant's token endpoint, a pipeline's federated tokens, the metadata
//! service of virtual machines and App Service's identity endpoint.
//!
//! | route | contract |
//! |---|---|
//! | `POST /{tenant}/oauth2/v2.0/token` | OAuth 2.0 client credentials: secret, federated token, signed assertion |
//! | `POST /oidc` | Azure DevOps `oidctoken`: the job's token, `serviceConnectionId` |
//! | `GET /metadata/identity/oauth2/token` | virtual machines: header `Metadata: true` |
//! | `GET /app-service/token` | App Service: header `X-IDENTITY-HEADER` |

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::wire::{Served, Wire};

/// The one tenant.
pub const TENANT: &str = "11111111-2222-3333-4444-555555555555";
/// The one application, and the one identity with a name of its own.
pub const CLIENT_ID: &str = "66666666-7777-8888-9999-000000000000";
/// The application's secret.
pub const CLIENT_SECRET: &str = "right~client.secret";
/// A secret that was the application's.
pub const EXPIRED_SECRET: &str = "former~client.secret";
/// The token of the pipeline's job.
pub const JOB_TOKEN: &str = "job-token-of-this-run";
/// The service connection that is federated with the application.
pub const CONNECTION: &str = "0f0e0d0c-1111-2222-3333-444455556666";
/// What App Service writes into `IDENTITY_HEADER`.
pub const IDENTITY_HEADER: &str = "identity-header-of-this-app";

type Fields = BTreeMap<String, String>;

/// The double. It listens until it is dropped.
#[derive(Debug)]
pub struct TokenService {
    served: Served,
    /// What was said.
    pub wire: Arc<Wire>,
    state: Arc<Mutex<Issued>>,
}

#[derive(Debug)]
struct Issued {
    /// Access tokens and the scope each is for.
    access: BTreeMap<String, String>,
    federated: Vec<String>,
    thumbprints: Vec<String>,
    life: u64,
    wire: Arc<Wire>,
}

type Shared = State<Arc<Mutex<Issued>>>;

impl TokenService {
    /// Starts it on `port` (0: any free one).
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(port: u16) -> Result<Self> {
        let wire = Arc::new(Wire::default());
        let state = Arc::new(Mutex::new(Issued {
            access: BTreeMap::new(),
            federated: Vec::new(),
            thumbprints: Vec::new(),
            life: 3600,
            wire: Arc::clone(&wire),
        }));
        let router = Router::new()
            .route("/{tenant}/oauth2/v2.0/token", post(token))
            .route("/oidc", post(federated))
            .route("/metadata/identity/oauth2/token", get(metadata))
            .route("/app-service/token", get(app_service))
            .with_state(Arc::clone(&state));
        Ok(Self { served: Served::start(router, Arc::clone(&wire), port)?, wire, state })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.served.url()
    }

    /// Whether it gave this token for this scope.
    pub fn gave(&self, token: &str, scope: &str) -> bool {
        lock(&self.state).access.get(token).is_some_and(|given| given == scope)
    }

    /// Makes the tokens to come live for so many seconds.
    pub fn set_life(&self, seconds: u64) {
        lock(&self.state).life = seconds;
    }

    /// Makes the application know a certificate by its thumbprint: SHA-256, base64url.
    pub fn trust(&self, thumbprint: &str) {
        lock(&self.state).thumbprints.push(thumbprint.to_owned());
    }

    /// A federated token the application trusts, as one that lies in a file.
    pub fn federated_token(&self) -> String {
        lock(&self.state).federate()
    }
}

impl Issued {
    fn federate(&mut self) -> String {
        let token = format!("federated.token.{}", self.federated.len());
        self.federated.push(token.clone());
        token
    }

    fn grant(&mut self, scope: &str) -> String {
        let token = format!("access-token-{}-of-this-tenant", self.access.len());
        self.access.insert(token.clone(), scope.to_owned());
        token
    }

    /// Notes a broken contract and gives its answer.
    fn broken(&self, what: &str) -> Response {
        self.wire.violation(format!("tokens: {what}"));
        refusal(StatusCode::BAD_REQUEST, "invalid_request", what)
    }

    /// Whether the signed assertion is one of a trusted certificate; the signature itself is judged elsewhere.
    fn knows(&self, assertion: &str) -> bool {
        let mut parts = assertion.split('.');
        let header = parts.next().and_then(decode_json);
        let claims = parts.next().and_then(decode_json);
        let (Some(header), Some(claims)) = (header, claims) else { return false };
        let text =
            |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        text(&header, "alg") == "PS256"
            && self.thumbprints.contains(&text(&header, "x5t#S256"))
            && text(&claims, "iss") == CLIENT_ID
            && text(&claims, "sub") == CLIENT_ID
            && text(&claims, "aud").ends_with(&format!("/{TENANT}/oauth2/v2.0/token"))
            && !text(&claims, "jti").is_empty()
            && claims.get("exp").and_then(Value::as_u64) > claims.get("nbf").and_then(Value::as_u64)
            && parts.next().is_some_and(|signature| !signature.is_empty())
    }
}

async fn token(State(state): Shared, Path(tenant): Path<String>, Form(form): Form<Fields>) -> Response {
    let mut state = lock(&state);
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    if field("grant_type") != "client_credentials" {
        return state.broken("`grant_type` is not `client_credentials`");
    }
    if !field("scope").ends_with("/.default") {
        return state.broken("`scope` does not end with `/.default`");
    }
    if tenant != TENANT {
        return refusal(StatusCode::BAD_REQUEST, "invalid_request", "AADSTS90002: Tenant not found.");
    }
    if field("client_id") != CLIENT_ID {
        return refusal(
            StatusCode::BAD_REQUEST,
            "unauthorized_client",
            "AADSTS700016: Application not found.",
        );
    }
    let unauthorised = |message: &str| refusal(StatusCode::UNAUTHORIZED, "invalid_client", message);
    match (field("client_secret"), field("client_assertion")) {
        (CLIENT_SECRET, "") => {}
        (EXPIRED_SECRET, "") => {
            return unauthorised("AADSTS7000222: The provided client secret keys are expired.");
        }
        ("", assertion) if !assertion.is_empty() => {
            if field("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
                return state.broken("`client_assertion_type` is not RFC 7523's");
            }
            if !state.federated.iter().any(|known| known == assertion) && !state.knows(assertion) {
                return unauthorised("AADSTS70021: No matching federated identity record found.");
            }
        }
        _ => return unauthorised("AADSTS7000215: Invalid client secret provided."),
    }
    let life = state.life;
    let granted = state.grant(field("scope"));
    Json(json!({"token_type": "Bearer", "expires_in": life, "access_token": granted})).into_response()
}

async fn federated(State(state): Shared, Query(query): Query<Fields>, headers: HeaderMap) -> Response {
    let mut state = lock(&state);
    let query = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    if header(&headers, "x-tfs-fedauthredirect") != "Suppress" || query("api-version") != "7.1" {
        return state.broken("no `X-TFS-FedAuthRedirect: Suppress`, or another `api-version` than 7.1");
    }
    if header(&headers, "authorization") != format!("Bearer {JOB_TOKEN}") {
        return refusal(StatusCode::UNAUTHORIZED, "Unauthorized", "TF400813: not authorized");
    }
    if query("serviceConnectionId") != CONNECTION {
        return refusal(StatusCode::NOT_FOUND, "NotFound", "no such service connection");
    }
    Json(json!({"oidcToken": state.federate()})).into_response()
}

async fn metadata(State(state): Shared, Query(query): Query<Fields>, headers: HeaderMap) -> Response {
    if header(&headers, "metadata") != "true" {
        return refusal(StatusCode::BAD_REQUEST, "invalid_request", "Required metadata header not specified");
    }
    machine(&mut lock(&state), &query, "2018-02-01")
}

async fn app_service(State(state): Shared, Query(query): Query<Fields>, headers: HeaderMap) -> Response {
    if header(&headers, "x-identity-header") != IDENTITY_HEADER {
        return refusal(StatusCode::UNAUTHORIZED, "unauthorized", "wrong identity header");
    }
    machine(&mut lock(&state), &query, "2019-08-01")
}

/// A token of the machine's identity. Numbers are text there.
fn machine(state: &mut Issued, query: &Fields, version: &str) -> Response {
    let query = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    if query("api-version") != version {
        return state.broken("another `api-version` than the interface's");
    }
    if query("resource").is_empty() || query("resource").ends_with("/.default") {
        return state.broken("`resource` is empty or a scope");
    }
    if !["", CLIENT_ID].contains(&query("client_id")) {
        return refusal(StatusCode::BAD_REQUEST, "invalid_request", "Identity not found");
    }
    let life = state.life;
    let granted = state.grant(&format!("{}/.default", query("resource")));
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    Json(json!({"access_token": granted, "expires_on": (now + life).to_string(), "token_type": "Bearer"}))
        .into_response()
}

fn refusal(status: StatusCode, error: &str, description: &str) -> Response {
    (status, Json(json!({"error": error, "error_description": description}))).into_response()
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn decode_json(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn lock(state: &Mutex<Issued>) -> MutexGuard<'_, Issued> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
