//! A double of the Custom Vision training service, API 3.3: projects, tags, images, trainings, exports.
//!
//! It keeps its state, is strict about what it is asked, and refuses with the service's own codes. What it
//! trains is real, if small: `model` learns each tag's mean colour, and its export is a real zip with a real
//! ONNX graph of the operators that the service writes. Facts about the service come from its published
//! OpenAPI description, version 3.3, and from its documentation of limits.

mod answer;
mod export;
mod images;
mod model;
mod onnx;
mod state;
mod training;
mod workspace;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State as Shared};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};

use crate::wire::{Served, Wire};

use self::answer::{Ask, Refusal};
use self::state::State;

pub use self::model::{PixelRange, Style, exported_graph};
pub use self::state::{Limits, ProjectSnapshot, Settings, Snapshot};

/// Where the service's API begins, below its endpoint.
pub const BASE: &str = "/customvision/v3.3/training";

/// The double, listening until it is dropped.
pub struct CustomVision {
    served: Served,
    service: Arc<Service>,
}

struct Service {
    wire: Arc<Wire>,
    state: Mutex<State>,
}

impl CustomVision {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// No port is free.
    pub fn start(settings: Settings) -> Result<Self> {
        Self::start_on(0, settings)
    }

    /// Starts it on `port`.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start_on(port: u16, settings: Settings) -> Result<Self> {
        let wire = Arc::new(Wire::default());
        let service = Arc::new(Service { wire: Arc::clone(&wire), state: Mutex::new(State::new(settings)) });
        let router = Router::new()
            .route(&format!("{BASE}/{{*path}}"), any(api))
            .route("/blobs/{*path}", get(blob))
            .with_state(Arc::clone(&service));
        let served = Served::start(router, wire, port)?;
        service.state().base = served.url();
        Ok(Self { served, service })
    }

    /// The service's endpoint, with the slash at its end that the portal shows.
    pub fn endpoint(&self) -> String {
        format!("{}/", self.served.url())
    }

    /// What was said, and the fault scripts.
    pub fn wire(&self) -> &Wire {
        &self.service.wire
    }

    /// What the service holds now.
    pub fn snapshot(&self) -> Snapshot {
        self.service.state().snapshot()
    }

    /// Changes how the service behaves from here on.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.service.state().settings);
    }

    /// Removes all images, as someone may do in the portal.
    pub fn forget_images(&self) {
        for project in &mut self.service.state().projects {
            project.images.clear();
        }
    }
}

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn api(Shared(service): Shared<Arc<Service>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let path = parts.uri.path().strip_prefix(BASE).unwrap_or_default().to_owned();
    let shown = format!("{} {}", parts.method, parts.uri);
    let mut state = service.state();
    let key = parts.headers.get("training-key").and_then(|value| value.to_str().ok());
    if key != Some(state.settings.key.as_str()) {
        return Refusal::wrong_key().into_response();
    }
    let ask = match Ask::read(&parts, &body) {
        Ok(ask) => ask,
        Err(what) => {
            service.wire.violation(format!("{shown}: {what}"));
            return Refusal::bad("BadRequest", what).into_response();
        }
    };
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let Some(outcome) = dispatch(&mut state, &parts.method, &segments, &ask) else {
        service.wire.violation(format!("unknown route {shown}"));
        return (StatusCode::NOT_IMPLEMENTED, "the double knows no such route").into_response();
    };
    // Whatever is not refused must have been understood whole.
    let unread = ask.unread();
    if outcome.is_ok() && !unread.is_empty() {
        service.wire.violation(format!("{shown}: unknown query {}", unread.join(", ")));
    }
    match outcome {
        Ok(answer) => answer,
        Err(refusal) => {
            if refusal.breaks_contract {
                service.wire.violation(format!("{shown}: {}", refusal.message));
            }
            refusal.into_response()
        }
    }
}

/// The answer of a route, none where there is no such route.
fn dispatch(
    state: &mut State,
    method: &Method,
    path: &[&str],
    ask: &Ask,
) -> Option<Result<Response, Refusal>> {
    Some(match (method.as_str(), path) {
        ("GET", ["domains"]) => Ok(State::domains()),
        ("GET", ["projects"]) => Ok(state.list_projects()),
        ("POST", ["projects"]) => state.create_project(ask),
        ("GET", ["projects", project]) => state.get_project(project),
        ("DELETE", ["projects", project]) => state.delete_project(project),
        ("GET", ["projects", project, "tags"]) => state.list_tags(project),
        ("POST", ["projects", project, "tags"]) => state.create_tag(project, ask),
        ("DELETE", ["projects", project, "tags", tag]) => state.delete_tag(project, tag),
        ("GET", ["projects", project, "images"]) => state.list_images(project, ask),
        ("GET", ["projects", project, "images", "tagged"]) => state.list_tagged(project, ask),
        ("GET", ["projects", project, "images", "tagged", "count"]) => state.count_tagged(project),
        ("POST", ["projects", project, "images"]) => state.upload_multipart(project, ask),
        ("POST", ["projects", project, "images", "files"]) => state.upload_files(project, ask),
        ("POST", ["projects", project, "images", "metadata"]) => state.set_metadata(project, ask),
        ("POST", ["projects", project, "images", "tags"]) => state.add_tags(project, ask),
        ("DELETE", ["projects", project, "images", "tags"]) => state.remove_tags(project, ask),
        ("DELETE", ["projects", project, "images"]) => state.delete_images(project, ask),
        ("POST", ["projects", project, "train"]) => state.train(project, ask),
        ("GET", ["projects", project, "iterations"]) => state.list_iterations(project),
        ("GET", ["projects", project, "iterations", iteration]) => state.get_iteration(project, iteration),
        ("DELETE", ["projects", project, "iterations", iteration]) => {
            state.delete_iteration(project, iteration)
        }
        ("GET", ["projects", project, "iterations", iteration, "performance"]) => {
            state.performance(project, iteration, ask)
        }
        ("POST", ["projects", project, "iterations", iteration, "publish"]) => {
            state.publish(project, iteration, ask)
        }
        ("POST", ["projects", project, "iterations", iteration, "export"]) => {
            state.queue_export(project, iteration, ask)
        }
        ("GET", ["projects", project, "iterations", iteration, "export"]) => {
            state.list_exports(project, iteration)
        }
        ("GET", ["projects", project, "artifacts"]) => state.artifact(project, ask),
        _ => return None,
    })
}

/// A finished export, under a signed address: no key is asked for, and none may be sent there.
async fn blob(Shared(service): Shared<Arc<Service>>, request: Request) -> Response {
    let uri = request.uri().clone();
    if request.headers().contains_key("training-key") {
        service.wire.violation(format!("the training key was sent to GET {}", uri.path()));
    }
    let state = service.state();
    let signed = uri.query().is_some_and(|query| query.contains(export::SIGNATURE));
    let bytes = uri.path().strip_prefix("/blobs/").and_then(|path| state.export_bytes(path));
    match bytes {
        Some(bytes) if signed => ([(header::CONTENT_TYPE, "application/zip")], bytes).into_response(),
        Some(_) => {
            (StatusCode::FORBIDDEN, "<Error><Code>AuthenticationFailed</Code></Error>").into_response()
        }
        None => (StatusCode::NOT_FOUND, "<Error><Code>BlobNotFound</Code></Error>").into_response(),
    }
}
