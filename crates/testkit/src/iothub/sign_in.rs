//! Who may ask: shared access signatures checked as the service does, or a bearer token.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::percent_decode_str;
use sha2::Sha256;

/// The shared access policy's name.
pub const POLICY: &str = "service";

/// The policy's key.
pub const KEY: &str = "bXluYWgtZG91YmxlLWtleS1vZi1hLWh1Yi0zMi1ieXQ=";

/// Why a request may not ask, by a clock that is so many seconds ahead; the text of the service's message.
pub(super) fn check(headers: &HeaderMap, ahead: u64) -> Result<(), String> {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .ok_or("the header Authorization is missing")?;
    if bearer(headers).is_some() {
        return Ok(());
    }
    let fields =
        given.strip_prefix("SharedAccessSignature ").ok_or("neither a signature nor a bearer token")?;
    let field = |name: &str| {
        fields
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
            .ok_or_else(|| format!("the signature lacks `{name}`"))
    };
    let (resource, signature, expiry, policy) = (field("sr")?, field("sig")?, field("se")?, field("skn")?);
    if policy != POLICY {
        return Err("no such policy".into());
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_err(|_| "the clock is before 1970")?
        .as_secs()
        + ahead;
    if expiry.parse::<u64>().map_err(|_| "`se` is no number")? <= now {
        return Err("the signature has expired".into());
    }
    let key = STANDARD.decode(KEY).map_err(|_| "the double's key is broken")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| "the double's key is broken")?;
    mac.update(format!("{resource}\n{expiry}").as_bytes());
    let signature = percent_decode_str(signature).decode_utf8().map_err(|_| "`sig` is no text")?;
    let signature = STANDARD.decode(signature.as_bytes()).map_err(|_| "`sig` is no base64")?;
    mac.verify_slice(&signature).map_err(|_| "the signature is wrong")?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let resource =
        percent_decode_str(resource).decode_utf8().map_err(|_| "`sr` is no text")?.to_ascii_lowercase();
    // A signature for the whole hub, or for what is asked.
    if resource != host.to_ascii_lowercase() && resource != host.split(':').next().unwrap_or_default() {
        return Err(format!("the signature is for `{resource}`"));
    }
    Ok(())
}

/// The bearer token of a request. Whether it is a good one, the test asks whoever gave it.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    given.strip_prefix("Bearer ").filter(|token| !token.is_empty())
}
