//! Which hub, and who signs in: a connection string with its shared access signatures, or a token of
//! Microsoft Entra ID.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

use super::HubError;
use crate::http::Url;
use crate::secret::Secret;

/// How long a signature is good, in seconds. It is made anew for every request.
const LIFETIME: i64 = 3600;

/// What stands for itself in a signature (RFC 3986, "unreserved").
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The domain of a hub that is named without one.
const DOMAIN: &str = ".azure-devices.net";

/// A hub's address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HubAddress {
    host: String,
    url: Url,
}

impl HubAddress {
    /// Reads a host such as `mynah.azure-devices.net`, or the hub's name alone. This machine may be named with
    /// a port; it is then spoken to without encryption.
    ///
    /// # Errors
    /// When it is no host.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let refused = || HubError::Address(text.chars().take(80).flat_map(char::escape_debug).collect());
        let text = text.trim().to_ascii_lowercase();
        let (name, port) =
            text.split_once(':').map_or((text.as_str(), None), |(name, port)| (name, Some(port)));
        let is_local = matches!(name, "localhost" | "127.0.0.1");
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
        let port_is_good = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        if name.is_empty() || !name.bytes().all(plain) || name.starts_with(['-', '.']) || !port_is_good {
            return Err(refused());
        }
        let host = if name.contains('.') || is_local { text.clone() } else { format!("{text}{DOMAIN}") };
        let scheme = if is_local { "http" } else { "https" };
        let url = Url::parse(&format!("{scheme}://{host}/")).map_err(|_| refused())?;
        Ok(Self { host, url })
    }

    /// The host, with a port where one was given.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }
}

/// A shared access policy's name and key.
#[derive(Clone, Debug)]
pub struct SharedKey {
    policy: String,
    key: Bytes,
}

/// A key's bytes; its `Debug` shows nothing.
#[derive(Clone)]
struct Bytes(Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Reads a connection string of a hub: `HostName=…;SharedAccessKeyName=…;SharedAccessKey=…`.
///
/// # Errors
/// When a part is missing or wrong; no part of it but names of parts is in the message.
pub fn connection_string(text: &Secret) -> Result<(HubAddress, SharedKey), HubError> {
    let mut host = None;
    let mut policy = None;
    let mut key = None;
    for part in text.expose().trim().split(';').filter(|part| !part.trim().is_empty()) {
        let Some((name, value)) = part.split_once('=') else {
            return Err(HubError::ConnectionString("one of its parts has no `=`"));
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "hostname" => host = Some(value.trim()),
            "sharedaccesskeyname" => policy = Some(value.trim()),
            "sharedaccesskey" => key = Some(value.trim()),
            "deviceid" | "moduleid" => {
                return Err(HubError::ConnectionString("it is that of a device, not of the hub"));
            }
            "sharedaccesssignature" => {
                return Err(HubError::ConnectionString("it holds a signature where a key is needed"));
            }
            _ => {}
        }
    }
    let given = |value: Option<&str>, lacks| {
        value.filter(|value| !value.is_empty()).map(str::to_owned).ok_or(HubError::ConnectionString(lacks))
    };
    let host = given(host, "it lacks `HostName`")?;
    let policy = given(policy, "it lacks `SharedAccessKeyName`")?;
    let key = Secret::new(given(key, "it lacks `SharedAccessKey`")?);
    let decoded = STANDARD.decode(key.expose());
    let decoded = decoded.map_err(|_| HubError::ConnectionString("its `SharedAccessKey` is no base64"))?;
    Ok((HubAddress::parse(&host)?, SharedKey { policy, key: Bytes(decoded) }))
}

impl SharedKey {
    /// A shared access signature for the whole hub (azure-iot-sdk-python, `sastoken.py`).
    pub(super) fn signature(&self, host: &str, now: Timestamp) -> Secret {
        let resource = utf8_percent_encode(host, ENCODED).to_string();
        let expiry = now.as_second().saturating_add(LIFETIME);
        // HMAC takes a key of any length.
        let digest = Hmac::<Sha256>::new_from_slice(&self.key.0).map(|mut mac| {
            mac.update(format!("{resource}\n{expiry}").as_bytes());
            STANDARD.encode(mac.finalize().into_bytes())
        });
        let digest = digest.unwrap_or_default();
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "sr={resource}&sig={}&se={expiry}&skn={}",
            utf8_percent_encode(&digest, ENCODED),
            utf8_percent_encode(&self.policy, ENCODED)
        );
        Secret::new(text)
    }

    /// The policy's name.
    pub fn policy(&self) -> &str {
        &self.policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hub_is_named_short_or_long() {
        let host = |text: &str| HubAddress::parse(text).map(|address| address.url().to_string());
        assert_eq!(host("mynah").unwrap(), "https://mynah.azure-devices.net/");
        assert_eq!(host(" Mynah.azure-devices.cn ").unwrap(), "https://mynah.azure-devices.cn/");
        assert_eq!(host("127.0.0.1:4000").unwrap(), "http://127.0.0.1:4000/");
        for bad in ["", "https://mynah", "my nah", "a/b", "a?b", "mynah:0", "-a", "a@b"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_signature_is_the_one_that_others_make() {
        // By Python's hmac, base64 and urllib from the same values.
        let text = "HostName=mynah.azure-devices.net;SharedAccessKeyName=service;SharedAccessKey=c2VjcmV0LWtleS1vZi1teW5haA==";
        let (address, key) = connection_string(&Secret::new(text)).unwrap();
        let signature =
            key.signature(address.host(), Timestamp::from_second(1_700_000_000 - LIFETIME).unwrap());
        assert_eq!(
            signature.expose(),
            "sr=mynah.azure-devices.net&sig=KPJz%2F8KKAlj9Hyr%2BFiKB8cK8BkaNLNc2qO6orDtnTjM%3D&se=1700000000&skn=service"
        );
        assert!(!format!("{key:?}").contains("c2Vj"), "{key:?}");
    }

    #[test]
    fn a_wrong_connection_string_is_told_without_its_parts() {
        for (text, says) in [
            ("HostName=a.b;SharedAccessKeyName=x", "`SharedAccessKey`"),
            ("HostName=a.b;SharedAccessKeyName=x;SharedAccessKey=hunter22!", "no base64"),
            ("HostName=a.b;DeviceId=pi;SharedAccessKey=aaaa", "of a device"),
            ("hunter22hunter22", "no `=`"),
            ("SharedAccessKeyName=x;SharedAccessKey=aaaa", "`HostName`"),
        ] {
            let error = connection_string(&Secret::new(text)).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("hunter22"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn reading_is_total(text in "[A-Za-z=;.: -]{0,60}") {
            let _ = connection_string(&Secret::new(text.clone()));
            let _ = HubAddress::parse(&text);
        }
    }
}
