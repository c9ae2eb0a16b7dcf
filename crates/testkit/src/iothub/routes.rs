//! The service's routes, each as strict as the published contract.

use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path, Query as UrlQuery, Request, State as AxumState};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::query::{Condition, Query, Source, find};
use super::state::{Configuration, State, Tier};
use super::{IotHub, sign_in};

/// The most modules a deployment may have.
const MAX_MODULES: usize = 50;

/// The most bytes of desired properties a twin may have.
const MAX_TWIN: usize = 32 << 10;

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
struct Refusal {
    status: StatusCode,
    code: &'static str,
    text: String,
}

impl Refusal {
    fn new(status: u16, code: &'static str, text: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, code, text: text.into() }
    }

    fn bad(text: impl Into<String>) -> Self {
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

type Answer = Result<Response, Refusal>;

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
fn body<T: DeserializeOwned>(hub: &IotHub, bytes: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        hub.wire.violation(format!("a body was refused: {error}"));
        Refusal::bad(error.to_string())
    })
}

fn stamp(clock: u64) -> String {
    format!("2026-01-01T{:02}:{:02}:{:02}Z", clock / 3600 % 24, clock / 60 % 60, clock % 60)
}

fn shown(id: &str, configuration: &Configuration) -> Value {
    json!({
        "id": id,
        "schemaVersion": "1.0",
        "labels": configuration.labels,
        "content": configuration.content,
        "targetCondition": configuration.target_condition,
        "createdTimeUtc": stamp(configuration.created),
        "lastUpdatedTimeUtc": stamp(configuration.updated),
        "priority": configuration.priority,
        "systemMetrics": {"results": {}, "queries": {}},
        "metrics": configuration.metrics,
        "etag": etag(configuration),
    })
}

fn etag(configuration: &Configuration) -> String {
    format!("MQ{:06}=", configuration.updated)
}

async fn list_configurations(
    AxumState(hub): AxumState<IotHub>,
    UrlQuery(query): UrlQuery<Map<String, Value>>,
) -> Answer {
    let top = query.get("top").and_then(Value::as_str).and_then(|top| top.parse().ok()).unwrap_or(100);
    let state = hub.lock();
    let list: Vec<Value> =
        state.configurations.iter().take(top).map(|(id, configuration)| shown(id, configuration)).collect();
    Ok(Json(list).into_response())
}

fn no_configuration(id: &str) -> Refusal {
    Refusal::new(404, "ConfigurationNotFound", format!("no configuration `{id}`"))
}

