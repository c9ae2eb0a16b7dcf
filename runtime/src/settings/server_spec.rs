//! The settings of the server: where it listens, the token, what it fetches.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use super::values::count;
use super::{Settings, SettingsError};
use crate::http::ServerSettings;
use crate::secret::Secret;

/// From where pictures may be fetched for clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UrlFetch {
    /// Nowhere.
    Off,
    /// The public internet.
    Public,
    /// Anywhere, private networks too.
    Any,
}

impl UrlFetch {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "public" => Ok(Self::Public),
            "any" => Ok(Self::Any),
            _ => Err("`off`, `public` or `any` is allowed".into()),
        }
    }
}

/// A port of this machine, or an address with a port. Port 0 has the system choose.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), count(text, 0, u16::MAX)?));
    }
    text.parse().map_err(|_| {
        "a port such as `8080`, or an address and a port such as `0.0.0.0:80`, is allowed".into()
    })
}

/// The text of a file that holds a secret, without the white space around it.
pub(super) fn secret_file(name: &'static str, path: &Path) -> Result<Secret, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Secret {
        name,
        path: path.to_path_buf(),
        source,
    })?;
    Ok(Secret::new(text.trim()))
}

impl Settings {
    /// How the server is set up, if there is to be one.
    ///
    /// # Errors
    /// The token cannot be read, or is none.
    pub fn server(&self) -> Result<Option<ServerSettings>, SettingsError> {
        let Some(address) = self.http else { return Ok(None) };
        let token = match &self.http_token_file {
            None => None,
            Some(path) => {
                let token = secret_file("http-token-file", path)?;
                let bytes = token.expose().as_bytes();
                if !(16..=200).contains(&bytes.len())
                    || !bytes.iter().all(|&byte| crate::http::is_token_byte(byte))
                {
                    return Err(SettingsError::Token { path: path.clone() });
                }
                Some(token)
            }
        };
        Ok(Some(ServerSettings { address, token, fetch: self.url_fetch }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_listens_to_this_machine() {
        assert_eq!(address("8080").unwrap(), "127.0.0.1:8080".parse().unwrap());
        assert_eq!(address("0.0.0.0:80").unwrap(), "0.0.0.0:80".parse().unwrap());
        assert_eq!(address("[::1]:80").unwrap(), "[::1]:80".parse().unwrap());
        for bad in ["", "70000", "localhost:80", "1.2.3.4"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
