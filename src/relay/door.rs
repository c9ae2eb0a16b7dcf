//! Who may deliver: whoever knows a key, or proves to be an application that is trusted.

use std::path::Path;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Uri};
use sha2::{Digest as _, Sha256};

use super::entra::{Denied, Entra, Verdict};
use super::error::RelayError;
use crate::agent::Env;
use crate::secret::Secret;

/// The variable with the key, and the one with the next while both hold.
const VARIABLES: [&str; 2] = ["MYNAH_RELAY_KEY", "MYNAH_RELAY_KEY_NEXT"];
/// The header that holds a key.
const HEADER: &str = "x-mynah-key";
/// The parameter of the address that holds a key.
const PARAMETER: &str = "key=";
/// A shorter key could be guessed.
const SHORTEST: usize = 20;

/// Who is known.
#[derive(Clone)]
pub(super) struct Door {
    /// The keys, as digests: what is compared has one length, whatever is given.
    keys: Vec<[u8; 32]>,
    /// Whose tokens are taken.
    entra: Option<Entra>,
}

/// Whether a request may come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    Known,
    /// It brings neither key nor token.
    Stranger,
    Denied(Denied),
    /// Whether its token is good cannot be told just now.
    Later,
}

impl Door {
    /// Reads the keys from the environment and, with `file`, from there: one a line. Without `entra` there must be one.
    pub(super) fn read(env: &Env, file: Option<&Path>, entra: Option<Entra>) -> Result<Self, RelayError> {
        let mut keys: Vec<String> =
            VARIABLES.iter().filter_map(|name| env.get(name)).map(|key| key.trim().to_owned()).collect();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| RelayError::KeyFile { path: path.to_owned(), source })?;
            keys.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
        }
        Self::new(&keys, entra)
    }

    fn new(keys: &[String], entra: Option<Entra>) -> Result<Self, RelayError> {
        if keys.is_empty() && entra.is_none() {
            return Err(RelayError::NoKey);
        }
        let mut digests = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            // From here on no line of ours shows it.
            let key = Secret::new(key.as_str());
            let stands_in_an_address = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
            if key.expose().len() < SHORTEST || !key.expose().bytes().all(stands_in_an_address) {
                return Err(RelayError::Key { number: at + 1 });
            }
            digests.push(Sha256::digest(key.expose()).into());
        }
        Ok(Self { keys: digests, entra })
    }

    /// Whether the request brings a key or a token. Event Grid can be given a key in the address, which it keeps as a
    /// secret, or in a header; Prometheus has `Authorization`, where tokens are too.
    pub(super) async fn admits(&self, uri: &Uri, headers: &HeaderMap) -> Admission {
        let header = headers.get_all(HEADER).iter().map(axum::http::HeaderValue::as_bytes);
        let bearer = || {
            let values = headers.get_all(AUTHORIZATION).iter();
            values.filter_map(|value| value.as_bytes().strip_prefix(b"Bearer "))
        };
        let query = uri.query().unwrap_or_default();
        let parameter = query.split('&').filter_map(|pair| pair.strip_prefix(PARAMETER)).map(str::as_bytes);
        if header.chain(bearer()).chain(parameter).any(|given| self.knows(given)) {
            return Admission::Known;
        }
        let mut tokens = bearer().filter_map(|token| str::from_utf8(token).ok());
        let (Some(entra), Some(token)) = (&self.entra, tokens.next()) else { return Admission::Stranger };
        match entra.judge(token).await {
            Verdict::Trusted => Admission::Known,
            Verdict::Denied(denied) => Admission::Denied(denied),
            Verdict::Unknown => Admission::Later,
        }
    }

    /// In a time that tells nothing of the keys.
    fn knows(&self, given: &[u8]) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        let differs = |key: &[u8; 32]| key.iter().zip(given).fold(0, |sum, (a, b)| sum | (a ^ b));
        self.keys.iter().fold(false, |known, key| known | (differs(key) == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef-9411";

    #[test]
    fn a_key_comes_in_the_address_or_in_a_header() {
        let door = Door::read(&Env::from_iter([("MYNAH_RELAY_KEY", KEY)]), None, None).unwrap();
        let plain: Uri = "/events".parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let known =
            |uri: &Uri, headers: &HeaderMap| runtime.block_on(door.admits(uri, headers)) == Admission::Known;
        let admits = |uri: &str, name: &'static str, value: &str| {
            let headers =
                HeaderMap::from_iter([(axum::http::HeaderName::from_static(name), value.parse().unwrap())]);
            known(&uri.parse().unwrap(), &headers)
        };
        assert!(admits("/events", HEADER, KEY));
        assert!(admits("/metrics", "authorization", &format!("Bearer {KEY}")));
        assert!(admits(&format!("/events?a=b&key={KEY}"), "accept", "*/*"));
        assert!(!known(&plain, &HeaderMap::new()));
        for wrong in ["", "0123456789abcdef-9412", "0123456789abcdef-94110", "0123456789abcdef-941"] {
            assert!(!admits("/events", HEADER, wrong), "{wrong}");
            assert!(!admits(&format!("/events?key={wrong}"), "accept", "*/*"), "{wrong}");
        }
        assert!(!admits(&format!("/events?monkey={KEY}"), "accept", "*/*"));
    }

    #[test]
    fn keys_can_be_changed_one_after_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        std::fs::write(&file, "third-key-of-the-relay-1\n\n").unwrap();
        let env = Env::from_iter([
            ("MYNAH_RELAY_KEY", "first-key-of-the-relay-1"),
            ("MYNAH_RELAY_KEY_NEXT", "second-key-of-the-relay"),
        ]);
        let door = Door::read(&env, Some(&file), None).unwrap();
        for key in ["first-key-of-the-relay-1", "second-key-of-the-relay", "third-key-of-the-relay-1"] {
            assert!(door.knows(key.as_bytes()), "{key}");
        }
        assert!(!door.knows(b""));
    }

    #[test]
    fn no_key_and_weak_keys_are_refused_without_being_shown() {
        assert!(matches!(Door::read(&Env::default(), None, None), Err(RelayError::NoKey)));
        for weak in ["weak-9411", "a key with spaces in it, and a comma"] {
            let Err(error) = Door::read(&Env::from_iter([("MYNAH_RELAY_KEY", weak)]), None, None) else {
                panic!("`{weak}` was taken");
            };
            assert!(!error.to_string().contains(weak), "{error}");
        }
    }
}
