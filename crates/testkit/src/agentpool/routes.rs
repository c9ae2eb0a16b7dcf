//! The routes, each as strict as the published contract.

use std::collections::BTreeMap;

use axum::extract::{Path, Query, Request, State as Held};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Agent, AgentPools, ORGANIZATION, POWERLESS, Stage, State, TOKEN};

type Fields = BTreeMap<String, String>;
type Answer = Result<Response, Refusal>;

/// A refusal as the service words it.
#[derive(Debug)]
struct Refusal(StatusCode, &'static str, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"typeKey": self.1, "message": self.2}))).into_response()
    }
}

fn refuse<T>(status: StatusCode, key: &'static str, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(status, key, text.into()))
}

/// Who asks.
#[derive(Clone, PartialEq)]
enum Caller {
    /// Someone who may manage pools.
    Manager,
    /// An agent's own process.
    Agent(i64),
}

pub(super) fn routes(pools: AgentPools) -> Router {
    let task = "/{organization}/_apis/distributedtask";
    Router::new()
        .route(&format!("{task}/pools"), get(list_pools))
        .route(&format!("{task}/pools/{{pool}}/agents"), get(list_agents).post(add_agent))
        .route(
            &format!("{task}/pools/{{pool}}/agents/{{agent}}"),
            patch(update_agent).put(replace_agent).delete(delete_agent),
        )
        .route(&format!("{task}/pools/{{pool}}/sessions"), post(open_session))
        .route(&format!("{task}/pools/{{pool}}/sessions/{{session}}"), delete(close_session))
        .route(&format!("{task}/pools/{{pool}}/messages"), get(next_message))
        .route(&format!("{task}/pools/{{pool}}/jobrequests/{{job}}"), get(job_stage).patch(end_job))
        .layer(middleware::from_fn_with_state(pools.clone(), guard))
        .with_state(pools)
}

/// Organisation, version, sign-in; and the clock of every answer.
async fn guard(Held(pools): Held<AgentPools>, mut request: Request, next: Next) -> Response {
    let answer = match admit(&pools, &request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(answer) => *answer,
    };
    pools.state.1.notify_all();
    dated(&pools.lock(), answer)
}

fn dated(state: &State, mut answer: Response) -> Response {
    if state.clock_is_off {
        let long_ago = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
        answer.headers_mut().insert(header::DATE, long_ago);
    }
    answer
}

fn admit(pools: &AgentPools, request: &Request) -> Result<Caller, Box<Response>> {
    let uri = request.uri();
    if uri.path().split('/').nth(1) != Some(ORGANIZATION) {
        return Err(Box::new(StatusCode::NOT_FOUND.into_response()));
    }
    let version = uri.query().unwrap_or_default().split('&').any(|pair| pair == "api-version=7.1");
    if !version {
        pools.wire.violation(format!("{uri} has no api-version=7.1"));
        let text = "the request has no api-version";
        let refusal = Refusal(StatusCode::BAD_REQUEST, "VssVersionNotSpecifiedException", text.into());
        return Err(Box::new(refusal.into_response()));
    }
    caller(&mut pools.lock(), request.headers())
}

fn caller(state: &mut State, headers: &HeaderMap) -> Result<Caller, Box<Response>> {
    // What a browser gets: a page to sign in.
    let page = || {
        let sign_in = Html("<html>Sign in</html>");
        Box::new((StatusCode::NON_AUTHORITATIVE_INFORMATION, sign_in).into_response())
    };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(page)?;
    let token = if let Some(basic) = given.strip_prefix("Basic ") {
        let decoded = STANDARD.decode(basic).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        decoded.and_then(|pair| Some(pair.split_once(':')?.1.to_owned())).ok_or_else(page)?
    } else if let Some(bearer) = given.strip_prefix("Bearer ") {
        if let Some((id, _)) = state.agents.iter().find(|(_, agent)| agent.key == bearer) {
            return Ok(Caller::Agent(*id));
        }
        if bearer.starts_with("agent-key-") {
            // Of an agent that is gone, or that another one has replaced.
            return Err(Box::new(StatusCode::UNAUTHORIZED.into_response()));
        }
        state.bearers.insert(bearer.to_owned());
        bearer.to_owned()
    } else {
        return Err(page());
    };
    if state.expired.contains(&token) {
        return Err(Box::new(StatusCode::UNAUTHORIZED.into_response()));
    }
    match token.as_str() {
        accepted if accepted.starts_with(TOKEN) => Ok(Caller::Manager),
        POWERLESS => {
            let text = "Access denied. The token needs Manage permissions for pools";
            let refusal = Refusal(StatusCode::FORBIDDEN, "AccessDeniedException", text.into());
            Err(Box::new(refusal.into_response()))
        }
        // A token of Microsoft Entra; whether it is a good one, the test asks whoever gave it.
        other if state.bearers.contains(other) => Ok(Caller::Manager),
        _ => Err(page()),
    }
}

