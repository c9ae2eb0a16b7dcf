//! A double of Azure Pipelines' REST API, version 7.1, as far as a trigger speaks with it: the list of runs, and one
//! more.
//!
//! | route | contract |
//! |---|---|
//! | `GET /{org}/{project}/_apis/build/builds` | `Builds - List` with `definitions`, `branchName`, `queryOrder`, `$top` |
//! | `POST /{org}/{project}/_apis/pipelines/{id}/runs` | `Runs - Run Pipeline` with repositories and template parameters |
//!
//! Runs wait until a test starts them, or start at once where it says so. Another query, another field, another
//! version is a broken contract.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::body::Bytes;
use axum::extract::{Path, Query, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::wire::{Served, Wire};

/// The organisation.
pub const ORGANIZATION: &str = "contoso";
/// The project.
pub const PROJECT: &str = "Eyes & Ears";
/// The pipeline's number.
pub const PIPELINE: u64 = 12;
/// A personal access token that may read and execute builds.
pub const TOKEN: &str = "personal-access-token-9411";
/// A personal access token that may only read.
pub const READING_TOKEN: &str = "reading-access-token-9411";

/// What has become of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// It waits for an agent.
    NotStarted,
    /// An agent works on it.
    InProgress,
    /// It has ended.
    Completed,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::NotStarted => "notStarted",
            Self::InProgress => "inProgress",
            Self::Completed => "completed",
        }
    }
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its number; numbers grow.
    pub id: u64,
    /// What has become of it.
    pub status: Status,
    /// The branch.
    pub branch: String,
    /// Template parameters.
    pub parameters: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct State {
    runs: Vec<Run>,
    /// Whether an agent is free.
    at_once: bool,
    bearers: BTreeSet<String>,
}

/// The double. It listens until it is dropped.
#[derive(Debug)]
pub struct Pipelines {
    served: Served,
    /// What was said, and what is to go wrong.
    pub wire: Arc<Wire>,
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct Service {
    state: Arc<Mutex<State>>,
    wire: Arc<Wire>,
}

impl Pipelines {
    /// Starts it on `port` (0: any free one).
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(port: u16) -> Result<Self> {
        let wire = Arc::new(Wire::default());
        let state = Arc::new(Mutex::new(State::default()));
        let service = Service { state: Arc::clone(&state), wire: Arc::clone(&wire) };
        let router = Router::new()
            .route("/{organization}/{project}/_apis/build/builds", get(list))
            .route("/{organization}/{project}/_apis/pipelines/{pipeline}/runs", post(queue))
            .with_state(service);
        Ok(Self { served: Served::start(router, Arc::clone(&wire), port)?, wire, state })
    }

    /// The organisation's address.
    pub fn organization(&self) -> String {
        format!("{}/{ORGANIZATION}", self.served.url())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runs, in the order they were queued.
    pub fn runs(&self) -> Vec<Run> {
        self.lock().runs.clone()
    }

    /// Adds a run that someone else queued, and gives its number.
    pub fn add(&self, branch: &str, status: Status, parameters: &[(&str, &str)]) -> u64 {
        let parameters =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.lock().add(branch.to_owned(), status, parameters)
    }

    /// Gives every run that waits or works this status, as an agent would.
    pub fn advance(&self, status: Status) {
        for run in &mut self.lock().runs {
            if run.status != Status::Completed {
                run.status = status;
            }
        }
    }

    /// Whether runs to come find a free agent and start at once.
    pub fn start_at_once(&self, at_once: bool) {
        self.lock().at_once = at_once;
    }

    /// The bearer tokens with which it was asked. Whether they are good ones, the test asks whoever gave them.
    pub fn bearers(&self) -> Vec<String> {
        self.lock().bearers.iter().cloned().collect()
    }
}

impl State {
    fn add(&mut self, branch: String, status: Status, parameters: BTreeMap<String, String>) -> u64 {
        // Numbers are the organisation's: other pipelines take some in between.
        let id = self.runs.last().map_or(100, |run| run.id + 3);
        self.runs.push(Run { id, status, branch, parameters });
        id
    }

