//! A double of Blob Storage: one container in one account, path-style, for what an import and a device need.
//!
//! | route | contract |
//! |---|---|
//! | `GET /{account}/{container}?restype=container&comp=list` | pages of `maxresults`, `prefix`, `marker`, `include=metadata` |
//! | `GET /{account}/{container}/{blob}` | `If-Match`, `Range: bytes=n-` |
//! | `PUT /{account}/{container}/{blob}` | a block blob, new with `If-None-Match: *` |
//!
//! It takes `SharedKey`, bearer tokens and signatures by their form alone; whether they are right is judged by Azurite.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::wire::{Served, Wire};

/// The account.
pub const ACCOUNT: &str = "testaccount";
/// The container.
pub const CONTAINER: &str = "photos";
/// A key in the right form.
pub const KEY: &str = "a2V5LW9mLXRoZS10ZXN0LWFjY291bnQ=";

/// The double. It listens until it is dropped.
#[derive(Debug)]
pub struct BlobStorage {
    served: Served,
    /// What was said.
    pub wire: Arc<Wire>,
    store: Arc<Mutex<Store>>,
}

#[derive(Debug)]
struct Store {
    blobs: BTreeMap<String, Stored>,
    versions: u64,
    refusal: Option<Refusal>,
    /// Blobs that are replaced when the next listing was given.
    replacing: Vec<(String, Vec<u8>)>,
    page: usize,
    wire: Arc<Wire>,
}

#[derive(Debug, Clone)]
struct Stored {
    content: Vec<u8>,
    etag: String,
    md5: Option<String>,
    metadata: String,
}

/// How every request is refused, see [`BlobStorage::refuse`].
#[derive(Debug, Clone)]
struct Refusal {
    status: StatusCode,
    code: &'static str,
    date: Option<&'static str>,
}

impl BlobStorage {
    /// Starts it on any free port, empty.
    ///
    /// # Errors
    /// No port is free.
    pub fn start() -> Result<Self> {
        let wire = Arc::new(Wire::default());
        let store = Arc::new(Mutex::new(Store {
            blobs: BTreeMap::new(),
            versions: 0,
            refusal: None,
            replacing: Vec::new(),
            page: 5000,
            wire: Arc::clone(&wire),
        }));
        let router = Router::new()
            .route("/{account}/{container}", get(list))
            .route("/{account}/{container}/{*blob}", get(fetch).put(upload))
            .with_state(Arc::clone(&store));
        Ok(Self { served: Served::start(router, Arc::clone(&wire), 0)?, wire, store })
    }

    /// The container's URL.
    pub fn container(&self) -> String {
        format!("{}/{ACCOUNT}/{CONTAINER}", self.served.url())
    }

    /// Writes a blob with the MD5 given in base64, or none.
    pub fn put(&self, name: &str, content: &[u8], md5: Option<&str>) {
        let mut store = lock(&self.store);
        store.put(name, content.to_vec(), md5.map(str::to_owned), String::new());
    }

    /// Writes what tools put where they want a folder to be seen.
    pub fn put_folder_marker(&self, name: &str) {
        let metadata = "<hdi_isfolder>true</hdi_isfolder>".to_owned();
        lock(&self.store).put(name, Vec::new(), None, metadata);
    }

    /// The names of all blobs, in order.
    pub fn names(&self) -> Vec<String> {
        lock(&self.store).blobs.keys().cloned().collect()
    }

    /// What a blob holds.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        lock(&self.store).blobs.get(name).map(|blob| blob.content.clone())
    }

    /// Removes a blob.
    pub fn remove(&self, name: &str) {
        lock(&self.store).blobs.remove(name);
    }

    /// Writes a blob as soon as the next listing was given.
    pub fn put_after_listing(&self, name: &str, content: &[u8]) {
        lock(&self.store).replacing.push((name.to_owned(), content.to_vec()));
    }

    /// Gives so many blobs a page.
    pub fn set_page(&self, blobs: usize) {
        lock(&self.store).page = blobs;
    }

    /// Refuses everything from now on, with a clock that shows `date`.
    pub fn refuse(&self, status: u16, code: &'static str, date: Option<&'static str>) {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        lock(&self.store).refusal = Some(Refusal { status, code, date });
    }
}

impl Store {
    fn put(&mut self, name: &str, content: Vec<u8>, md5: Option<String>, metadata: String) {
        self.versions += 1;
        let etag = format!("0x{:X}", self.versions);
        self.blobs.insert(name.to_owned(), Stored { content, etag, md5, metadata });
    }