async fn get_configuration(AxumState(hub): AxumState<IotHub>, Path(id): Path<String>) -> Answer {
    let state = hub.lock();
    let configuration = state.configurations.get(&id).ok_or_else(|| no_configuration(&id))?;
    Ok(Json(shown(&id, configuration)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GivenConfiguration {
    id: String,
    schema_version: Option<String>,
    #[serde(default)]
    labels: Option<Map<String, Value>>,
    content: Option<Value>,
    target_condition: Option<String>,
    priority: Option<i32>,
    #[serde(default)]
    metrics: Option<Metrics>,
    etag: Option<String>,
    created_time_utc: Option<String>,
    last_updated_time_utc: Option<String>,
    system_metrics: Option<Metrics>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metrics {
    #[serde(default)]
    results: Option<Map<String, Value>>,
    #[serde(default)]
    queries: Option<Map<String, Value>>,
}

async fn put_configuration(
    AxumState(hub): AxumState<IotHub>,
    Path(id): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer {
    let given: GivenConfiguration = body(&hub, &bytes)?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-+%_*!'".contains(c);
    if given.id != id || id.is_empty() || id.len() > 128 || !id.chars().all(allowed) {
        return Err(Refusal::bad(format!("`{id}` is no id of a configuration")));
    }
    if given.schema_version.is_some_and(|version| version != "1.0") {
        return Err(Refusal::bad("the schemaVersion is not known"));
    }
    let labels = given.labels.unwrap_or_default();
    if labels.values().any(|value| !value.is_string()) {
        return Err(Refusal::bad("labels are texts"));
    }
    let condition = given.target_condition.unwrap_or_default();
    if condition != "*" && !condition.is_empty() {
        Condition::parse(&condition)
            .map_err(|why| Refusal::new(400, "InvalidConfigurationTargetCondition", why))?;
    }
    // Only what a client may not set is ignored.
    let _ = (given.etag, given.created_time_utc, given.last_updated_time_utc, given.system_metrics);
    let metrics = given.metrics.map_or_else(
        || json!({"results": {}, "queries": {}}),
        |m| json!({"results": m.results.unwrap_or_default(), "queries": m.queries.unwrap_or_default()}),
    );
    let if_match = headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok());
    let mut state = hub.lock();
    let now = state.now();
    let status = match (state.configurations.get(&id), if_match) {
        (Some(_), None) => {
            return Err(Refusal::new(409, "ConfigurationAlreadyExists", format!("`{id}` exists")));
        }
        (None, Some(_)) => return Err(no_configuration(&id)),
        (Some(existing), Some(expected)) => {
            match_etag(existing, expected)?;
            if given.content.is_some_and(|content| content != existing.content) {
                hub.wire.violation(format!("the content of `{id}` was to be changed"));
                return Err(Refusal::bad("the content of a configuration cannot be updated"));
            }
            let (content, created) = (existing.content.clone(), existing.created);
            let updated = Configuration {
                labels: Value::Object(labels),
                content,
                target_condition: condition,
                priority: given.priority.unwrap_or(0).into(),
                metrics,
                created,
                updated: now,
            };
            state.configurations.insert(id.clone(), updated);
            StatusCode::OK
        }
        (None, None) => {
            if state.configurations.len() >= state.max_configurations {
                return Err(Refusal::new(
                    403,
                    "ConfigurationCountLimitExceeded",
                    "the hub has 100 configurations",
                ));
            }
            let content = given.content.ok_or_else(|| Refusal::bad("the content is missing"))?;
            check_content(&content)?;
            let created = Configuration {
                labels: Value::Object(labels),
                content,
                target_condition: condition,
                priority: given.priority.unwrap_or(0).into(),
                metrics,
                created: now,
                updated: now,
            };
            state.configurations.insert(id.clone(), created);
            StatusCode::OK
        }
    };
    state.evaluate(&format!("PUT {id}"));
    let configuration = state.configurations.get(&id).ok_or_else(|| no_configuration(&id))?;
    Ok((status, Json(shown(&id, configuration))).into_response())
}

fn match_etag(existing: &Configuration, expected: &str) -> Result<(), Refusal> {
    if expected == "*" || expected == format!("\"{}\"", etag(existing)) {
        return Ok(());
    }
    Err(Refusal::new(412, "PreconditionFailed", "the etag is another"))
}

async fn delete_configuration(
    AxumState(hub): AxumState<IotHub>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let mut state = hub.lock();
    let existing = state.configurations.get(&id).ok_or_else(|| no_configuration(&id))?;
    if let Some(expected) = headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok()) {
        match_etag(existing, expected)?;
    }
    state.configurations.remove(&id);
    state.evaluate(&format!("DELETE {id}"));
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `modulesContent` with nothing beside it, of whole or layered twins.
fn check_content(content: &Value) -> Result<(), Refusal> {
    let top = content.as_object().ok_or_else(|| Refusal::bad("the content is no object"))?;
    if let Some(key) = top.keys().find(|key| key.as_str() != "modulesContent") {
        return Err(Refusal::bad(format!("the content has the field `{key}`")));
    }
    let modules = top
        .get("modulesContent")
        .and_then(Value::as_object)
        .ok_or_else(|| Refusal::bad("the content lacks modulesContent"))?;
    for (module, twin) in modules {
        let properties = twin.as_object().ok_or_else(|| Refusal::bad(format!("`{module}` is no object")))?;
        for (path, value) in properties {
            if path != "properties.desired" && !path.starts_with("properties.desired.") {
                return Err(Refusal::bad(format!("`{module}` has the field `{path}`")));
            }
            if value.to_string().len() > MAX_TWIN {
                return Err(Refusal::new(
                    400,
                    "InvalidConfigurationContent",
                    format!("`{module}` is larger than 32 KB"),
                ));
            }
        }
    }
    if let Some(agent) = content.pointer("/modulesContent/$edgeAgent/properties.desired") {
        for key in ["schemaVersion", "runtime", "systemModules", "modules"] {
            if agent.get(key).is_none() {
                return Err(Refusal::new(
                    400,
                    "InvalidConfigurationContent",
                    format!("$edgeAgent lacks `{key}`"),
                ));
            }
        }
        if agent["modules"].as_object().is_some_and(|modules| modules.len() > MAX_MODULES) {
            return Err(Refusal::new(400, "InvalidConfigurationContent", "too many modules"));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TestInput {
    target_condition: Option<String>,
    #[serde(default)]
    custom_metric_queries: Map<String, Value>,
}

async fn test_queries(AxumState(hub): AxumState<IotHub>, bytes: Bytes) -> Answer {
    let given: TestInput = body(&hub, &bytes)?;
    let error = match &given.target_condition {
        Some(condition) => Condition::parse(condition).err(),
        None => None,
    };
    let mut errors = Map::new();
    for (name, query) in &given.custom_metric_queries {
        if let Err(why) = Query::parse(query.as_str().unwrap_or_default()) {
            errors.insert(name.clone(), why.into());
        }
    }
    let mut tested = json!({"customMetricQueryErrors": errors});
    if let Some(error) = error {
        tested["targetConditionError"] = error.into();
    }
    Ok(Json(tested).into_response())
}

fn no_device(id: &str) -> Refusal {
    Refusal::new(404, "DeviceNotFound", format!("no device `{id}`"))
}

async fn get_device(AxumState(hub): AxumState<IotHub>, Path(id): Path<String>) -> Answer {
    let state = hub.lock();
    let device = state.devices.get(&id).ok_or_else(|| no_device(&id))?;
    let shown = json!({
        "deviceId": id,
        "generationId": "637",
        "etag": "AAAA",
        "connectionState": if device.connected { "Connected" } else { "Disconnected" },
        "status": "enabled",
        "cloudToDeviceMessageCount": 0,
        "authentication": {"type": "sas"},
        "capabilities": {"iotEdge": device.edge},
    });
    Ok(Json(shown).into_response())
}

async fn list_modules(AxumState(hub): AxumState<IotHub>, Path(id): Path<String>) -> Answer {
    let state = hub.lock();
    let device = state.devices.get(&id).ok_or_else(|| no_device(&id))?;
    let list: Vec<Value> = device
        .modules
        .keys()
        .map(|name| json!({"deviceId": id, "moduleId": name, "managedBy": "iotEdge"}))
        .collect();
    Ok(Json(list).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Content {
    modules_content: Value,
}

async fn apply_content(AxumState(hub): AxumState<IotHub>, Path(id): Path<String>, bytes: Bytes) -> Answer {
    let given: Content = body(&hub, &bytes)?;
    let content = json!({"modulesContent": given.modules_content});
    check_content(&content)?;
    let mut state = hub.lock();
    let device = state.devices.get_mut(&id).ok_or_else(|| no_device(&id))?;
    if !device.edge {
        return Err(Refusal::bad(format!("`{id}` is no edge device")));
    }
    device.apply(&content);
    // An automatic deployment that targets the device wins.
    state.evaluate(&format!("applyConfigurationContent {id}"));
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn get_twin(AxumState(hub): AxumState<IotHub>, Path(id): Path<String>) -> Answer {
    let state = hub.lock();
    Ok(Json(state.device_twin(&id).ok_or_else(|| no_device(&id))?).into_response())
}

async fn get_module_twin(
    AxumState(hub): AxumState<IotHub>,
    Path((id, module)): Path<(String, String)>,
) -> Answer {
    let mut state = hub.lock();
    state.tick();
    if !state.devices.contains_key(&id) {
        return Err(no_device(&id));
    }
    let twin = state
        .module_twin(&id, &module)
        .ok_or_else(|| Refusal::new(404, "ModuleNotFound", format!("no module `{module}`")))?;
    Ok(Json(twin).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenQuery {
    query: String,
}

async fn run_query(AxumState(hub): AxumState<IotHub>, headers: HeaderMap, bytes: Bytes) -> Answer {
    let given: GivenQuery = body(&hub, &bytes)?;
    let query = Query::parse(&given.query).map_err(|why| Refusal::bad(format!("BadQuery: {why}")))?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut state = hub.lock();
    let first = match text("x-ms-continuation") {
        None => {
            // Each new query is a look at the twins.
            state.tick();
            0
        }
        Some(token) => token
            .strip_prefix("after-")
            .and_then(|number| number.parse::<usize>().ok())
            .ok_or_else(|| Refusal::bad("the continuation token is not ours"))?,
    };
    let asked = text("x-ms-max-item-count").and_then(|count| count.parse().ok()).unwrap_or(state.page);
    let size = asked.clamp(1, state.page);
    let rows: Vec<Value> = match query.source {
        Source::Devices => state.devices.keys().filter_map(|id| state.device_twin(id)).collect(),
        Source::Modules => state
            .devices
            .iter()
            .flat_map(|(id, device)| device.modules.keys().map(move |module| (id, module)))
            .filter_map(|(id, module)| state.module_twin(id, module))
            .collect(),
    };
    let rows: Vec<Value> = rows
        .into_iter()
        .filter(|row| query.condition.as_ref().is_none_or(|condition| condition.holds(row)))
        .map(|row| {
            if query.fields.is_empty() {
                return row;
            }
            let chosen = query
                .fields
                .iter()
                .filter_map(|path| Some((path.last()?.clone(), find(&row, path)?.clone())));
            Value::Object(chosen.collect())
        })
        .collect();
    let page: Vec<&Value> = rows.iter().skip(first).take(size).collect();
    let more = first + page.len() < rows.len();
    let mut answer = Json(&page).into_response();
    if more && let Ok(token) = HeaderValue::from_str(&format!("after-{}", first + size)) {
        answer.headers_mut().insert("x-ms-continuation", token);
    }
    answer.headers_mut().insert("x-ms-item-type", HeaderValue::from_static("twin"));
    Ok(answer)
}
