//! The table of routes, and what holds for each: who asks, in which version, how often, how a refusal is worded.

use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Request, State as AxumState};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::configurations::{
    delete_configuration, get_configuration, list_configurations, put_configuration, test_queries,
};
use super::devices::{apply_content, get_device, get_module_twin, get_twin, list_modules, run_query};
use super::state::{State, Tier};
use super::{IotHub, sign_in};

pub(super) fn routes(hub: IotHub) -> Router {
    Router::new()
        .route("/configurations", get(list_configurations))
        .route("/configurations/testQueries", post(test_queries))
        .route(
            "/configurations/{id}",
            get(get_configuration).put(put_configuration).delete(delete_configuration),
        )
        .route("/devices/query", post(run_query))
        .route("/devices/{id}", get(get_device))
        .route("/devices/{id}/modules", get(list_modules))
        .route("/devices/{id}/applyConfigurationContent", post(apply_content))
        .route("/twins/{id}", get(get_twin))
        .route("/twins/{id}/modules/{module}", get(get_module_twin))
        .method_not_allowed_fallback(other_method)
        .layer(middleware::from_fn_with_state(hub.clone(), guard))
        .with_state(hub)
}

/// An error as the service words it.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    text: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &'static str, text: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, code, text: text.into() }
    }

    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::new(400, "ArgumentInvalid", text)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({
            "Message": format!("ErrorCode:{};{}", self.code, self.text),
            "ExceptionMessage": "Tracking ID:0a1b2c3d4e5f-G:1-TimeStamp:01/01/2026 00:00:00",
        });
        let mut answer = (self.status, Json(body)).into_response();
        answer.headers_mut().insert("iothub-errorcode", HeaderValue::from_static(self.code));
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }
}

pub(super) type Answer = Result<Response, Refusal>;

async fn other_method(AxumState(hub): AxumState<IotHub>, request: Request) -> StatusCode {
    hub.wire.violation(format!("unknown route {} {}", request.method(), request.uri()));
    StatusCode::NOT_IMPLEMENTED
}

async fn guard(AxumState(hub): AxumState<IotHub>, request: Request, next: Next) -> Answer {
    let ahead = hub.lock().ahead;
    sign_in::check(request.headers(), ahead)
        .map_err(|why| Refusal::new(401, "IotHubUnauthorizedAccess", format!("Unauthorized: {why}")))?;
    if let Some(token) = sign_in::bearer(request.headers()) {
        hub.lock().bearers.insert(token.to_owned());
    }
    let query = request.uri().query().unwrap_or_default();
    if !query.split('&').any(|pair| pair == "api-version=2021-04-12") {
        hub.wire.violation(format!("{} has no api-version=2021-04-12", request.uri()));
        return Err(Refusal::new(400, "InvalidProtocolVersion", "the api-version is missing or not known"));
    }
    admit(&mut hub.lock(), request.uri().path())?;
    Ok(next.run(request).await)
}

/// Tier and throttling.
fn admit(state: &mut State, path: &str) -> Result<(), Refusal> {
    let registry = path.starts_with("/devices/")
        && path != "/devices/query"
        && !path.ends_with("/applyConfigurationContent");
    if state.tier == Tier::Basic && !registry {
        return Err(Refusal::new(
            403,
            "OperationNotAvailableInCurrentTier",
            "the operation is not available in the hub's tier",
        ));
    }
    if path.starts_with("/configurations") { throttle(state) } else { Ok(()) }
}

fn throttle(state: &mut State) -> Result<(), Refusal> {
    let minute = Duration::from_mins(1);
    while state.calls.front().is_some_and(|call| call.elapsed() >= minute) {
        state.calls.pop_front();
    }
    if state.calls.len() >= state.rate {
        return Err(Refusal::new(429, "ThrottlingException", "too many calls to configurations"));
    }
    state.calls.push_back(Instant::now());
    Ok(())
}

/// A body as JSON of just these fields.
pub(super) fn body<T: DeserializeOwned>(hub: &IotHub, bytes: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        hub.wire.violation(format!("a body was refused: {error}"));
        Refusal::bad(error.to_string())
    })
}
