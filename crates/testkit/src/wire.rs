//! What every double shares: a server on this machine, a record of what was said, faults on the way.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use serde::Serialize;

use crate::faults::{Fault, Faults};

/// The largest body a double reads.
const MAX_BODY: usize = 256 << 20;

/// A request and what was answered, in the form a judge reads: one JSON object.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exchange {
    /// `GET` and so on.
    pub method: String,
    /// The path, percent-encoded as it was sent.
    pub path: String,
    /// The query, percent-encoded as it was sent; empty without one.
    pub query: String,
    /// The request's media type.
    pub content_type: Option<String>,
    /// The request's body, where it is JSON.
    pub body: Option<serde_json::Value>,
    /// The answer's status.
    pub status: u16,
    /// The answer's body, where it is JSON.
    pub answer: Option<serde_json::Value>,
    /// Whether a fault script bent the exchange: its answer is not the service's.
    pub bent: bool,
}

/// What a double saw, and what it is told to get wrong.
#[derive(Debug, Default)]
pub struct Wire {
    /// The fault scripts.
    pub faults: Faults,
    exchanges: Mutex<Vec<Exchange>>,
    violations: Mutex<Vec<String>>,
}

impl Wire {
    /// Everything that was said so far, in order of the answers.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests of this method went to a path that ends so.
    pub fn count(&self, method: &str, end: &str) -> usize {
        self.exchanges().iter().filter(|said| said.method == method && said.path.ends_with(end)).count()
    }

    /// Notes that a caller broke the contract; a test that ends with such notes has failed.
    pub fn violation(&self, what: impl Into<String>) {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).push(what.into());
    }

    /// How callers broke the contract.
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The record as JSON lines.
    ///
    /// # Errors
    /// An exchange cannot be written as JSON.
    pub fn record(&self) -> Result<String> {
        let mut lines = String::new();
        for exchange in self.exchanges() {
            lines.push_str(&serde_json::to_string(&exchange)?);
            lines.push('\n');
        }
        Ok(lines)
    }
}

/// Marks an answer that goes on for as long as someone listens: it is handed through as it is, and recorded without its
/// body. Faults other than refusals are the double's own business then.
#[derive(Clone, Copy, Debug)]
pub struct Endless;

/// A double that listens on this machine until it is dropped.
#[derive(Debug)]
pub struct Served {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<Infallible>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    /// Serves `router` on `port` (0: any free one). Unknown routes are answered with 501 and noted.
    ///
    /// # Errors
    /// The port is taken, or no thread can be started.
    pub fn start(router: Router, wire: Arc<Wire>, port: u16) -> Result<Self> {
        let unknown = Arc::clone(&wire);
        let router = router
            .fallback(move |request: Request| async move {
                unknown.violation(format!("unknown route {} {}", request.method(), request.uri()));
                (StatusCode::NOT_IMPLEMENTED, "the double knows no such route")
            })
            .layer(axum::middleware::from_fn_with_state(wire, observe));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("cannot listen on port {port}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<Infallible>();
        let thread = std::thread::Builder::new().name("double".into()).spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                tokio::select! {
                    _ = axum::serve(listener, router) => {}
                    // The sender was dropped: nobody needs the double any more.
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A double that panicked has failed its test by the answers it did not give.
            let _ = thread.join();
        }
    }
}

/// Bends what a script says, and records the rest.
async fn observe(State(wire): State<Arc<Wire>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let fault = wire.faults.next(parts.method.as_str(), parts.uri.path());
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    if let Some(Fault::Refuse { status, retry_after }) = fault {
        let mut answer = answer_with(status).into_response();
        if let Some(seconds) = retry_after {
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        note(&wire, &parts, &body, answer.status(), &Bytes::new(), true);
        return answer;
    }
    let request = |body: &Bytes| Request::from_parts(parts.clone(), Body::from(body.clone()));
    if fault == Some(Fault::Duplicate) {
        drop(next.clone().run(request(&body)).await);
    }
    let (head, answer) = next.run(request(&body)).await.into_parts();
    if head.extensions.get::<Endless>().is_some() {
        note(&wire, &parts, &body, head.status, &Bytes::new(), false);
        return Response::from_parts(head, answer);
    }
    let Ok(answer) = to_bytes(answer, MAX_BODY).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let bent = fault.as_ref().is_some_and(|fault| *fault != Fault::Duplicate);
    note(&wire, &parts, &body, head.status, &answer, bent);
    let json = |text: &'static str| {
        let mut answer = Response::from_parts(head.clone(), Body::from(text));
        answer.headers_mut().remove(header::CONTENT_LENGTH);
        answer
    };
    match fault {
        None | Some(Fault::Duplicate | Fault::Refuse { .. }) => Response::from_parts(head, answer.into()),
        Some(Fault::Lose { status }) => answer_with(status).into_response(),
        Some(Fault::Cut) => cut(head.status, &head.headers, &answer),
        Some(Fault::Slow { pause }) => Response::from_parts(head, slowly(&answer, pause)),
        Some(Fault::WrongJson) => json("{\"surprise\":[1,2,3]}"),
        Some(Fault::NoJson) => json("<html>the gateway had a bad day</html>"),
    }
}

fn answer_with(status: u16) -> (StatusCode, &'static str) {
    (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "")
}

/// An answer that promises all of `body` and ends after half of it.
fn cut(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Response {
    let half = body.slice(..body.len() / 2);
    let pieces = futures::stream::iter([Ok(half), Err(std::io::Error::other("cut by the fault script"))]);
    // A pause between both, or the server would see the error before it sends anything.
    let pieces = pieces.then(|piece| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        piece
    });
    let mut response = Response::new(Body::from_stream(pieces));
    *response.status_mut() = status;
    *response.headers_mut() = headers.clone();
    response.headers_mut().insert(header::CONTENT_LENGTH, body.len().into());
    response
}

/// `body` in eight pieces, with a pause before each.
fn slowly(body: &Bytes, pause: Duration) -> Body {
    let piece = body.len().div_ceil(8).max(1);
    let pieces: Vec<Bytes> = body.chunks(piece).map(Bytes::copy_from_slice).collect();
    Body::from_stream(futures::stream::iter(pieces).then(move |piece| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, Infallible>(piece)
    }))
}

