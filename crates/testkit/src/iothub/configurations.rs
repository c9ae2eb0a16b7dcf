//! Configurations: made, changed in what may change, deleted, tested; and what a content may hold.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query as UrlQuery, State as AxumState};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::IotHub;
use super::query::{Condition, Query};
use super::routes::{Answer, Refusal, body};
use super::state::Configuration;

/// The most modules a deployment may have.
const MAX_MODULES: usize = 50;

/// The most bytes of desired properties a twin may have.
const MAX_TWIN: usize = 32 << 10;

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

pub(super) async fn list_configurations(
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

pub(super) async fn get_configuration(AxumState(hub): AxumState<IotHub>, Path(id): Path<String>) -> Answer {
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

pub(super) async fn put_configuration(
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

pub(super) async fn delete_configuration(
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
pub(super) fn check_content(content: &Value) -> Result<(), Refusal> {
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

pub(super) async fn test_queries(AxumState(hub): AxumState<IotHub>, bytes: Bytes) -> Answer {
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