    /// The refusal, where the caller may not come in.
    fn refuses(&mut self, headers: &HeaderMap, writes: bool) -> Option<Response> {
        let given =
            headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if let Some(token) = given.strip_prefix("Bearer ").filter(|token| !token.is_empty()) {
            self.bearers.insert(token.to_owned());
            return None;
        }
        let basic = |token: &str| given == format!("Basic {}", STANDARD.encode(format!(":{token}")));
        if basic(TOKEN) || (basic(READING_TOKEN) && !writes) {
            return None;
        }
        if basic(READING_TOKEN) {
            let message = "TF50309: The following account does not have sufficient permissions to complete the operation: Queue builds";
            return Some((StatusCode::FORBIDDEN, Json(json!({"message": message}))).into_response());
        }
        // Who is not known and does not ask for a plain refusal sees the page for people.
        Some(if headers.get("x-tfs-fedauthredirect").is_some_and(|value| value == "Suppress") {
            StatusCode::UNAUTHORIZED.into_response()
        } else {
            (StatusCode::NON_AUTHORITATIVE_INFORMATION, Html("<html>Sign in</html>")).into_response()
        })
    }
}

impl Service {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self, what: &str) -> Response {
        self.wire.violation(what);
        (StatusCode::BAD_REQUEST, Json(json!({"message": what}))).into_response()
    }
}

type Fields = BTreeMap<String, String>;

fn is_here(organization: &str, project: &str) -> bool {
    organization == ORGANIZATION && project == PROJECT
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, Json(json!({"message": "TF200016: The following project does not exist"})))
        .into_response()
}

async fn list(
    Shared(service): Shared<Service>,
    Path((organization, project)): Path<(String, String)>,
    Query(query): Query<Fields>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = service.lock().refuses(&headers, false) {
        return refusal;
    }
    if !is_here(&organization, &project) {
        return not_found();
    }
    let known = ["api-version", "definitions", "branchName", "queryOrder", "$top"];
    if let Some(name) = query.keys().find(|name| !known.contains(&name.as_str())) {
        return service.broken(&format!("`{name}` is not asked of the list of builds"));
    }
    let field = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let top = field("$top").parse::<usize>().unwrap_or_default();
    if field("api-version") != "7.1" || field("queryOrder") != "queueTimeDescending" || top == 0 {
        return service.broken("another `api-version`, order or `$top` than the interface's");
    }
    let of_pipeline = field("definitions").split(',').any(|id| id == PIPELINE.to_string());
    let state = service.lock();
    let runs =
        state.runs.iter().rev().filter(|run| of_pipeline && run.branch == field("branchName")).take(top);
    let value: Vec<Value> = runs
        .map(|run| {
            json!({
                "id": run.id, "buildNumber": format!("20261123.{}", run.id), "status": run.status.name(),
                "sourceBranch": run.branch, "templateParameters": run.parameters,
                "definition": {"id": PIPELINE}, "reason": "manual",
            })
        })
        .collect();
    Json(json!({"count": value.len(), "value": value})).into_response()
}

async fn queue(
    Shared(service): Shared<Service>,
    Path((organization, project, pipeline)): Path<(String, String, u64)>,
    Query(query): Query<Fields>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(refusal) = service.lock().refuses(&headers, true) {
        return refusal;
    }
    if !is_here(&organization, &project) || pipeline != PIPELINE {
        return not_found();
    }
    if query.len() != 1 || query.get("api-version").map(String::as_str) != Some("7.1") {
        return service.broken("another query than `api-version=7.1`");
    }
    let Ok(Value::Object(asked)) = serde_json::from_slice::<Value>(&body) else {
        return service.broken("the body is no JSON object");
    };
    let known =
        ["resources", "templateParameters", "variables", "stagesToSkip", "previewRun", "yamlOverride"];
    if let Some(name) = asked.keys().find(|name| !known.contains(&name.as_str())) {
        return service.broken(&format!("a run has no `{name}`"));
    }
    let asked = Value::Object(asked);
    let branch = asked.pointer("/resources/repositories/self/refName").and_then(Value::as_str);
    let Some(branch) = branch.filter(|branch| branch.starts_with("refs/")) else {
        return service.broken("`refName` is no full name of a branch");
    };
    let given = asked.get("templateParameters").cloned().unwrap_or_else(|| json!({}));
    let Ok(parameters) = serde_json::from_value::<BTreeMap<String, String>>(given) else {
        return service.broken("`templateParameters` are not texts");
    };
    let mut state = service.lock();
    let status = if state.at_once { Status::InProgress } else { Status::NotStarted };
    let id = state.add(branch.to_owned(), status, parameters);
    Json(json!({
        "id": id, "name": format!("20261123.{id}"), "state": "inProgress",
        "pipeline": {"id": PIPELINE}, "createdDate": "2026-11-23T10:00:00Z",
    }))
    .into_response()
}