    /// What is wrong with a request before its operation is looked at.
    fn gate(&self, headers: &HeaderMap, query: &BTreeMap<String, String>) -> Option<Response> {
        if let Some(refusal) = &self.refusal {
            let mut answer = refused(refusal.status, refusal.code);
            if let Some(date) = refusal.date {
                answer.headers_mut().insert(header::DATE, header::HeaderValue::from_static(date));
            }
            return Some(answer);
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if text("x-ms-version") < "2021-02-12" || text("x-ms-date").is_empty() {
            self.wire.violation("blobs: no `x-ms-version` or `x-ms-date`");
            return Some(refused(StatusCode::BAD_REQUEST, "MissingRequiredHeader"));
        }
        let authorization = text("authorization");
        let signed = authorization
            .strip_prefix(&format!("SharedKey {ACCOUNT}:"))
            .is_some_and(|signature| STANDARD.decode(signature).is_ok_and(|bytes| bytes.len() == 32));
        let allowed = signed || authorization.starts_with("Bearer ") || query.contains_key("sig");
        (!allowed).then(|| refused(StatusCode::UNAUTHORIZED, "NoAuthenticationInformation"))
    }
}

type Shared = State<Arc<Mutex<Store>>>;
type Queried = Query<BTreeMap<String, String>>;

async fn list(
    State(store): Shared,
    Path((_, container)): Path<(String, String)>,
    Query(query): Queried,
    headers: HeaderMap,
) -> Response {
    let mut store = lock(&store);
    if let Some(answer) = store.gate(&headers, &query) {
        return answer;
    }
    let query = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    if query("restype") != "container" || query("comp") != "list" {
        store.wire.violation("blobs: a container is listed, nothing else");
        return refused(StatusCode::BAD_REQUEST, "InvalidQueryParameterValue");
    }
    if container != CONTAINER {
        return refused(StatusCode::NOT_FOUND, "ContainerNotFound");
    }
    let page = query("maxresults").parse().unwrap_or(5000).min(store.page);
    let mut left = store
        .blobs
        .iter()
        .filter(|(name, _)| name.starts_with(query("prefix")) && name.as_str() >= query("marker"));
    let mut xml =
        String::from("\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Blobs>");
    for (name, blob) in left.by_ref().take(page) {
        let name = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let md5 = blob.md5.as_deref().unwrap_or_default();
        let metadata = if query("include") == "metadata" { blob.metadata.as_str() } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(
            xml,
            "<Blob><Name>{name}</Name><Properties><Etag>{}</Etag><Content-Length>{}</Content-Length>\
             <Content-MD5>{md5}</Content-MD5></Properties><Metadata>{metadata}</Metadata></Blob>",
            blob.etag,
            blob.content.len(),
        );
    }
    let next = left.next().map(|(name, _)| name.as_str()).unwrap_or_default();
    let _ = write!(xml, "</Blobs><NextMarker>{next}</NextMarker></EnumerationResults>");
    for (name, content) in std::mem::take(&mut store.replacing) {
        store.put(&name, content, None, String::new());
    }
    ([(header::CONTENT_TYPE, "application/xml")], xml).into_response()
}

async fn fetch(
    State(store): Shared,
    Path((_, container, blob)): Path<(String, String, String)>,
    uri: Uri,
    Query(query): Queried,
    headers: HeaderMap,
) -> Response {
    let store = lock(&store);
    if let Some(answer) = store.gate(&headers, &query) {
        return answer;
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if container != CONTAINER {
        return refused(StatusCode::NOT_FOUND, "ContainerNotFound");
    }
    // A slash of a name is a slash of the path; one that is escaped belongs to another name.
    if uri.path().to_ascii_lowercase().contains("%2f") {
        store.wire.violation("blobs: a slash is escaped");
    }
    let Some(stored) = store.blobs.get(&blob) else {
        return refused(StatusCode::NOT_FOUND, "BlobNotFound");
    };
    if text("if-match") != format!("\"{}\"", stored.etag) {
        return refused(StatusCode::PRECONDITION_FAILED, "ConditionNotMet");
    }
    let from = text("range").strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
    match from.map(str::parse::<usize>) {
        None => stored.content.clone().into_response(),
        Some(Ok(from)) if from < stored.content.len() => {
            let whole = stored.content.len();
            let content = stored.content.get(from..).unwrap_or_default().to_vec();
            let range = format!("bytes {from}-{}/{whole}", whole - 1);
            (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, range)], content).into_response()
        }
        Some(_) => refused(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"),
    }
}

async fn upload(
    State(store): Shared,
    Path((_, container, blob)): Path<(String, String, String)>,
    Query(query): Queried,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut store = lock(&store);
    if let Some(answer) = store.gate(&headers, &query) {
        return answer;
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if container != CONTAINER {
        return refused(StatusCode::NOT_FOUND, "ContainerNotFound");
    }
    if text("x-ms-blob-type") != "BlockBlob" || text("content-length") != body.len().to_string() {
        store.wire.violation("blobs: a blob is put without its type or length");
        return refused(StatusCode::BAD_REQUEST, "MissingRequiredHeader");
    }
    if text("if-none-match") == "*" && store.blobs.contains_key(&blob) {
        return refused(StatusCode::CONFLICT, "BlobAlreadyExists");
    }
    store.put(&blob, body.to_vec(), None, String::new());
    StatusCode::CREATED.into_response()
}

fn refused(status: StatusCode, code: &str) -> Response {
    let xml = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>No.\nRequestId:r</Message></Error>"
    );
    let code = header::HeaderValue::from_str(code).unwrap_or(header::HeaderValue::from_static("Unknown"));
    (
        status,
        [("x-ms-error-code", code), ("x-ms-request-id", header::HeaderValue::from_static("request-1"))],
        xml,
    )
        .into_response()
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}
