//! A container that can be listed and fetched from.

use percent_encoding::utf8_percent_encode;
use url::Url;

use super::error::{BlobError, Doing};
use super::listing::{self, Blob, Page};
use super::location::RESERVED;
use super::shared_key::{self, Get};
use super::{Credential, Location};
use crate::azure::auth::{TokenSource, scope};
use crate::http::{Client, HttpError, Incoming, Request};
use crate::secret::Secret;

/// The interface's version: the newest whose answers are read here.
const VERSION: &str = "2021-12-02";

/// How many blobs a page holds; the service gives no more.
const PAGE: u32 = 5000;

/// Who opens the container.
#[derive(Clone, Debug)]
pub enum Access {
    /// Whoever has the key or the signature.
    Credential(Credential),
    /// Whoever is signed in.
    SignedIn(TokenSource),
}

/// A container, below a prefix.
#[derive(Clone, Debug)]
pub struct Container {
    client: Client,
    location: Location,
    access: Access,
}

impl Container {
    /// Nothing is sent yet.
    pub fn new(client: Client, location: Location, access: Access) -> Self {
        Self { client, location, access }
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The page of blobs that begins at `marker`, the first without one.
    pub async fn list(&self, marker: Option<&str>) -> Result<Page, BlobError> {
        let page = PAGE.to_string();
        let mut query =
            vec![("restype", "container"), ("comp", "list"), ("include", "metadata"), ("maxresults", &page)];
        if !self.location.prefix().is_empty() {
            query.push(("prefix", self.location.prefix()));
        }
        if let Some(marker) = marker {
            query.push(("marker", marker));
        }
        let mut url = self.location.container().clone();
        set_query(&mut url, &query);
        let doing = || Doing::Listing(self.location.to_string());
        let send = async |request: Request| self.client.send(&request).await;
        let answer = self.signed(&url, None, doing, send).await?;
        let xml = std::str::from_utf8(answer.bytes()).ok().and_then(listing::read);
        xml.ok_or_else(|| BlobError::Listing { place: self.location.to_string() })
    }

    /// The content of a blob from byte `from` on, if it is still what was listed.
    pub async fn get(&self, blob: &Blob, from: u64) -> Result<Incoming, BlobError> {
        let url = self.location.blob(&blob.name).ok_or_else(|| BlobError::changed(&blob.name))?;
        let condition =
            (format!("\"{}\"", blob.etag), if from > 0 { format!("bytes={from}-") } else { String::new() });
        let doing = || Doing::Fetching(blob.name.clone());
        let send = async |request: Request| self.client.open(&request).await;
        let incoming = self.signed(&url, Some(&condition), doing, send).await?;
        // Who ignores the range gives the whole; taken for the rest it would be a file with two heads.
        match (from, incoming.status()) {
            (0, 200) | (1.., 206) => Ok(incoming),
            _ => Err(BlobError::changed(&blob.name)),
        }
    }

    /// Sends a `GET`, once more where a token has ended meanwhile. `condition` is `If-Match` and `Range`.
    async fn signed<T>(
        &self,
        url: &Url,
        condition: Option<&(String, String)>,
        doing: impl Fn() -> Doing,
        send: impl AsyncFn(Request) -> Result<T, HttpError>,
    ) -> Result<T, BlobError> {
        let mut again = matches!(self.access, Access::SignedIn(_));
        loop {
            match send(self.request(url, condition).await?).await {
                Err(error) if error.status() == Some(401) && again => {
                    again = false;
                    if let Access::SignedIn(source) = &self.access {
                        source.forget(scope::STORAGE).await;
                    }
                }
                answer => return answer.map_err(|source| BlobError::http(doing(), &self.access, source)),
            }
        }
    }

    async fn request(&self, url: &Url, condition: Option<&(String, String)>) -> Result<Request, BlobError> {
        // Version and date as late as can be: a signature lives for minutes.
        let date = jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&jiff::Timestamp::now())
            .unwrap_or_default();
        let (if_match, range) = condition.map_or(("", ""), |(if_match, range)| (if_match, range));
        let mut request = match &self.access {
            Access::Credential(Credential::Key { account, key }) => {
                let own_headers = [("x-ms-date", date.as_str()), ("x-ms-version", VERSION)];
                let get = Get { url, if_match, range, own_headers: &own_headers };
                let signature = shared_key::sign(account, key, &get).ok_or(BlobError::Key)?;
                Request::get(url.clone()).authorization("SharedKey", &signature)
            }
            Access::Credential(Credential::Signature(pairs)) => {
                let mut url = url.clone();
                let pairs: Vec<(&str, &str)> =
                    pairs.iter().map(|(name, value)| (name.as_str(), Secret::expose(value))).collect();
                set_query(&mut url, &pairs);
                Request::get(url)
            }
            Access::SignedIn(source) => {
                Request::get(url.clone()).bearer(&source.token(scope::STORAGE).await?)
            }
        };
        request = request.header("x-ms-version", VERSION).header("x-ms-date", &date);
        if !if_match.is_empty() {
            request = request.header("if-match", if_match);
        }
        if !range.is_empty() {
            request = request.header("range", range);
        }
        Ok(request)
    }
}

/// Adds to the query, with `%20` for a space: not every storage service takes `+` for one.
fn set_query(url: &mut Url, pairs: &[(&str, &str)]) {
    let mut query = url.query().map(str::to_owned).unwrap_or_default();
    for (name, value) in pairs {
        if !query.is_empty() {
            query.push('&');
        }
        query.extend(utf8_percent_encode(name, RESERVED));
        query.push('=');
        query.extend(utf8_percent_encode(value, RESERVED));
    }
    url.set_query(Some(&query));
}
