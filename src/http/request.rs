//! A request that can be sent more than once.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use reqwest::{Method, Url, multipart};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::{HttpError, shown_url};
use crate::secret::Secret;

/// How much of a file is read at once: each time another thread is asked.
const FILE_PIECE: usize = 256 << 10;

/// Whether a request may be sent again when it is not known what became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repeat {
    /// If its method is idempotent (RFC 9110, 9.2.2).
    ByMethod,
    /// Always: the service takes the same request twice as once.
    Always,
    /// Only when it surely had no effect.
    Never,
}

/// A body.
#[derive(Clone)]
pub enum Body {
    /// None.
    Empty,
    /// Bytes in memory.
    Bytes(Vec<u8>),
    /// A part of a file, read while it is sent.
    File {
        /// Where.
        path: PathBuf,
        /// The first byte.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// `multipart/form-data` (RFC 7578).
    Multipart(Vec<Part>),
}

/// A part of a `multipart/form-data` body.
#[derive(Clone)]
pub struct Part {
    /// The field.
    pub name: String,
    /// The file's name, where the part is a file.
    pub file_name: Option<String>,
    /// The media type.
    pub content_type: &'static str,
    /// The content.
    pub content: Vec<u8>,
}

/// A request. Its `Debug` shows method and redacted URL alone.
#[derive(Clone)]
pub struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    pub(super) also: Vec<u16>,
    pub(super) repeat: Repeat,
    pub(super) deadline: Option<Duration>,
    pub(super) tries: Option<u32>,
    pub(super) plain: bool,
    broken: Option<String>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Request {
    /// A request that expects a status from 200 to 299.
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Body::Empty,
            also: Vec::new(),
            repeat: Repeat::ByMethod,
            deadline: None,
            tries: None,
            plain: false,
            broken: None,
        }
    }

    /// A `GET`.
    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// A `POST`.
    pub fn post(url: Url) -> Self {
        Self::new(Method::POST, url)
    }

    /// A `PUT`.
    pub fn put(url: Url) -> Self {
        Self::new(Method::PUT, url)
    }

    /// A `DELETE`.
    pub fn delete(url: Url) -> Self {
        Self::new(Method::DELETE, url)
    }

    /// Adds a query parameter.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(name, value);
        self
    }

    /// Sets a header.
    #[must_use]
    pub fn header(self, name: &'static str, value: &str) -> Self {
        self.set(HeaderName::from_static(name), value, false)
    }

    /// Sets a header that holds a secret, such as `training-key`. The name is in lower case.
    #[must_use]
    pub fn secret_header(self, name: &'static str, value: &Secret) -> Self {
        self.set(HeaderName::from_static(name), value.expose(), true)
    }

    /// Signs with a bearer token.
    #[must_use]
    pub fn bearer(self, token: &Secret) -> Self {
        self.authorization("Bearer", token)
    }

    /// Signs with `scheme` and `credentials` (RFC 9110, 11.6.2).
    #[must_use]
    pub fn authorization(self, scheme: &str, credentials: &Secret) -> Self {
        self.set(AUTHORIZATION, &format!("{scheme} {}", credentials.expose()), true)
    }

    fn set(mut self, name: HeaderName, value: &str, secret: bool) -> Self {
        match HeaderValue::from_str(value) {
            Ok(mut value) => {
                value.set_sensitive(secret);
                self.headers.insert(name, value);
            }
            // Told when it is sent, so that requests are written as one chain.
            Err(_) => self.broken = Some(name.to_string()),
        }
        self
    }

    /// Sends `value` as JSON.
    #[must_use]
    pub fn json(self, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.body("application/json", Body::Bytes(bytes)),
            Err(error) => Self { broken: Some(format!("body ({error})")), ..self },
        }
    }

    /// Sends fields as a web form does.
    #[must_use]
    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        let text = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.body("application/x-www-form-urlencoded", Body::Bytes(text.into_bytes()))
    }

    /// Sends parts, under a boundary of their own in each try.
    #[must_use]
    pub fn multipart(mut self, parts: Vec<Part>) -> Self {
        self.body = Body::Multipart(parts);
        self
    }

    /// Sends `body` as `content_type`.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: Body) -> Self {
        self.body = body;
        self.set(CONTENT_TYPE, content_type, false)
    }

    /// Takes these statuses for answers too, beside 200 to 299.
    #[must_use]
    pub fn also(mut self, statuses: &[u16]) -> Self {
        self.also.extend_from_slice(statuses);
        self
    }

    /// Says whether it may be repeated.
    #[must_use]
    pub fn repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }

    /// Gives it another deadline than the client's, all tries included.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Gives it another number of tries than the client's.
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = Some(tries);
        self
    }

    /// Allows it to go unencrypted to other machines. Without this, `http` goes to this machine alone.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Where it goes.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Method and redacted URL, for messages.
    pub fn shown(&self) -> String {
        format!("{} {}", self.method, shown_url(&self.url))
    }

    pub(super) fn repeatable(&self) -> bool {
        match self.repeat {
            Repeat::ByMethod => self.method.is_idempotent(),
            Repeat::Always => true,
            Repeat::Never => false,
        }
    }

    pub(super) fn expects(&self, status: u16) -> bool {
        (200..300).contains(&status) || self.also.contains(&status)
    }

    /// The same request to where a redirection points. Only a request without a body follows one. Another host gets
    /// none of the headers that could hold a secret.
    pub(super) fn redirected(&self, to: Url) -> Self {
        let mut next = self.clone();
        if to.origin() != self.url.origin() {
            let harmless = |name: &HeaderName| {
                matches!(name.as_str(), "accept" | "range" | "if-match" | "if-none-match")
                    || *name == USER_AGENT
            };
            next.headers = self
                .headers
                .iter()
                .filter(|(name, _)| harmless(name))
                .map(|(n, v)| (n.clone(), v.clone()))
                .collect();
        }
        next.url = to;
        next
    }

    /// Refuses what cannot be sent.
    pub(super) fn check(&self) -> Result<(), HttpError> {
        if let Some(what) = &self.broken {
            return Err(HttpError::Unsendable { request: self.shown(), what: what.clone() });
        }
        let local = match self.url.host() {
            Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        match self.url.scheme() {
            "https" => Ok(()),
            "http" if local || self.plain => Ok(()),
            _ => Err(HttpError::Plain { request: self.shown() }),
        }
    }

    /// Builds the request for one try.
    pub(super) async fn build(&self, client: &reqwest::Client) -> Result<reqwest::RequestBuilder, HttpError> {
        let builder = client.request(self.method.clone(), self.url.clone()).headers(self.headers.clone());
        Ok(match &self.body {
            // Services that answer 411 want to be told that there is nothing.
            Body::Empty if matches!(self.method, Method::POST | Method::PUT | Method::PATCH) => {
                builder.header(CONTENT_LENGTH, 0)
            }
            Body::Empty => builder,
            Body::Bytes(bytes) => builder.body(bytes.clone()),
            Body::File { path, offset, length } => {
                let unread = |source| HttpError::File { path: path.clone(), source };
                let mut file = tokio::fs::File::open(path).await.map_err(unread)?;
                file.seek(std::io::SeekFrom::Start(*offset)).await.map_err(unread)?;
                let stream = tokio_util::io::ReaderStream::with_capacity(file.take(*length), FILE_PIECE);
                builder.header(CONTENT_LENGTH, *length).body(reqwest::Body::wrap_stream(stream))
            }
            Body::Multipart(parts) => {
                let mut form = multipart::Form::new();
                for part in parts {
                    let mut content = multipart::Part::bytes(part.content.clone())
                        .mime_str(part.content_type)
                        .map_err(|_| HttpError::Unsendable {
                            request: self.shown(),
                            what: format!("media type `{}`", part.content_type),
                        })?;
                    if let Some(name) = &part.file_name {
                        content = content.file_name(name.clone());
                    }
                    form = form.part(part.name.clone(), content);
                }
                builder.multipart(form)
            }
        })
    }
}
