//! A strict registry on a loopback port, with faults on demand (distribution-spec 1.1).
//!
//! It keeps blobs per repository as the specification wants, believes no digest, takes an upload's newest
//! `Location` only, and refuses manifests that name what was not uploaded. [`Fault`]s make one stage misbehave;
//! [`Seen`] tells what was asked, and how many bytes came.

mod answer;
mod guard;
mod store;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use axum::routing::any;
use mynah_contracts::Sha256Digest;

use crate::wire::{Served, Wire};

pub use guard::Guard;
use store::Store;

/// The part of a conversation with a registry at which a fault strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// `GET /v2/`.
    Ping,
    /// The token service.
    Token,
    /// The exchange of a Microsoft Entra token (Azure Container Registry).
    Exchange,
    /// `HEAD` of a blob.
    HeadBlob,
    /// `GET` of a blob.
    GetBlob,
    /// `POST` that opens an upload.
    StartUpload,
    /// `GET` of an upload.
    UploadStatus,
    /// `PATCH` of an upload.
    Chunk,
    /// `PUT` that ends an upload.
    FinishUpload,
    /// `HEAD` of a manifest.
    HeadManifest,
    /// `GET` of a manifest.
    GetManifest,
    /// `PUT` of a manifest.
    PutManifest,
    /// `GET` of a manifest's referrers.
    Referrers,
}

/// What goes wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mishap {
    /// Answers so, and does nothing.
    Answer {
        /// The status.
        status: u16,
        /// Further headers.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: String,
    },
    /// Closes the connection without an answer.
    HangUp,
    /// Keeps this many bytes of an upload, then closes the connection.
    KeepThenHangUp(usize),
    /// States another digest in `Docker-Content-Digest`.
    OtherDigest,
    /// Sends as many other bytes.
    OtherBytes,
    /// Does the work and loses the answer.
    LoseAnswer,
}

impl Mishap {
    /// An answer with an error of the specification in its body.
    pub fn refusal(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] }).to_string();
        Self::Answer { status, headers: Vec::new(), body }
    }
}

/// A fault: at `stage`, after `after` good answers, `times` in a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Where.
    pub stage: Stage,
    /// How many requests of the stage pass first.
    pub after: usize,
    /// How many are struck.
    pub times: usize,
    /// What happens.
    pub mishap: Mishap,
}

impl Fault {
    /// A fault that strikes the stage's first request only.
    pub fn once(stage: Stage, mishap: Mishap) -> Self {
        Self { stage, after: 0, times: 1, mishap }
    }

    /// A fault that strikes every request of the stage.
    pub fn always(stage: Stage, mishap: Mishap) -> Self {
        Self { stage, after: 0, times: usize::MAX, mishap }
    }
}

/// A request that arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The stage it belongs to; nothing for paths that registries do not have.
    pub stage: Option<Stage>,
    /// Method and path with query.
    pub line: String,
    /// How many bytes its body had.
    pub body_bytes: usize,
    /// The `Authorization` header.
    pub authorization: Option<String>,
}

/// A running registry; it ends when this is dropped.
pub struct Registry {
    served: Served,
    wire: Arc<Wire>,
    shared: Arc<Shared>,
}

/// What the server and the test both hold.
struct Shared {
    host: OnceLock<String>,
    guard: Guard,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    store: Store,
    faults: Vec<Fault>,
    seen: Vec<Seen>,
    tokens: guard::Tokens,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// Starts an empty registry behind `guard`, which knows referrers.
    ///
    /// # Errors
    /// No loopback port is free.
    pub fn start(guard: Guard) -> Result<Self> {
        Self::start_with(guard, true)
    }

    /// As [`Registry::start`], but without the referrers API, as registries before 1.1 are.
    ///
    /// # Errors
    /// No loopback port is free.
    pub fn start_without_referrers(guard: Guard) -> Result<Self> {
        Self::start_with(guard, false)
    }

    fn start_with(guard: Guard, referrers: bool) -> Result<Self> {
        let inside = Mutex::new(Inside { store: Store::new(referrers), ..Inside::default() });
        let shared = Arc::new(Shared { host: OnceLock::new(), guard, inside });
        let wire = Arc::new(Wire::default());
        let router = Router::new()
            .route("/{*path}", any(serve))
            // Layers are larger than what a web service usually takes.
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let served = Served::start(router, Arc::clone(&wire), 0)?;
        // Nobody asks before this returns.
        let _ = shared.host.set(served.url().trim_start_matches("http://").to_owned());
        Ok(Self { served, wire, shared })
    }

