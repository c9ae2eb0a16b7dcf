//! A double of a Microsoft Entra tenant as the issuer of signed tokens.
//!
//! | route | contract |
//! |---|---|
//! | `GET /{tenant}/v2.0/.well-known/openid-configuration` | OpenID Connect Discovery 1.0, tokens in version 2.0 |
//! | `GET /{tenant}/.well-known/openid-configuration` | the same, version 1.0 |
//! | `GET /{tenant}/discovery/v2.0/keys`, `GET /{tenant}/discovery/keys` | RFC 7517 |

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents};
use serde_json::{Value, json};

use crate::tokens::TENANT;
use crate::wire::{Served, Wire};

/// Keys for nothing else (`openssl genrsa -traditional 2048`, in DER form).
const KEYS: [&[u8]; 2] =
    [include_bytes!("../fixtures/issuer-1.der"), include_bytes!("../fixtures/issuer-2.der")];

/// The name of a key that is in every tenant's list and signs for personal accounts alone. It is the second of ours.
pub const PERSONAL: &str = "key-of-personal-accounts";

/// The double. It listens until it is dropped.
#[derive(Debug)]
pub struct Issuer {
    served: Served,
    /// What was said.
    pub wire: Arc<Wire>,
    keys: Arc<Keys>,
}

#[derive(Debug)]
struct Keys {
    pairs: Vec<RsaKeyPair>,
    /// Which of them are published.
    published: Mutex<Vec<usize>>,
}

impl Issuer {
    /// Starts it on a free port. Its first key is published, the second is not.
    ///
    /// # Errors
    /// No port is free.
    pub fn start() -> Result<Self> {
        let wire = Arc::new(Wire::default());
        let pairs: Result<Vec<_>> = KEYS
            .iter()
            .map(|key| RsaKeyPair::from_der(key).map_err(|error| anyhow!("a key is refused: {error}")))
            .collect();
        let keys = Arc::new(Keys { pairs: pairs?, published: Mutex::new(vec![0]) });
        let router = Router::new()
            .route("/{tenant}/v2.0/.well-known/openid-configuration", get(describe_second))
            .route("/{tenant}/.well-known/openid-configuration", get(describe_first))
            .route("/{tenant}/discovery/v2.0/keys", get(list))
            .route("/{tenant}/discovery/keys", get(list))
            .with_state(Arc::clone(&keys));
        Ok(Self { served: Served::start(router, Arc::clone(&wire), 0)?, wire, keys })
    }

    /// Where it listens: the authority.
    pub fn url(&self) -> String {
        self.served.url()
    }

    /// Publishes these keys, counted from 0, and no others.
    pub fn publish(&self, keys: &[usize]) {
        *self.keys.published.lock().unwrap_or_else(PoisonError::into_inner) = keys.to_vec();
    }

    /// What an application gets for `audience` in version 1.0: an hour from now.
    pub fn claims(audience: &str, application: &str) -> Value {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        json!({
            "aud": audience, "iss": first_issuer(TENANT), "iat": now, "nbf": now, "exp": now + 3600,
            "appid": application, "appidacr": "2", "tid": TENANT, "ver": "1.0",
            "roles": ["AzureEventGridSecureWebhookSubscriber"],
        })
    }

    /// The same in version 2.0.
    pub fn claims_of_second_version(audience: &str, application: &str) -> Value {
        let mut claims = Self::claims(audience, application);
        if let Some(fields) = claims.as_object_mut() {
            fields.remove("appid");
            fields.insert("azp".into(), application.into());
            fields.insert("iss".into(), second_issuer(TENANT).into());
            fields.insert("ver".into(), "2.0".into());
        }
        claims
    }

    /// What stands before the claims of a token that is signed with this key, counted from 0.
    pub fn header(key: usize) -> Value {
        json!({"typ": "JWT", "alg": "RS256", "kid": name(key)})
    }

    /// Signs with a key, counted from 0, whatever the header says.
    ///
    /// # Errors
    /// There is no such key.
    pub fn sign(&self, key: usize, header: &Value, claims: &Value) -> Result<String> {
        let text = format!("{}.{}", encode(header), encode(claims));
        let pair = self.keys.pairs.get(key).ok_or_else(|| anyhow!("there is no key {key}"))?;
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|error| anyhow!("key {key} does not sign: {error}"))?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn name(key: usize) -> String {
    format!("key-{key}-of-this-tenant")
}

fn first_issuer(tenant: &str) -> String {
    format!("https://sts.windows.net/{tenant}/")
}

fn second_issuer(tenant: &str) -> String {
    format!("https://login.microsoftonline.com/{tenant}/v2.0")
}

fn unknown_tenant() -> Response {
    let body = json!({"error": "invalid_tenant", "error_description": "AADSTS90002: Tenant not found."});
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

fn describe(tenant: &str, issuer: &str, keys: &str, headers: &axum::http::HeaderMap) -> Response {
    if tenant != TENANT {
        return unknown_tenant();
    }
    let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    Json(json!({
        "issuer": issuer, "jwks_uri": format!("http://{host}/{tenant}/{keys}"),
        "id_token_signing_alg_values_supported": ["RS256"],
    }))
    .into_response()
}

async fn describe_first(Path(tenant): Path<String>, headers: axum::http::HeaderMap) -> Response {
    describe(&tenant, &first_issuer(&tenant), "discovery/keys", &headers)
}

async fn describe_second(Path(tenant): Path<String>, headers: axum::http::HeaderMap) -> Response {
    describe(&tenant, &second_issuer(&tenant), "discovery/v2.0/keys", &headers)
}

async fn list(State(keys): State<Arc<Keys>>, Path(tenant): Path<String>) -> Response {
    if tenant != TENANT {
        return unknown_tenant();
    }
    let published = keys.published.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let public = |at: usize, name: &str| {
        let public: RsaPublicKeyComponents<Vec<u8>> = keys.pairs.get(at)?.public().into();
        let (n, e) = (URL_SAFE_NO_PAD.encode(public.n), URL_SAFE_NO_PAD.encode(public.e));
        Some(json!({"kty": "RSA", "use": "sig", "kid": name, "n": n, "e": e}))
    };
    let mut list: Vec<Value> = published.iter().filter_map(|&at| public(at, &name(at))).collect();
    // The key of personal accounts is in every tenant's list, and signs none of its tokens.
    if let Some(mut personal) = public(1, PERSONAL) {
        personal["issuer"] = second_issuer("9188040d-6c67-4c5b-b112-36a304b66dad").into();
        list.push(personal);
    }
    // What is not understood must do no harm.
    list.push(json!({"kty": "EC", "use": "sig", "kid": "curve", "crv": "P-256", "x": "", "y": ""}));
    Json(json!({"keys": list})).into_response()
}
