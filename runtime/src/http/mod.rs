//! The device over HTTP: a live page, pictures and events, health, metrics, and the Custom Vision container's API.
//!
//! | path | what | who may |
//! |---|---|---|
//! | `/`, `/page.js`, `/page.css` | the live page | who may see pictures |
//! | `/stream`, `/snapshot.jpg`, `/events` | the picture as it changes, once, and what was made of it | who may see pictures |
//! | `/image`, `/url` and their aliases | classify a picture that is sent, or named by an address | who has the token, if there is one |
//! | `/metrics` | figures in the Prometheus text form | who has the token, if there is one |
//! | `/healthz`, `/readyz` | whether the program lives, and sees | everyone |
//!
//! Pictures are seen by whoever has the token; without a token, only from this machine.

mod api;
mod door;
mod fetch;
mod figures;
mod live;

pub(crate) use door::is_token_byte;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mynah_contracts::{Diagnosis, FaultKind};
use tokio::sync::Semaphore;

use crate::board::Board;
use crate::secret::Secret;
use crate::settings::UrlFetch;

/// How long a client may take over the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How many connections are served at once; more wait.
const CONNECTIONS: usize = 64;
/// How many pictures are classified for clients at once; the camera's come besides.
const CLASSIFIERS: usize = 1;
/// How many clients are sent pictures without end.
const WATCHERS: usize = 8;

/// How the server is set up.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where it listens.
    pub address: SocketAddr,
    /// What clients must present; `None` = nothing.
    pub token: Option<Secret>,
    /// Which addresses `/url` may fetch from.
    pub fetch: UrlFetch,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, not ours, or needs rights.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No thread or no event loop is to be had.
    #[error("cannot start the server")]
    Start(#[source] io::Error),
}

impl Diagnosis for ServerError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Listen { .. } => FaultKind::BadInput,
            Self::Start(_) => FaultKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { .. } => Some("choose another port with `--http ADDRESS:PORT`".into()),
            Self::Start(_) => None,
        }
    }
}

/// What every request can reach.
#[derive(Clone)]
struct Shared {
    board: Arc<Board>,
    settings: Arc<ServerSettings>,
    classifiers: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
}

/// Who is at the other end.
#[derive(Clone, Copy)]
struct Peer(SocketAddr);

/// Listens, and serves on a thread of its own until the process ends. Gives the address, whose port the system may
/// have chosen.
///
/// # Errors
/// It cannot listen there.
pub fn serve(settings: ServerSettings, board: Arc<Board>) -> Result<SocketAddr, ServerError> {
    let failed = |source| ServerError::Listen { address: settings.address, source };
    let listener = TcpListener::bind(settings.address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(ServerError::Start)?;
    let shared = Shared {
        board,
        settings: Arc::new(settings),
        classifiers: Arc::new(Semaphore::new(CLASSIFIERS)),
        watchers: Arc::new(Semaphore::new(WATCHERS)),
    };
    std::thread::Builder::new()
        .name("http".into())
        .spawn(move || runtime.block_on(accept(listener, shared)))
        .map_err(ServerError::Start)?;
    Ok(address)
}

/// Takes connections for ever.
async fn accept(listener: TcpListener, shared: Shared) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("the server cannot run: {error}");
            return;
        }
    };
    let router = router(shared);
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: some come free with time.
                tracing::warn!("cannot take a connection: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone().layer(Extension(Peer(peer))));
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!("a connection of {peer} ended: {error}");
            }
            drop(permit);
        });
    }
}

fn router(shared: Shared) -> Router {
    let guarded = axum::middleware::from_fn_with_state(shared.clone(), door::guard);
    Router::new()
        .merge(live::routes())
        .merge(api::routes())
        .route("/metrics", get(figures::metrics))
        .route("/healthz", get(figures::healthz))
        .route("/readyz", get(figures::readyz))
        .layer(guarded)
        .with_state(shared)
}