fn manager(request: &Request) -> Result<(), Refusal> {
    if request.extensions().get::<Caller>() == Some(&Caller::Manager) {
        return Ok(());
    }
    refuse(StatusCode::FORBIDDEN, "AccessDeniedException", "an agent may not manage its pool")
}

fn agent_of(request: &Request) -> Result<i64, Refusal> {
    match request.extensions().get::<Caller>() {
        Some(Caller::Agent(id)) => Ok(*id),
        _ => refuse(StatusCode::FORBIDDEN, "AccessDeniedException", "this is for agents"),
    }
}

async fn body<T: for<'a> Deserialize<'a>>(pools: &AgentPools, request: Request) -> Result<T, Refusal> {
    let path = request.uri().path().to_owned();
    let bytes = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    serde_json::from_slice(&bytes).or_else(|error| {
        pools.wire.violation(format!("{path}: {error}"));
        refuse(StatusCode::BAD_REQUEST, "VssPropertyValidationException", error.to_string())
    })
}

async fn list_pools(Held(pools): Held<AgentPools>, Query(query): Query<Fields>, request: Request) -> Answer {
    manager(&request)?;
    let named = query.get("poolName").map(|name| name.to_lowercase());
    let state = pools.lock();
    let found: Vec<Value> = state
        .pools
        .iter()
        .filter(|(_, name)| named.as_ref().is_none_or(|named| *named == name.to_lowercase()))
        .map(|(id, name)| json!({"id": id, "name": name, "isHosted": false, "poolType": "automation"}))
        .collect();
    Ok(Json(json!({"count": found.len(), "value": found})).into_response())
}

fn shown(state: &State, id: i64, agent: &Agent, assigned: bool) -> Value {
    let status = if state.online(id) { "online" } else { "offline" };
    let mut shown = json!({"id": id, "name": agent.name, "enabled": agent.enabled, "status": status, "version": "5.278.0"});
    if let (true, Some(job)) = (assigned, agent.job) {
        shown["assignedRequest"] = json!({"requestId": job});
    }
    shown
}

