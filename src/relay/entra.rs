//! Callers that prove to be an application of a Microsoft Entra tenant, as Event Grid can: their signed token (RFC 7519,
//! RS256) is held against the keys the tenant publishes (OpenID Connect Discovery 1.0, RFC 7517).
//!
//! A tenant signs two kinds of tokens, each with an issuer and a list of keys of its own; which kind a caller gets is
//! set at the application. So both are read, and a token must be of the issuer whose key it names.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use crate::agent::{Env, InputError, Inputs};
use crate::azure::auth::authority;
use crate::http::{Client, HttpError, Request};

/// The application that Event Grid is in every tenant of the public cloud.
pub(super) const EVENT_GRID: &str = "4962773b-9cdb-44cf-a8bf-237846a00ab7";

/// Where a tenant describes its issuers, below the tenant: that of tokens in version 2.0, and in version 1.0.
const DESCRIPTIONS: [&str; 2] = ["v2.0/.well-known/openid-configuration", ".well-known/openid-configuration"];

/// A longer token is not looked at. Those of applications have about 1,500 bytes.
const LONGEST: usize = 16 << 10;
/// How far clocks may differ, in seconds.
const SKEW: u64 = 300;
/// A stranger can name a key that is not there as often as he likes; the tenant is asked no more often than this.
const ASK_AGAIN: Duration = Duration::from_mins(1);
/// The tenant is asked again after this long, since it withdraws keys.
const FRESH: Duration = Duration::from_hours(12);
/// How long the tenant may take to answer. Who waits for it holds a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whose tokens are taken, as the options say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trust {
    tenant: String,
    /// Where the tenant is described.
    descriptions: Vec<Url>,
    audiences: Vec<String>,
    callers: Vec<String>,
}

/// Why a token is not taken. It is told to its bearer, who knows what is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Denied {
    Malformed,
    Algorithm,
    Key,
    Signature,
    Issuer,
    Tenant,
    Audience,
    Caller,
    Expired,
    NotYet,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the token is not a JSON web token of Microsoft Entra",
            Self::Algorithm => "the token is not signed with RS256",
            Self::Key => "the token is signed with a key that the tenant does not publish",
            Self::Signature => "the token's signature is wrong",
            Self::Issuer => "the token is of another issuer",
            Self::Tenant => "the token is of another tenant",
            Self::Audience => "the token is for another audience",
            Self::Caller => "the token is of an application that may not deliver here",
            Self::Expired => "the token has expired",
            Self::NotYet => "the token does not hold yet",
        })
    }
}

/// What became of a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Trusted,
    Denied(Denied),
    /// The tenant's keys are not to be had just now.
    Unknown,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions one must understand (RFC 7515, 4.1.11). None is understood here.
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    exp: u64,
    #[serde(default)]
    nbf: u64,
    tid: Option<String>,
    /// The caller, in tokens of version 1.0.
    appid: Option<String>,
    /// The caller, in tokens of version 2.0.
    azp: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Description {
    issuer: String,
    jwks_uri: Url,
}

#[derive(Deserialize)]
struct PublishedKeys {
    keys: Vec<PublishedKey>,
}

#[derive(Deserialize)]
struct PublishedKey {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    n: Option<String>,
    e: Option<String>,
    /// Keys of personal accounts are in every tenant's list. They name the tenant they are for.
    issuer: Option<String>,
}

