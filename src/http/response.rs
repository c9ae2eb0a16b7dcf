//! Answers: whole in memory, or read while they arrive.

use std::io::Write;

use reqwest::header::HeaderMap;
use reqwest::{StatusCode, Url};
use serde::de::DeserializeOwned;

use super::HttpError;

/// An answer that is there as a whole.
#[derive(Clone, Debug)]
pub struct Response {
    pub(super) request: String,
    pub(super) url: Url,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Response {
    /// The status.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// A header, if it is there and readable.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// All values of a header that may come several times.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
    }

    /// Where the answer came from, after redirections.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The body.
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body itself.
    pub fn into_bytes(self) -> Vec<u8> {
        self.body
    }

    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        serde_json::from_slice(&self.body)
            .map_err(|source| HttpError::Unexpected { request: self.request.clone(), source })
    }
}

/// An answer whose body is still arriving.
#[derive(Debug)]
pub struct Incoming {
    pub(super) request: String,
    pub(super) response: reqwest::Response,
}

impl Incoming {
    /// The status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// A header, if it is there and readable.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// All values of a header that may come several times.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.response.headers().get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
    }

    /// How many bytes are announced.
    pub fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next bytes, none at the end.
    pub async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + Send + use<>>, HttpError> {
        self.response.chunk().await.map_err(|source| HttpError::interrupted(&self.request, source))
    }

    /// Writes the body to `to` and tells its length.
    ///
    /// # Errors
    /// A body of more than `limit` bytes, one that breaks off, and what `to` refuses.
    pub async fn save(mut self, to: &mut (dyn Write + Send), limit: u64) -> Result<u64, HttpError> {
        let mut written = 0_u64;
        while let Some(bytes) = self.chunk().await? {
            let bytes = bytes.as_ref();
            written += bytes.len() as u64;
            if written > limit {
                return Err(HttpError::TooLarge { request: self.request, limit });
            }
            to.write_all(bytes)
                .map_err(|source| HttpError::Sink { request: self.request.clone(), source })?;
        }
        Ok(written)
    }
}