async fn list_agents(
    Held(pools): Held<AgentPools>,
    Path((_, pool)): Path<(String, i64)>,
    Query(query): Query<Fields>,
    request: Request,
) -> Answer {
    manager(&request)?;
    let named = query.get("agentName").map(|name| name.to_lowercase());
    let assigned = query.get("includeAssignedRequest").is_some_and(|value| value == "true");
    let state = pools.lock();
    let found: Vec<Value> = state
        .agents
        .iter()
        .filter(|(_, agent)| agent.pool == pool)
        .filter(|(_, agent)| named.as_ref().is_none_or(|named| *named == agent.name.to_lowercase()))
        .map(|(id, agent)| shown(&state, *id, agent, assigned))
        .collect();
    Ok(Json(json!({"count": found.len(), "value": found})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAgent {
    name: String,
}

async fn add_agent(
    Held(pools): Held<AgentPools>,
    Path((_, pool)): Path<(String, i64)>,
    request: Request,
) -> Answer {
    manager(&request)?;
    let new: NewAgent = body(&pools, request).await?;
    let mut state = pools.lock();
    if !state.pools.contains_key(&pool) {
        return refuse(StatusCode::NOT_FOUND, "TaskAgentPoolNotFoundException", "no such pool");
    }
    if state.agents.values().any(|agent| agent.pool == pool && agent.name == new.name) {
        return refuse(
            StatusCode::CONFLICT,
            "TaskAgentExistsException",
            "the pool has such an agent already",
        );
    }
    let id = i64::try_from(state.number()).unwrap_or_default();
    let key = format!("agent-key-{id}");
    state.agents.insert(id, Agent { pool, name: new.name, enabled: true, key: key.clone(), job: None });
    Ok(Json(json!({"id": id, "key": key})).into_response())
}

fn find(state: &mut State, pool: i64, id: i64) -> Result<&mut Agent, Refusal> {
    match state.agents.get_mut(&id).filter(|agent| agent.pool == pool) {
        Some(agent) => Ok(agent),
        None => refuse(StatusCode::NOT_FOUND, "TaskAgentNotFoundException", "no such agent"),
    }
}

async fn replace_agent(
    Held(pools): Held<AgentPools>,
    Path((_, pool, id)): Path<(String, i64, i64)>,
    request: Request,
) -> Answer {
    manager(&request)?;
    let new: NewAgent = body(&pools, request).await?;
    let mut state = pools.lock();
    let key = format!("agent-key-{id}-{}", state.number());
    let agent = find(&mut state, pool, id)?;
    (agent.name, agent.enabled, agent.key, agent.job) = (new.name, true, key.clone(), None);
    state.sessions.retain(|_, other| *other != id);
    Ok(Json(json!({"id": id, "key": key})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    id: i64,
    enabled: bool,
}

async fn update_agent(
    Held(pools): Held<AgentPools>,
    Path((_, pool, id)): Path<(String, i64, i64)>,
    request: Request,
) -> Answer {
    manager(&request)?;
    let change: Change = body(&pools, request).await?;
    if change.id != id {
        pools.wire.violation("the body's id is not the path's");
        return refuse(StatusCode::BAD_REQUEST, "VssPropertyValidationException", "the ids differ");
    }
    let mut state = pools.lock();
    let agent = find(&mut state, pool, id)?;
    agent.enabled = change.enabled;
    let agent = agent.clone();
    Ok(Json(shown(&state, id, &agent, false)).into_response())
}

async fn delete_agent(
    Held(pools): Held<AgentPools>,
    Path((_, pool, id)): Path<(String, i64, i64)>,
    request: Request,
) -> Answer {
    manager(&request)?;
    let mut state = pools.lock();
    if find(&mut state, pool, id)?.job.is_some() {
        return refuse(StatusCode::BAD_REQUEST, "TaskAgentJobStillRunningException", "a job is running");
    }
    state.agents.remove(&id);
    state.sessions.retain(|_, agent| *agent != id);
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn open_session(Held(pools): Held<AgentPools>, request: Request) -> Answer {
    let id = agent_of(&request)?;
    let mut state = pools.lock();
    if state.online(id) {
        return refuse(StatusCode::CONFLICT, "TaskAgentSessionConflictException", "a session exists");
    }
    let session = format!("session-{id}-{}", state.number());
    state.sessions.insert(session.clone(), id);
    Ok(Json(json!({"sessionId": session})).into_response())
}

async fn close_session(
    Held(pools): Held<AgentPools>,
    Path((_, _, session)): Path<(String, i64, String)>,
    request: Request,
) -> Answer {
    let id = agent_of(&request)?;
    let mut state = pools.lock();
    match state.sessions.get(&session) {
        Some(owner) if *owner == id => {
            state.sessions.remove(&session);
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        _ => refuse(StatusCode::NOT_FOUND, "TaskAgentSessionNotFoundException", "no such session"),
    }
}

async fn next_message(
    Held(pools): Held<AgentPools>,
    Query(query): Query<Fields>,
    request: Request,
) -> Answer {
    let id = agent_of(&request)?;
    let mut state = pools.lock();
    if query.get("sessionId").and_then(|session| state.sessions.get(session)) != Some(&id) {
        return refuse(StatusCode::NOT_FOUND, "TaskAgentSessionNotFoundException", "no such session");
    }
    let free = state.agents.get(&id).is_some_and(|agent| agent.enabled && agent.job.is_none());
    let Some(number) = free.then(|| state.queue.pop_front()).flatten() else {
        return Ok(StatusCode::ACCEPTED.into_response());
    };
    if let Some(agent) = state.agents.get_mut(&id) {
        agent.job = Some(number);
    }
    let Some((job, stage)) = state.jobs.get_mut(&number) else {
        return Ok(StatusCode::ACCEPTED.into_response());
    };
    if *stage == Stage::Queued {
        *stage = if job.held { Stage::Running } else { Stage::Released };
    }
    Ok(Json(json!({"requestId": number, "needles": job.needles, "leaves": job.leaves})).into_response())
}

async fn job_stage(
    Held(pools): Held<AgentPools>,
    Path((_, _, number)): Path<(String, i64, u64)>,
    request: Request,
) -> Answer {
    agent_of(&request)?;
    let state = pools.lock();
    let released = state.jobs.get(&number).is_some_and(|(_, stage)| *stage == Stage::Released);
    Ok(Json(json!({"released": released})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    result: String,
    report: Value,
}

async fn end_job(
    Held(pools): Held<AgentPools>,
    Path((_, _, number)): Path<(String, i64, u64)>,
    request: Request,
) -> Answer {
    let id = agent_of(&request)?;
    let end: End = body(&pools, request).await?;
    let mut state = pools.lock();
    let Some(agent) = state.agents.get_mut(&id).filter(|agent| agent.job == Some(number)) else {
        return refuse(StatusCode::NOT_FOUND, "TaskAgentJobNotFoundException", "not a job of this agent");
    };
    agent.job = None;
    if let Some((_, stage)) = state.jobs.get_mut(&number) {
        *stage = Stage::Ended(end.result, end.report);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
