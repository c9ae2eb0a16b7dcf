//! The live page and what it is fed with: pictures as they change, and events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures::stream::{Stream, unfold};
use serde::Serialize;

use super::{Shared, api, figures};
use crate::board::{View, Word};

/// Nobody reads faster.
const EVENT_INTERVAL: Duration = Duration::from_millis(100);
/// Between two pictures of a stream at least.
const PICTURE_INTERVAL: Duration = Duration::from_millis(60);

const BOUNDARY: &str = "mynah-frame";

/// The page and its feeds.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/", get(async || asset("text/html; charset=utf-8", include_str!("page.html"))))
        .route("/page.js", get(async || asset("text/javascript; charset=utf-8", include_str!("page.js"))))
        .route("/page.css", get(async || asset("text/css; charset=utf-8", include_str!("page.css"))))
        .route("/model", get(model))
        .route("/snapshot.jpg", get(snapshot))
        .route("/stream", get(stream))
        .route("/events", get(events))
}

fn asset(kind: &'static str, text: &'static str) -> ([(HeaderName, &'static str); 4], &'static str) {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, "default-src 'self'; frame-ancestors 'none'"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}

/// The model's card, for the page.
async fn model(State(shared): State<Shared>) -> Response {
    match shared.board.model() {
        Some(model) => {
            let json = mynah_contracts::to_json(model.card());
            ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], json).into_response()
        }
        None => api::problem(StatusCode::SERVICE_UNAVAILABLE, "NoModel", "the model is being loaded"),
    }
}

/// The last picture.
async fn snapshot(State(shared): State<Shared>) -> Response {
    match jpeg(shared.board.view()).await {
        Some(jpeg) => ([(CONTENT_TYPE, "image/jpeg"), (CACHE_CONTROL, "no-store")], jpeg).into_response(),
        None => api::problem(StatusCode::SERVICE_UNAVAILABLE, "NoFrame", "no frame has come yet"),
    }
}

/// The picture's bytes; making them is work for another thread.
async fn jpeg(view: Arc<View>) -> Option<Bytes> {
    let picture = view.picture.clone()?;
    tokio::task::spawn_blocking(move || picture.jpeg().map(Bytes::copy_from_slice)).await.ok()?
}

/// Pictures without end, each in the place of the one before. A slow client misses pictures, it does not delay them.
async fn stream(State(shared): State<Shared>) -> Response {
    let Ok(permit) = shared.watchers.clone().try_acquire_owned() else {
        return api::problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "TooManyViewers",
            "too many clients watch already",
        );
    };
    let mut views = shared.board.follow();
    views.mark_changed();
    let parts = unfold((views, permit, None::<u64>), |(mut views, permit, mut last)| async move {
        loop {
            views.changed().await.ok()?;
            let view = views.borrow_and_update().clone();
            let number = view.status.frames;
            if last == Some(number) {
                continue;
            }
            let Some(jpeg) = jpeg(view).await else { continue };
            last = Some(number);
            let head =
                format!("--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len());
            let part = [head.as_bytes(), &jpeg, b"\r\n"].concat();
            tokio::time::sleep(PICTURE_INTERVAL).await;
            return Some((Ok::<_, Infallible>(Bytes::from(part)), (views, permit, last)));
        }
    });
    let kind = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store".into())], Body::from_stream(parts)).into_response()
}

/// What the page shows beside the picture.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    status: &'a mynah_contracts::DeviceStatus,
    sighting: Option<&'a mynah_contracts::Sighting>,
    probabilities: &'a [f32],
    words: Vec<&'a Word>,
    fps: f64,
    temperature: Option<f64>,
    audible: bool,
}

/// Events as they happen, the newest only, at most ten a second.
async fn events(State(shared): State<Shared>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut views = shared.board.follow();
    views.mark_changed();
    let events = unfold(views, |mut views| async move {
        views.changed().await.ok()?;
        let view = views.borrow_and_update().clone();
        tokio::time::sleep(EVENT_INTERVAL).await;
        let shown = Shown {
            status: &view.status,
            sighting: view.sighting.as_ref(),
            probabilities: &view.probabilities,
            words: view.words.iter().collect(),
            fps: view.fps,
            temperature: figures::temperature(),
            audible: view.audible,
        };
        // Numbers and text are always JSON.
        let data = serde_json::to_string(&shown).unwrap_or_default();
        Some((Ok(Event::default().event("view").data(data)), views))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}
