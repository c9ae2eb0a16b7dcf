//! The relay over HTTP.
//!
//! | path | what | who may |
//! |---|---|---|
//! | `POST /events` | events, in the Event Grid schema or as CloudEvents, and Event Grid's handshake | who is known |
//! | `OPTIONS /events` | the handshake of CloudEvents (HTTP 1.1 Web Hooks for Event Delivery) | who is known |
//! | `GET /metrics` | figures in the Prometheus text form | who is known |
//! | `GET /healthz` | whether the program lives | everyone |

use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::sync::Semaphore;

use super::door::{Admission, Door};
use super::event::{Delivery, Event, EventId, Watched};
use super::figures::Figures;
use super::intake::{Intake, NotTaken};

/// The largest body, in bytes. Event Grid sends at most 1 MiB.
const LARGEST: usize = 2 << 20;
/// What all bodies that are being read may have together, in KiB.
const TOGETHER: usize = 64 << 10;
/// How long a client may take over the head of a request, and then over its body.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many connections are served at once; more wait.
const CONNECTIONS: usize = 1024;
/// When to come back, in seconds. Event Grid comes back after 30 by itself.
const COME_BACK: &str = "5";

const ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");

/// What every request can reach.
#[derive(Clone)]
pub(super) struct Shared(Arc<Inner>);

struct Inner {
    door: Door,
    watched: Watched,
    figures: Arc<Figures>,
    /// Not there as long as another process holds the state.
    intake: Arc<OnceLock<Intake>>,
    room: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(
        door: Door,
        watched: Watched,
        figures: Arc<Figures>,
        intake: Arc<OnceLock<Intake>>,
    ) -> Self {
        Self(Arc::new(Inner { door, watched, figures, intake, room: Arc::new(Semaphore::new(TOGETHER)) }))
    }
}

/// Takes connections for ever.
pub(super) async fn serve(listener: TcpListener, prefix: &str, shared: Shared) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = router(prefix, shared);
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: some come free with time.
                tracing::warn!("cannot take a connection: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        // Answers are short and must not wait for more.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended: {error}");
            }
            drop(permit);
        });
    }
}

fn router(prefix: &str, shared: Shared) -> Router {
    let events = post(take).options(handshake);
    Router::new()
        .route(&format!("{prefix}/events"), events)
        .route(&format!("{prefix}/metrics"), get(metrics))
        .route_layer(axum::middleware::from_fn_with_state(shared.clone(), guard))
        .route(&format!("{prefix}/healthz"), get(|| async { "ok\n" }))
        .with_state(shared)
}

fn problem(status: StatusCode, why: &str) -> Response {
    (status, axum::Json(json!({"error": why}))).into_response()
}

fn come_back(shared: &Inner, why: &str) -> Response {
    shared.figures.postponed.add(1);
    ([(RETRY_AFTER, COME_BACK)], problem(StatusCode::SERVICE_UNAVAILABLE, why)).into_response()
}

async fn guard(State(Shared(shared)): State<Shared>, request: Request, next: Next) -> Response {
    let denied = match shared.door.admits(request.uri(), request.headers()).await {
        Admission::Known => return next.run(request).await,
        Admission::Later => return come_back(&shared, "the keys of the tenant are not to be had just now"),
        Admission::Stranger => None,
        Admission::Denied(denied) => Some(denied.to_string()),
    };
    shared.figures.strangers.add(1);
    let Some(why) = denied else {
        let missing = "the key is missing or wrong: send it as `x-mynah-key` or `?key=`";
        return problem(StatusCode::UNAUTHORIZED, missing);
    };
    tracing::debug!("a caller was refused: {why}");
    // RFC 6750, 3.
    ([(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")], problem(StatusCode::UNAUTHORIZED, &why))
        .into_response()
}

/// The sender asks whether it may deliver. Its callback address is never called: the answer itself is enough, and a
/// stranger could have any address called.
async fn handshake(headers: HeaderMap) -> Response {
    let origin = headers.get(ORIGIN).filter(|origin| is_host(origin));
    let Some(origin) = origin else {
        return problem(StatusCode::BAD_REQUEST, "`WebHook-Request-Origin` names no host");
    };
    let mut answer = StatusCode::OK.into_response();
    let headers = answer.headers_mut();
    headers.insert(ALLOWED_ORIGIN, origin.clone());
    headers.insert(ALLOWED_RATE, HeaderValue::from_static("*"));
    headers.insert(ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    answer
}

fn is_host(value: &HeaderValue) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b".-:".contains(byte);
    (1..=253).contains(&value.len()) && value.as_bytes().iter().all(fits)
}

async fn take(State(Shared(shared)): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    let malformed = |status, why: &str| {
        shared.figures.malformed.add(1);
        problem(status, why)
    };
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    // A body of unknown length may become the largest.
    let length = announced.unwrap_or(LARGEST);
    if length > LARGEST {
        return malformed(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 2 MiB");
    }
    let kibibytes = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX);
    let Ok(_room) = Arc::clone(&shared.room).try_acquire_many_owned(kibibytes) else {
        return come_back(&shared, "too many deliveries at once");
    };
    let body = match tokio::time::timeout(PATIENCE, to_bytes(body, LARGEST)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            return malformed(StatusCode::BAD_REQUEST, "the body broke off or is larger than 2 MiB");
        }
        Err(_) => return malformed(StatusCode::REQUEST_TIMEOUT, "the body took longer than 10 s"),
    };
    let events = match Delivery::read(&body) {
        Ok(Delivery::Validation(code)) => {
            return axum::Json(json!({"validationResponse": code})).into_response();
        }
        Ok(Delivery::Events(events)) => events,
        Err(error) => return malformed(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    shared.figures.events.add(events.len() as u64);
    let ours: Vec<EventId> =
        events.iter().filter(|event| shared.watched.concerns(event)).map(Event::digest).collect();
    shared.figures.ignored.add((events.len() - ours.len()) as u64);
    if ours.is_empty() {
        return StatusCode::OK.into_response();
    }
    let Some(intake) = shared.intake.get() else {
        return come_back(&shared, "another relay holds the state");
    };
    match intake.take(ours).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(NotTaken::Full) => come_back(&shared, "too many deliveries at once"),
        Err(NotTaken::Unwritten) => come_back(&shared, "the journal cannot be written"),
    }
}

async fn metrics(State(Shared(shared)): State<Shared>) -> ([(HeaderName, &'static str); 1], String) {
    let pending = shared.intake.get().map(|intake| intake.pending().borrow().clone());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], shared.figures.text(pending.as_ref()))
}