/// A key, and the issuer whose tokens it signs.
#[derive(Debug)]
struct Key {
    id: String,
    issuer: String,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

/// The keys of a tenant, and since when they are known.
#[derive(Debug)]
struct Keys {
    keys: Vec<Key>,
    since: Instant,
}

/// Judges tokens. Clones share the keys.
#[derive(Clone)]
pub(super) struct Entra(Arc<Inner>);

struct Inner {
    trust: Trust,
    client: Client,
    keys: RwLock<Option<Arc<Keys>>>,
    /// How long after it was asked the tenant may be asked again.
    ask_again: Duration,
    /// When the tenant was asked last; held while it is asked, so that one asks for all.
    asked: Mutex<Option<Instant>>,
}

impl Trust {
    /// What the options say; none where no tenant is named.
    pub(super) fn read(inputs: &Inputs, env: &Env) -> Result<Option<Self>, InputError> {
        let list = |name: &str| -> Result<Vec<String>, InputError> {
            let text = inputs.text(name)?.unwrap_or_default();
            Ok(text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect())
        };
        let audiences = list("audience")?;
        let Some(tenant) = inputs.text("tenant")? else {
            return match audiences.first() {
                Some(audience) => Err(inputs.refused("audience", audience, "nothing without `--tenant`")),
                None => Ok(None),
            };
        };
        if !is_id(tenant) {
            return Err(inputs.refused(
                "tenant",
                tenant,
                "a tenant's id, such as 11111111-2222-3333-4444-555555555555",
            ));
        }
        inputs.required("audience")?;
        let callers = list("callers")?;
        if let Some(wrong) = callers.iter().find(|caller| !is_id(caller)) {
            return Err(inputs.refused("callers", wrong, "ids of applications, with commas between them"));
        }
        let authority = authority(env, None);
        let expected = "an address such as https://login.microsoftonline.com";
        let descriptions = DESCRIPTIONS
            .iter()
            .map(|path| Url::parse(&format!("{}/{tenant}/{path}", authority.trim_end_matches('/'))))
            .collect::<Result<_, _>>()
            .map_err(|_| inputs.refused("AZURE_AUTHORITY_HOST", &authority, expected))?;
        Ok(Some(Self { tenant: tenant.to_lowercase(), descriptions, audiences, callers }))
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of tenant {}, for ", self.callers.join(", "), self.tenant)?;
        write!(f, "{}", self.audiences.join(", ").escape_debug())
    }
}

fn warn(error: &HttpError) {
    tracing::warn!("cannot fetch the tenant's keys: {}", mynah_contracts::error_chain(error));
}

/// Whether this is an id as Entra gives them: hexadecimal digits in groups of 8, 4, 4, 4 and 12.
fn is_id(text: &str) -> bool {
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

impl Entra {
    pub(super) fn new(trust: Trust, client: Client) -> Self {
        Self::asking_after(ASK_AGAIN, trust, client)
    }

    fn asking_after(ask_again: Duration, trust: Trust, client: Client) -> Self {
        Self(Arc::new(Inner { trust, client, keys: RwLock::new(None), ask_again, asked: Mutex::new(None) }))
    }

    /// Fetches the keys, so that the first delivery need not wait and a wrong tenant is told at the start.
    pub(super) async fn prepare(self) {
        if let Err(error) = self.ask_again(None).await {
            warn(&error);
        }
    }

    /// Judges a token. The tenant is asked for its keys where the token names one that is not known, but not often.
    pub(super) async fn judge(&self, token: &str) -> Verdict {
        let token = match Token::read(token) {
            Ok(token) => token,
            Err(denied) => return Verdict::Denied(denied),
        };
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let known = self.known();
        if let Some(keys) = &known
            && keys.since.elapsed() < FRESH
            && let Some(key) = keys.find(&token)
        {
            return self.verdict(&token, key, now);
        }
        let keys = match self.ask_again(known.as_ref()).await {
            Ok(keys) => keys,
            Err(error) => {
                warn(&error);
                known
            }
        };
        match keys {
            None => Verdict::Unknown,
            Some(keys) => match keys.find(&token) {
                Some(key) => self.verdict(&token, key, now),
                None => Verdict::Denied(Denied::Key),
            },
        }
    }

    fn verdict(&self, token: &Token, key: &Key, now: u64) -> Verdict {
        match token.check(key, &self.0.trust, now) {
            Ok(()) => Verdict::Trusted,
            Err(denied) => Verdict::Denied(denied),
        }
    }

    fn known(&self) -> Option<Arc<Keys>> {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys, asked for again unless someone else just did.
    async fn ask_again(&self, seen: Option<&Arc<Keys>>) -> Result<Option<Arc<Keys>>, HttpError> {
        let mut asked = self.0.asked.lock().await;
        let known = self.known();
        let is_news = known.as_ref().map(|keys| keys.since) != seen.map(|keys| keys.since);
        if is_news || asked.is_some_and(|at| at.elapsed() < self.0.ask_again) {
            return Ok(known);
        }
        *asked = Some(Instant::now());
        self.ask().await.map(Some)
    }

    async fn ask(&self) -> Result<Arc<Keys>, HttpError> {
        let mut keys = Vec::new();
        for description in &self.0.trust.descriptions {
            let Description { issuer, jwks_uri } = self.fetch(description.clone()).await?;
            let published: PublishedKeys = self.fetch(jwks_uri).await?;
            keys.extend(
                published.keys.into_iter().filter_map(|key| key.usable(&issuer, &self.0.trust.tenant)),
            );
        }
        tracing::debug!("the tenant publishes {} keys", keys.len());
        let keys = Arc::new(Keys { keys, since: Instant::now() });
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&keys));
        Ok(keys)
    }

    async fn fetch<T: DeserializeOwned>(&self, url: Url) -> Result<T, HttpError> {
        self.0.client.send(&Request::get(url).within(PATIENCE)).await?.json()
    }
}

impl PublishedKey {
    /// The key as it is needed here, if it signs tokens of `issuer` with RSA.
    fn usable(self, issuer: &str, tenant: &str) -> Option<Key> {
        let of_issuer = self.issuer.is_none_or(|of| of.replace("{tenantid}", tenant) == issuer);
        if self.kty != "RSA" || self.purpose.is_some_and(|purpose| purpose != "sig") || !of_issuer {
            return None;
        }
        let decode = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?.trim_end_matches('=')).ok();
        let (modulus, exponent) = (decode(self.n)?, decode(self.e)?);
        Some(Key { id: self.kid?, issuer: issuer.to_owned(), modulus, exponent })
    }
}

