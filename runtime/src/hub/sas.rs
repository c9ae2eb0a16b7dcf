//! Shared access signatures: the password of a device or module at the hub.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;

use crate::secret::Secret;

/// What stands in a signature as it is (RFC 3986, unreserved).
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Text as a part of an address or a property.
pub(super) fn quote(text: &str) -> String {
    utf8_percent_encode(text, QUOTED).to_string()
}

/// What is signed: the resource and the end of its validity, in seconds since 1970.
pub(super) fn string_to_sign(resource: &str, expiry: u64) -> String {
    format!("{}\n{expiry}", quote(resource))
}

/// The password made of a signature in base64.
pub(super) fn token(resource: &str, expiry: u64, signature: &str) -> Secret {
    Secret::new(format!("SharedAccessSignature sr={}&sig={}&se={expiry}", quote(resource), quote(signature)))
}

/// Signs with a key in base64, as a connection string holds it.
///
/// # Errors
/// The key is not base64.
pub(super) fn sign(key: &Secret, text: &str) -> io::Result<String> {
    let key = STANDARD.decode(key.expose()).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidData, "the key of the connection string is not base64")
    })?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    Ok(STANDARD.encode(hmac::sign(&key, text.as_bytes())))
}

/// A device's connection string.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectionString {
    /// The hub's host name.
    pub host: String,
    /// The device.
    pub device: String,
    /// The module, if it is one's.
    pub module: Option<String>,
    /// The key.
    pub key: Secret,
}

impl ConnectionString {
    /// Reads `HostName=…;DeviceId=…;SharedAccessKey=…`, with `ModuleId=…` for a module.
    ///
    /// # Errors
    /// Names the part that is missing; never shows the key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let part = |wanted: &str| {
            let mut parts = text.trim().split(';');
            parts
                .find_map(|part| part.trim().strip_prefix(wanted)?.strip_prefix('='))
                .filter(|value| !value.is_empty())
        };
        let needed = |name: &str| part(name).map(str::to_owned).ok_or_else(|| format!("it has no `{name}`"));
        let plain = |text: &String| !text.contains(['/', '#', '+', '\0', '\n']);
        let parsed = Self {
            host: needed("HostName")?,
            device: needed("DeviceId")?,
            module: part("ModuleId").map(str::to_owned),
            key: Secret::new(needed("SharedAccessKey")?),
        };
        if plain(&parsed.host) && plain(&parsed.device) && parsed.module.as_ref().is_none_or(plain) {
            Ok(parsed)
        } else {
            Err("its names hold characters that cannot stand in a topic".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_others_compute() {
        // Computed with Python: hmac.new(b64decode(key), quote(resource, safe='') + b"\n1700000000", sha256).
        let text = string_to_sign("hub.example/devices/pi", 1_700_000_000);
        assert_eq!(text, "hub.example%2Fdevices%2Fpi\n1700000000");
        let signature = sign(&Secret::new("MDEyMzQ1Njc4OWFiY2RlZg=="), &text).unwrap();
        assert_eq!(signature, "J67jfhk5W7gohem/AP3qswWDKy5lZf81KEsMP1anxZs=");
        let token = token("hub.example/devices/pi", 1_700_000_000, "a+/=");
        assert_eq!(
            token.expose(),
            "SharedAccessSignature sr=hub.example%2Fdevices%2Fpi&sig=a%2B%2F%3D&se=1700000000"
        );
        assert!(sign(&Secret::new("no base64!"), "x").is_err());
    }

    #[test]
    fn connection_strings_are_read_and_keys_not_shown() {
        let text = "HostName=h.example;DeviceId=pi;SharedAccessKey=c2VjcmV0PQ==\n";
        let parsed = ConnectionString::parse(text).unwrap();
        assert_eq!(
            (parsed.host.as_str(), parsed.device.as_str(), &parsed.module),
            ("h.example", "pi", &None)
        );
        assert_eq!(parsed.key.expose(), "c2VjcmV0PQ==");
        assert!(!format!("{parsed:?}").contains("c2Vj"));
        assert_eq!(
            ConnectionString::parse("HostName=h;SharedAccessKey=k").unwrap_err(),
            "it has no `DeviceId`"
        );
        assert!(ConnectionString::parse("HostName=h;DeviceId=a/b;SharedAccessKey=k").is_err());
    }
}