fn note(wire: &Wire, parts: &Parts, body: &Bytes, status: StatusCode, answer: &Bytes, bent: bool) {
    let content_type =
        parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let exchange = Exchange {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        content_type,
        body: serde_json::from_slice(body).ok(),
        status: status.as_u16(),
        answer: serde_json::from_slice(answer).ok(),
        bent,
    };
    wire.exchanges.lock().unwrap_or_else(PoisonError::into_inner).push(exchange);
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use axum::routing::get;

    use super::*;

    fn ask(served: &Served, path: &str) -> String {
        let mut stream = TcpStream::connect(served.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: double\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        // A cut answer ends in an error on some systems; what came is what counts.
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    #[test]
    fn faults_bend_answers_and_unknown_routes_are_noted() {
        let wire = Arc::new(Wire::default());
        let seen = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&seen);
        let router = Router::new().route(
            "/thing",
            get(move || async move {
                *counted.lock().unwrap() += 1;
                axum::Json(serde_json::json!({"name": "a thing with a long name"}))
            }),
        );
        let served = Served::start(router, Arc::clone(&wire), 0).unwrap();
        let script = |fault| wire.faults.script("GET", "/thing", fault, 1);
        let whole = ask(&served, "/thing");
        assert!(whole.ends_with("{\"name\":\"a thing with a long name\"}"), "{whole}");

        script(Fault::Refuse { status: 429, retry_after: Some(3) });
        let refused = ask(&served, "/thing").to_lowercase();
        assert!(refused.starts_with("http/1.1 429") && refused.contains("retry-after: 3"), "{refused}");
        assert_eq!(*seen.lock().unwrap(), 1, "a refused request reached the service");

        script(Fault::Lose { status: 500 });
        assert!(ask(&served, "/thing").starts_with("HTTP/1.1 500"));
        script(Fault::Cut);
        let cut = ask(&served, "/thing");
        assert!(cut.contains("{\"name\"") && !cut.contains("long name"), "{cut}");
        script(Fault::Slow { pause: Duration::from_millis(1) });
        assert!(ask(&served, "/thing").ends_with("0\r\n\r\n"), "the slow answer did not end");
        script(Fault::WrongJson);
        assert!(ask(&served, "/thing").contains("surprise"));
        script(Fault::NoJson);
        assert!(ask(&served, "/thing").contains("<html>"));
        assert_eq!(*seen.lock().unwrap(), 6);
        script(Fault::Duplicate);
        assert!(ask(&served, "/thing").contains("long name"));
        assert_eq!(*seen.lock().unwrap(), 8);

        assert!(wire.violations().is_empty());
        assert!(ask(&served, "/other").starts_with("HTTP/1.1 501"));
        assert_eq!(wire.violations(), ["unknown route GET /other"]);
        assert_eq!((wire.count("GET", "/thing"), wire.faults.left()), (8, 0));
        assert_eq!(wire.record().unwrap().lines().count(), 9);
    }
}
