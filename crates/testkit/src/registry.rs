//! A strict registry on a loopback port, with faults on demand (distribution-spec 1.1).
//!
//! It keeps blobs per repository as the specification wants, believes no digest, takes an upload's newest
//! `Location` only, and refuses manifests that name what was not uploaded. [`Fault`]s make one stage misbehave;
//! [`Seen`] tells what was asked, and how many bytes came.

mod answer;
mod guard;
mod store;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use mynah_contracts::Sha256Digest;
use tokio::sync::oneshot;

pub use guard::Guard;
use store::Store;

/// The largest body taken.
const MAX_BODY: usize = 256 << 20;

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
    /// Sends half of the body, then closes the connection.
    CutBody,
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
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the server and the test both hold.
struct Shared {
    host: String,
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
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let inside = Mutex::new(Inside { store: Store::new(referrers), ..Inside::default() });
        let shared = Arc::new(Shared { host: address.to_string(), guard, inside });
        let (stop, stopped) = oneshot::channel::<()>();
        let app = Router::new().fallback(serve).with_state(Arc::clone(&shared));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                tokio::select! {
                    _ = axum::serve(listener, app) => {}
                    _ = stopped => {}
                }
            });
            // Connections that a client keeps open are no reason to wait.
            runtime.shutdown_background();
        });
        Ok(Self { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The registry's name in references: `127.0.0.1:<port>`.
    pub fn host(&self) -> String {
        self.address.to_string()
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

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers one request.
async fn serve(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await.context("the client broke off").unwrap_or_default();
    let query = parts.uri.query().unwrap_or_default();
    let asked = answer::Asked {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query,
        headers: &parts.headers,
        body: &body,
    };
    let stage = asked.stage();
    let mut inside = shared.lock();
    inside.seen.push(Seen {
        stage,
        line: format!("{} {}", parts.method, parts.uri),
        body_bytes: body.len(),
        authorization: asked.header("authorization").map(str::to_owned),
    });
    let mishap = stage.and_then(|stage| strike(&mut inside.faults, stage));
    match mishap {
        Some(Mishap::Answer { status, headers, body }) => answer::scripted(status, &headers, body),
        Some(Mishap::HangUp) => hang_up(inside),
        Some(Mishap::KeepThenHangUp(bytes)) => {
            inside.store.keep(asked.path, body.get(..bytes).unwrap_or(&body));
            hang_up(inside)
        }
        Some(Mishap::LoseAnswer) => {
            answer::answer(&shared.host, &shared.guard, &mut inside, &asked);
            hang_up(inside)
        }
        Some(Mishap::CutBody) => {
            let whole = answer::answer(&shared.host, &shared.guard, &mut inside, &asked);
            answer::cut(whole)
        }
        Some(Mishap::OtherDigest) => {
            let other = Sha256Digest::of(b"something else").to_string();
            let whole = answer::answer(&shared.host, &shared.guard, &mut inside, &asked);
            answer::with_digest(whole, &other)
        }
        Some(Mishap::OtherBytes) => {
            let whole = answer::answer(&shared.host, &shared.guard, &mut inside, &asked);
            answer::with_other_bytes(whole)
        }
        None => answer::answer(&shared.host, &shared.guard, &mut inside, &asked),
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
fn hang_up(inside: MutexGuard<'_, Inside>) -> answer::Answer {
    drop(inside);
    std::panic::resume_unwind(Box::new("the registry hangs up"))
}
