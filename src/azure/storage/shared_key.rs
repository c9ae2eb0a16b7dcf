//! Signing with an account's key (Azure Storage REST, "Authorize with Shared Key").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use url::Url;

use crate::secret::Secret;

/// What of a `GET` is signed.
pub(super) struct Get<'a> {
    pub(super) url: &'a Url,
    /// The `If-Match` header, empty without one.
    pub(super) if_match: &'a str,
    /// The `Range` header, empty without one.
    pub(super) range: &'a str,
    /// The `x-ms-` headers in alphabetical order.
    pub(super) own_headers: &'a [(&'static str, &'a str)],
}

/// What follows `SharedKey` in the `Authorization` header. None where the key is not base64.
pub(super) fn sign(account: &str, key: &Secret, get: &Get<'_>) -> Option<Secret> {
    let key = STANDARD.decode(key.expose()).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(string_to_sign(account, get).as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    // It signs this one request, and there are thousands: to mask each would be noise.
    Some(Secret::unmasked(&format!("{account}:{signature}")))
}

fn string_to_sign(account: &str, get: &Get<'_>) -> String {
    // Encoding, language, length, MD5, type, date and modification times are empty; the date is in `x-ms-date`.
    let mut text = format!("GET\n\n\n\n\n\n\n\n{}\n\n\n{}\n", get.if_match, get.range);
    for (name, value) in get.own_headers {
        text.extend([name, ":", value, "\n"]);
    }
    text.extend(["/", account, get.url.path()]);
    let mut query: Vec<(String, String)> =
        get.url.query_pairs().map(|(name, value)| (name.to_ascii_lowercase(), value.into_owned())).collect();
    query.sort();
    for (name, value) in query {
        text.extend(["\n", &name, ":", &value]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_text_is_the_documents() {
        let url = Url::parse("http://127.0.0.1:1/acc/c?restype=container&comp=list&prefix=a%20b%2F&Marker=")
            .unwrap();
        let get = Get {
            url: &url,
            if_match: "\"0x1\"",
            range: "bytes=5-",
            own_headers: &[("x-ms-date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("x-ms-version", "2021-12-02")],
        };
        assert_eq!(
            string_to_sign("acc", &get),
            "GET\n\n\n\n\n\n\n\n\"0x1\"\n\n\nbytes=5-\nx-ms-date:Sun, 06 Nov 1994 08:49:37 GMT\n\
             x-ms-version:2021-12-02\n/acc/acc/c\ncomp:list\nmarker:\nprefix:a b/\nrestype:container"
        );
        let signed = sign("acc", &Secret::new("a2V5"), &get).unwrap();
        let (account, signature) = signed.expose().split_once(':').unwrap();
        assert_eq!((account, signature.len()), ("acc", 44));
        assert!(sign("acc", &Secret::new("no base64!"), &get).is_none());
    }
}