impl Keys {
    /// The key a token names. One key may sign for both issuers; then it is that of the token's issuer.
    fn find(&self, token: &Token) -> Option<&Key> {
        let named = || self.keys.iter().filter(|key| key.id == token.key);
        named().find(|key| key.issuer == token.claims.iss).or_else(|| named().next())
    }
}

/// A token that can be read. What it says is not to be believed before [`Token::check`].
struct Token<'a> {
    key: String,
    claims: Claims,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    fn read(text: &'a str) -> Result<Self, Denied> {
        if text.len() > LONGEST {
            return Err(Denied::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Denied::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Denied::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Denied::Malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Denied::Malformed)?;
        if header.alg != "RS256" {
            return Err(Denied::Algorithm);
        }
        if header.crit.is_some() {
            return Err(Denied::Malformed);
        }
        Ok(Self {
            key: header.kid.ok_or(Denied::Malformed)?,
            claims: serde_json::from_slice(&decode(claims)?).map_err(|_| Denied::Malformed)?,
            signed,
            signature: decode(signature)?,
        })
    }

    /// Whether the token is what `trust` asks for at `now`, in seconds since 1970. The signature comes first.
    fn check(&self, key: &Key, trust: &Trust, now: u64) -> Result<(), Denied> {
        RsaPublicKeyComponents { n: &key.modulus, e: &key.exponent }
            .verify(&RSA_PKCS1_2048_8192_SHA256, self.signed.as_bytes(), &self.signature)
            .map_err(|_| Denied::Signature)?;
        let claims = &self.claims;
        let is_known =
            |known: &[String], given: &str| known.iter().any(|one| one.eq_ignore_ascii_case(given));
        let audience = match &claims.aud {
            Audience::One(audience) => is_known(&trust.audiences, audience),
            Audience::Several(audiences) => audiences.iter().any(|one| is_known(&trust.audiences, one)),
        };
        let caller = claims.appid.as_deref().or(claims.azp.as_deref());
        let rules = [
            (claims.iss == key.issuer, Denied::Issuer),
            (
                claims.tid.as_deref().is_some_and(|tid| tid.eq_ignore_ascii_case(&trust.tenant)),
                Denied::Tenant,
            ),
            (audience, Denied::Audience),
            (caller.is_some_and(|caller| is_known(&trust.callers, caller)), Denied::Caller),
            (now <= claims.exp.saturating_add(SKEW), Denied::Expired),
            (now.saturating_add(SKEW) >= claims.nbf, Denied::NotYet),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, denied)| Err(denied))
    }
}

#[cfg(test)]
#[path = "entra_tests.rs"]
mod tests;
