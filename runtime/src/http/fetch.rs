//! Fetching a picture from an address a client names, without becoming its way into private networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use axum::http::StatusCode;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::api::MAX_BODY;
use crate::settings::UrlFetch;
use crate::web;

/// How long everything may take.
const TIME: Duration = Duration::from_secs(15);
/// How often an answer may point elsewhere; each place is looked at anew.
const REDIRECTS: u32 = 3;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("fetching pictures is switched off on this device")]
    Off,
    #[error("an address that begins with http:// or https:// is needed")]
    Scheme,
    #[error("the address points into a private network")]
    Private,
    #[error("the picture has more than {MAX_BODY} bytes")]
    TooLarge,
    #[error("cannot fetch the picture")]
    Fetch(#[source] Box<ureq::Error>),
}

impl FetchError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Off | Self::Private => StatusCode::FORBIDDEN,
            Self::Scheme => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Fetch(_) => StatusCode::BAD_GATEWAY,
        }
    }
}

/// The bytes at `address`. No proxy is asked: it would look up names in our stead.
pub(super) fn fetch(address: &str, policy: UrlFetch) -> Result<Vec<u8>, FetchError> {
    if policy == UrlFetch::Off {
        return Err(FetchError::Off);
    }
    let scheme = address.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("http" | "https")) {
        return Err(FetchError::Scheme);
    }
    let config = web::config(TIME).proxy(None).max_redirects(REDIRECTS).build();
    let resolver = Guarded { private: policy == UrlFetch::Any, names: DefaultResolver::default() };
    let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), resolver);
    let mut response = agent.get(address).call().map_err(refused)?;
    match response.body_mut().with_config().limit(MAX_BODY as u64).read_to_vec() {
        Ok(bytes) => Ok(bytes),
        Err(ureq::Error::BodyExceedsLimit(_)) => Err(FetchError::TooLarge),
        Err(error) => Err(FetchError::Fetch(Box::new(error))),
    }
}

fn refused(error: ureq::Error) -> FetchError {
    match &error {
        ureq::Error::Other(cause) if cause.is::<PrivateAddress>() => FetchError::Private,
        _ => FetchError::Fetch(Box::new(error)),
    }
}

/// A name stands for an address that is not public.
#[derive(Debug, thiserror::Error)]
#[error("not a public address")]
struct PrivateAddress;

/// Looks up names and refuses addresses that are not public. The connection goes to the address that was looked at,
/// so a name cannot change its meaning in between.
#[derive(Debug)]
struct Guarded {
    private: bool,
    names: DefaultResolver,
}

impl Resolver for Guarded {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.names.resolve(uri, config, timeout)?;
        if self.private || found.iter().all(|address| is_public(address.ip())) {
            Ok(found)
        } else {
            Err(ureq::Error::Other(Box::new(PrivateAddress)))
        }
    }
}

/// Whether an address belongs to the public internet (the special-purpose registries of RFC 6890 and its updates).
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([p, q], [r, s]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(p, q, r, s))
    };
    match [a, b] {
        // Addresses of IPv4 in other clothes: translation and tunnels.
        [0x64, 0xff9b] if [c, d, e, f] == [0; 4] => embedded(g, h),
        [0x2002, _] => embedded(b, c),
        // Only 2000::/3 is given out; documentation and Teredo lie in it.
        _ => (0x2000..0x4000).contains(&a) && !(a == 0x2001 && (b == 0xdb8 || b < 0x200)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for public in [
            "8.8.8.8",
            "93.184.216.34",
            "2606:4700::1111",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:a9fe:a9fe::1",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn what_may_not_be_fetched_is_not_asked_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("http://{}/a.jpg", listener.local_addr().unwrap());
        assert!(matches!(fetch(&address, UrlFetch::Public), Err(FetchError::Private)));
        assert!(matches!(fetch(&address, UrlFetch::Off), Err(FetchError::Off)));
        assert!(matches!(fetch("file:///etc/passwd", UrlFetch::Any), Err(FetchError::Scheme)));
        assert!(listener.accept().is_err(), "nobody may have connected");
    }
}