    /// The faults that any double has, by method and path.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The registry's name in references: `127.0.0.1:<port>`.
    pub fn host(&self) -> String {
        self.served.url().trim_start_matches("http://").to_owned()
    }

    /// Adds faults.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.lock().faults.extend(faults);
    }

    /// The faults that have not struck as often as they should.
    pub fn pending(&self) -> Vec<Fault> {
        let inside = self.shared.lock();
        inside.faults.iter().filter(|fault| fault.times > 0 && fault.times < usize::MAX).cloned().collect()
    }

    /// What arrived since the last call.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.lock().seen)
    }

    /// A manifest by tag or digest: its media type and bytes.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<(String, Vec<u8>)> {
        self.shared.lock().store.manifest(repository, reference)
    }

    /// A blob of a repository.
    pub fn blob(&self, repository: &str, digest: Sha256Digest) -> Option<Vec<u8>> {
        self.shared.lock().store.blob(repository, digest)
    }

    /// How many blobs a repository has.
    pub fn blob_count(&self, repository: &str) -> usize {
        self.shared.lock().store.blob_count(repository)
    }

    /// The tags of a repository, sorted.
    pub fn tags(&self, repository: &str) -> Vec<String> {
        self.shared.lock().store.tags(repository)
    }

    /// What refers to the manifest `subject`, as descriptors; nothing where the registry keeps no such list.
    pub fn referrers(&self, repository: &str, subject: &str) -> Vec<serde_json::Value> {
        let inside = self.shared.lock();
        if inside.store.knows_referrers { inside.store.referrers(repository, subject) } else { Vec::new() }
    }

    /// Puts a blob into a repository.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> Sha256Digest {
        self.shared.lock().store.put_blob(repository, bytes.to_vec())
    }

    /// Puts a manifest into a repository, under a tag.
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) -> Sha256Digest {
        self.shared.lock().store.put_manifest(repository, Some(tag), media_type, bytes.to_vec())
    }

    /// Every token given out so far is worth nothing from now on.
    pub fn expire_tokens(&self) {
        self.shared.lock().tokens = guard::Tokens::default();
    }
}

/// Answers one request.
async fn serve(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let host = shared.host.get().map(String::as_str).unwrap_or_default();
    let asked = answer::Asked {
        method: method.as_str(),
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        headers: &headers,
        body: &body,
    };
    let stage = asked.stage();
    let mut inside = shared.lock();
    inside.seen.push(Seen {
        stage,
        line: format!("{method} {uri}"),
        body_bytes: body.len(),
        authorization: asked.header("authorization").map(str::to_owned),
    });
    let mishap = stage.and_then(|stage| strike(&mut inside.faults, stage));
    if let Some(Mishap::Answer { status, headers, body }) = mishap {
        return answer::scripted(status, &headers, body).into_response();
    }
    match &mishap {
        Some(Mishap::HangUp) => hang_up(inside),
        Some(Mishap::KeepThenHangUp(bytes)) => {
            inside.store.keep(asked.path, body.get(..*bytes).unwrap_or(&body));
            hang_up(inside)
        }
        _ => {}
    }
    let whole = answer::answer(host, &shared.guard, &mut inside, &asked);
    match mishap {
        Some(Mishap::LoseAnswer) => hang_up(inside),
        Some(Mishap::OtherDigest) => {
            answer::with_digest(whole, &Sha256Digest::of(b"something else").to_string())
        }
        Some(Mishap::OtherBytes) => answer::with_other_bytes(whole),
        _ => whole,
    }
    .into_response()
}

/// The mishap due at `stage`, if one is.
fn strike(faults: &mut [Fault], stage: Stage) -> Option<Mishap> {
    let fault = faults.iter_mut().find(|fault| fault.stage == stage && fault.times > 0)?;
    if fault.after > 0 {
        fault.after -= 1;
        return None;
    }
    if fault.times < usize::MAX {
        fault.times -= 1;
    }
    Some(fault.mishap.clone())
}

/// Ends the connection's task, and the connection with it. No panic is reported: this is wanted.
fn hang_up(inside: MutexGuard<'_, Inside>) -> ! {
    drop(inside);
    std::panic::resume_unwind(Box::new("the registry hangs up"))
}
