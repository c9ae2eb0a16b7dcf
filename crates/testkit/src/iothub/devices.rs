//! Devices, their modules and twins, and queries over them.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State as AxumState};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::IntoResponse as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::IotHub;
use super::configurations::check_content;
use super::query::{Query, Source, find};
use super::routes::{Answer, Refusal, body};

fn no_device(id: &str) -> Refusal {
    Refusal::new(404, "DeviceNotFound", format!("no device `{id}`"))
}

pub(super) async fn get_device(AxumState(hub): AxumState<IotHub>, Path(id): Path<String>) -> Answer {
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

pub(super) async fn list_modules(AxumState(hub): AxumState<IotHub>, Path(id): Path<String>) -> Answer {
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

pub(super) async fn apply_content(
    AxumState(hub): AxumState<IotHub>,
    Path(id): Path<String>,
    bytes: Bytes,
) -> Answer {
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

pub(super) async fn get_twin(AxumState(hub): AxumState<IotHub>, Path(id): Path<String>) -> Answer {
    let state = hub.lock();
    Ok(Json(state.device_twin(&id).ok_or_else(|| no_device(&id))?).into_response())
}

pub(super) async fn get_module_twin(
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

pub(super) async fn run_query(AxumState(hub): AxumState<IotHub>, headers: HeaderMap, bytes: Bytes) -> Answer {
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
