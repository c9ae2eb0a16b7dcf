//! Who may come in: the token, and without one, who may see pictures.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Extension, Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::{Peer, Shared, api};

/// The cookie that holds the token for browsers.
const COOKIE_NAME: &str = "mynah_token";

/// What a request wants to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wish {
    /// Whether the program lives.
    Health,
    /// What the camera sees.
    Pictures,
    /// Figures, or a picture of its own classified.
    Service,
}

impl Wish {
    fn of(path: &str) -> Self {
        match path {
            "/healthz" | "/readyz" => Self::Health,
            "/" | "/page.js" | "/page.css" | "/stream" | "/snapshot.jpg" | "/events" | "/model" => {
                Self::Pictures
            }
            _ => Self::Service,
        }
    }
}

/// Lets a request through or says why not.
pub(super) async fn guard(
    State(shared): State<Shared>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let wish = Wish::of(request.uri().path());
    if wish == Wish::Health {
        return next.run(request).await;
    }
    if let Some(token) = &shared.settings.token {
        // A person opens the page with the token in its address once; it then stays in a cookie.
        if let Some(given) = query_token(&request)
            && equal(given.as_bytes(), token.expose().as_bytes())
        {
            let cookie = format!("{COOKIE_NAME}={given}; Path=/; HttpOnly; SameSite=Strict");
            return (StatusCode::SEE_OTHER, [(LOCATION, "/".to_owned()), (SET_COOKIE, cookie)])
                .into_response();
        }
        if !presented(request.headers()).any(|given| equal(given.as_bytes(), token.expose().as_bytes())) {
            let refusal = api::problem(
                StatusCode::UNAUTHORIZED,
                "Unauthorized",
                "send `Authorization: Bearer TOKEN`, or open the page as /?token=TOKEN",
            );
            return ([(WWW_AUTHENTICATE, "Bearer")], refusal).into_response();
        }
    } else if wish == Wish::Pictures && !(is_here(peer) && names_here(request.headers())) {
        return api::problem(
            StatusCode::FORBIDDEN,
            "Forbidden",
            "without a token pictures are shown to this machine only; set `http-token-file` to see them from elsewhere",
        );
    }
    next.run(request).await
}

fn query_token(request: &Request) -> Option<&str> {
    let query = request.uri().query().filter(|_| request.uri().path() == "/")?;
    let token = query.split('&').find_map(|pair| pair.strip_prefix("token="))?;
    // What cannot stand in a cookie as it is cannot be a token.
    token.bytes().all(is_token_byte).then_some(token)
}

/// What a token consists of: what stands in a header, a cookie and an address as it is.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~')
}

/// The tokens a request brings.
fn presented(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let bearer = headers
        .get_all(AUTHORIZATION)
        .iter()
        .filter_map(|value| value.to_str().ok()?.strip_prefix("Bearer ").map(str::trim));
    let cookies = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='));
    bearer.chain(cookies)
}

/// Whether two texts are equal, in a time that tells nothing of where they differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

fn is_here(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

/// Whether the browser means this machine by the name it used. A page of elsewhere can have its own name point here,
/// and would then read what is shown here.
fn names_here(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(name: axum::http::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn tokens_come_by_header_or_cookie() {
        let tokens = |headers: &HeaderMap| presented(headers).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(tokens(&headers(AUTHORIZATION, "Bearer abc")), ["abc"]);
        assert_eq!(tokens(&headers(COOKIE, "a=b; mynah_token=x=y; c")), ["x=y"]);
        assert!(tokens(&headers(AUTHORIZATION, "Basic abc")).is_empty());
        assert!(equal(b"abc", b"abc") && !equal(b"abc", b"abd") && !equal(b"abc", b"ab"));
    }

    #[test]
    fn only_names_of_this_machine_show_pictures() {
        for (host, here) in [
            ("localhost:8080", true),
            ("127.0.0.1", true),
            ("[::1]:80", true),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
        ] {
            assert_eq!(names_here(&headers(HOST, host)), here, "{host}");
        }
        assert!(names_here(&HeaderMap::new()));
        assert!(is_here("[::ffff:127.0.0.1]:1".parse().unwrap()) && !is_here("10.0.0.1:1".parse().unwrap()));
    }
}
