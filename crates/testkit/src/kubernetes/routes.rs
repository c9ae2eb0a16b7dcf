//! What is answered on which route.

#![expect(clippy::result_large_err, reason = "a refusal is an answer like any other here")]

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State as Extracted};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use serde_json::{Value, json};

use super::apply::Refusal;
use super::controllers::{self, Behaviour};
use super::store::{Kind, Place};
use super::watch::watch;
use super::{Cluster, State};

/// Group and version, kind, plural, whether it is in a namespace, and the fields beside the four that all have.
pub(super) const KINDS: [(&str, &str, &str, bool, &[&str]); 9] = [
    ("v1", "Namespace", "namespaces", false, &["spec"]),
    ("v1", "Node", "nodes", false, &["spec"]),
    ("v1", "Pod", "pods", true, &["spec"]),
    (
        "v1",
        "ServiceAccount",
        "serviceaccounts",
        true,
        &["automountServiceAccountToken", "secrets", "imagePullSecrets"],
    ),
    ("v1", "ConfigMap", "configmaps", true, &["data", "binaryData", "immutable"]),
    ("v1", "Service", "services", true, &["spec"]),
    ("v1", "PersistentVolumeClaim", "persistentvolumeclaims", true, &["spec"]),
    ("apps/v1", "Deployment", "deployments", true, &["spec"]),
    ("apps/v1", "DaemonSet", "daemonsets", true, &["spec"]),
];

/// Between two things that the cluster does by itself.
const STEP: Duration = Duration::from_millis(4);

pub(super) type Queries = BTreeMap<String, String>;

pub(super) fn router(cluster: Cluster) -> Router {
    Router::new()
        .route("/version", any(serve))
        .route("/api/{*rest}", any(serve))
        .route("/apis/{*rest}", any(serve))
        .with_state(cluster)
}

/// What a path names.
pub(super) struct Asked {
    pub(super) kind: Kind,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    /// What follows the name: `proxy/…`.
    pub(super) rest: Vec<String>,
}

impl Asked {
    fn parse(path: &str) -> Option<Self> {
        let mut segments = path
            .trim_matches('/')
            .split('/')
            .map(|segment| percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned());
        let api = match segments.next()?.as_str() {
            "api" => segments.next()?,
            "apis" => format!("{}/{}", segments.next()?, segments.next()?),
            _ => return None,
        };
        let mut rest: Vec<String> = segments.collect();
        let mut namespace = None;
        if rest.first().is_some_and(|first| first == "namespaces") && rest.len() > 2 {
            namespace = Some(rest.remove(1));
            rest.remove(0);
        }
        let mut rest = rest.into_iter();
        let plural = rest.next()?;
        Some(Self { kind: Kind::of(&api, &plural), namespace, name: rest.next(), rest: rest.collect() })
    }

    fn place(&self, name: &str) -> Place {
        (self.kind.clone(), self.namespace.clone().unwrap_or_default(), name.to_owned())
    }
}

/// A refusal in the form of the API.
fn status(code: u16, reason: &str, message: &str, details: &Value) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": details, "code": code,
    });
    (StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), axum::Json(body))
        .into_response()
}

fn not_found(what: &str, name: &str) -> Response {
    status(404, "NotFound", &format!("{what} \"{name}\" not found"), &json!({"name": name, "kind": what}))
}

fn ok(value: Value) -> Response {
    axum::Json(value).into_response()
}

async fn serve(
    Extracted(cluster): Extracted<Cluster>,
    method: Method,
    uri: Uri,
    Query(queries): Query<Queries>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = answer(&cluster, &method, uri.path(), &queries, &headers, &body);
    let answer = answer.unwrap_or_else(|refusal| refusal);
    if !matches!(method, Method::GET) {
        // What the cluster makes of it takes its time.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(STEP).await;
                let mut state = cluster.lock();
                let State { store, world, .. } = &mut *state;
                let again = controllers::step(store, world);
                drop(state);
                cluster.shared.changed.notify_waiters();
                if !again {
                    break;
                }
            }
        });
    }
    answer
}

fn answer(
    cluster: &Cluster,
    method: &Method,
    path: &str,
    queries: &Queries,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, Response> {
    let mut state = cluster.lock();
    let presented =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if presented != format!("Bearer {}", state.token) {
        return Err(status(401, "Unauthorized", "Unauthorized", &json!({})));
    }
    if path == "/version" {
        return Ok(ok(
            json!({"major": "1", "minor": "35", "gitVersion": "v1.35.2+k3s1", "platform": "linux/arm64"}),
        ));
    }
    if let Some(list) = discovery(&state, path) {
        return list;
    }
    let unknown = || status(404, "NotFound", "the server could not find the requested resource", &json!({}));
    let asked = Asked::parse(path).ok_or_else(unknown)?;
    if asked.kind.plural == "selfsubjectaccessreviews" && *method == Method::POST {
        return review(&state, body);
    }
    let known = KINDS.iter().find(|known| Kind::of(known.0, known.2) == asked.kind);
    if known.is_none() && !state.custom.iter().any(|custom| custom.0 == asked.kind) {
        return Err(unknown());
    }
    if known.is_some_and(|known| known.3) && asked.namespace.is_none() {
        cluster.wire.violation(format!("{method} {path} names no namespace"));
    }
    allow(&state, method, &asked, queries)?;
    match (method.as_str(), asked.name.as_deref()) {
        ("GET", Some(name)) if asked.rest.first().is_some_and(|first| first == "proxy") => {
            Ok(proxy(&state, &asked, name))
        }
        ("GET", Some(name)) => match state.store.objects.get(&asked.place(name)) {
            Some(stored) => Ok(ok(stored.shown())),
            None => Err(not_found(&asked.kind.plural, name)),
        },
        ("GET", None) if queries.get("watch").is_some_and(|watch| watch == "true") => {
            drop(state);
            Ok(watch(cluster, &asked, queries))
        }
        ("GET", None) => Ok(ok(list(&state, &asked, queries))),
        ("PATCH", Some(name)) => patch(cluster, &mut state, &asked, name, queries, headers, body),
        ("POST", None) => {
            let object = parse(body)?;
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            check(&state, &asked, &name, &object)?;
            if state.store.get(&asked.place(&name)).is_some() {
                let message = format!("{} \"{name}\" already exists", asked.kind.plural);
                return Err(status(409, "AlreadyExists", &message, &json!({})));
            }
            let made = state.store.replace(&asked.place(&name), manager(queries), object);
            Ok((StatusCode::CREATED, axum::Json(made)).into_response())
        }
        ("PUT", Some(name)) => {
            let object = parse(body)?;
            check(&state, &asked, name, &object)?;
            let Some(live) = state.store.get(&asked.place(name)) else {
                return Err(not_found(&asked.kind.plural, name));
            };
            if live["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
                return Err(modified(&asked, name));
            }
            Ok(ok(state.store.replace(&asked.place(name), manager(queries), object)))
        }
        ("DELETE", Some(name)) => {
            let options: Value = serde_json::from_slice(body).unwrap_or_default();
            let Some(live) = state.store.get(&asked.place(name)) else {
                return Err(not_found(&asked.kind.plural, name));
            };
            let uid = &options["preconditions"]["uid"];
            if !uid.is_null() && *uid != live["metadata"]["uid"] {
                let message = format!("Precondition failed: UID in precondition: {uid}");
                return Err(status(409, "Conflict", &message, &json!({})));
            }
            state.store.remove(&asked.place(name));
            Ok(ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})))
        }
        _ => {
            cluster.wire.violation(format!("unknown route {method} {path}"));
            Err(status(501, "MethodNotAllowed", "the double knows no such route", &json!({})))
        }
    }
}

fn manager(queries: &Queries) -> &str {
    queries.get("fieldManager").map_or("unknown", String::as_str)
}

fn modified(asked: &Asked, name: &str) -> Response {
    let message = format!(
        "Operation cannot be fulfilled on {} \"{name}\": the object has been modified; please apply your changes to \
         the latest version and try again",
        asked.kind.plural
    );
    status(409, "Conflict", &message, &json!({"name": name, "kind": asked.kind.plural}))
}

fn parse(body: &Bytes) -> Result<Value, Response> {
    serde_json::from_slice(body).map_err(|error| {
        status(
            400,
            "BadRequest",
            &format!("the body of the request was in an unknown format: {error}"),
            &json!({}),
        )
    })
}

/// What kinds a group has; nothing where the path asks for something else.
fn discovery(state: &State, path: &str) -> Option<Result<Response, Response>> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let api = match segments.as_slice() {
        ["api", version] => (*version).to_owned(),
        ["apis", group, version] => format!("{group}/{version}"),
        _ => return None,
    };
    let known = KINDS.iter().filter(|known| known.0 == api).map(|known| (known.1, known.2, known.3));
    let custom = state.custom.iter().filter(|custom| custom.0.api == api);
    let custom = custom.map(|(kind, name)| (name.as_str(), kind.plural.as_str(), true));
    let resources: Vec<Value> = known
        .chain(custom)
        .map(|(kind, plural, namespaced)| {
            json!({"name": plural, "kind": kind, "namespaced": namespaced, "singularName": "", "verbs": ["get", "patch"]})
        })
        .collect();
    Some(if resources.is_empty() {
        Err(status(404, "NotFound", "the server could not find the requested resource", &json!({})))
    } else {
        Ok(ok(json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api, "resources": resources,
        })))
    })
}

fn review(state: &State, body: &Bytes) -> Result<Response, Response> {
    let mut review = parse(body)?;
    let wanted = &review["spec"]["resourceAttributes"];
    let text = |key: &str| wanted[key].as_str().unwrap_or_default();
    let resource = match text("subresource") {
        "" => text("resource").to_owned(),
        subresource => format!("{}/{subresource}", text("resource")),
    };
    let allowed = !state.denied.contains(&(text("verb").to_owned(), resource));
    review["status"] = json!({ "allowed": allowed });
    Ok((StatusCode::CREATED, axum::Json(review)).into_response())
}

fn allow(state: &State, method: &Method, asked: &Asked, queries: &Queries) -> Result<(), Response> {
    let verb = match (method.as_str(), &asked.name) {
        ("GET", None) if queries.contains_key("watch") => "watch",
        ("GET", None) => "list",
        ("GET", Some(_)) => "get",
        ("PATCH", _) => "patch",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("DELETE", _) => "delete",
        _ => "other",
    };
    let resource = match asked.rest.first() {
        Some(subresource) => format!("{}/{subresource}", asked.kind.plural),
        None => asked.kind.plural.clone(),
    };
    if !state.denied.contains(&(verb.to_owned(), resource.clone())) {
        return Ok(());
    }
    let (group, _) = asked.kind.api.split_once('/').unwrap_or(("", ""));
    let place = match &asked.namespace {
        Some(namespace) => format!("in the namespace \"{namespace}\""),
        None => "at the cluster scope".into(),
    };
    let message = format!(
        "{resource} is forbidden: User \"system:serviceaccount:ci:deployer\" cannot {verb} resource \"{resource}\" in \
         API group \"{group}\" {place}"
    );
    Err(status(403, "Forbidden", &message, &json!({"kind": resource})))
}

/// Whether an object can be at a place: its namespace is there, it says the same as the path, its fields are known.
fn check(state: &State, asked: &Asked, name: &str, object: &Value) -> Result<(), Response> {
    let bad = |message: String| status(400, "BadRequest", &message, &json!({}));
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let namespace = asked.namespace.as_deref().unwrap_or_default();
    if text("/apiVersion") != asked.kind.api || text("/metadata/name") != name || name.is_empty() {
        return Err(bad("the object does not match what the URL names".into()));
    }
    if text("/metadata/namespace") != namespace {
        return Err(bad("the namespace of the object does not match the namespace on the request".into()));
    }
    let home = (Kind::of("v1", "namespaces"), String::new(), namespace.to_owned());
    if !namespace.is_empty() && state.store.get(&home).is_none() {
        return Err(not_found("namespaces", namespace));
    }
    if let Some(known) = KINDS.iter().find(|known| Kind::of(known.0, known.2) == asked.kind) {
        let fields = object.as_object().into_iter().flatten().map(|(field, _)| field.as_str());
        let common = ["apiVersion", "kind", "metadata", "status"];
        let unknown: Vec<&str> =
            fields.filter(|field| !common.contains(field) && !known.4.contains(field)).collect();
        if !unknown.is_empty() || text("/kind") != known.1 {
            let message = format!(
                "failed to create typed patch object: .{}: field not declared in schema",
                unknown.join(", .")
            );
            return Err(status(500, "", &message, &json!({})));
        }
    }
    Ok(())
}

fn patch(
    cluster: &Cluster,
    state: &mut State,
    asked: &Asked,
    name: &str,
    queries: &Queries,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, Response> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if kind != Some("application/apply-patch+yaml") || !queries.contains_key("fieldManager") {
        cluster.wire.violation(format!("a PATCH of {name} is no server-side apply with a manager"));
        return Err(status(415, "UnsupportedMediaType", "only server-side apply is known here", &json!({})));
    }
    let object = parse(body)?;
    if !object["metadata"]["managedFields"].is_null() {
        return Err(status(400, "BadRequest", "metadata.managedFields must be nil", &json!({})));
    }
    check(state, asked, name, &object)?;
    let flag = |key: &str, value: &str| queries.get(key).is_some_and(|given| given == value);
    let place = asked.place(name);
    let dry = flag("dryRun", "All");
    let selector = |object: &Value| object["spec"]["selector"].clone();
    let immutable = asked.kind.api == "apps/v1"
        && state.store.get(&place).is_some_and(|live| selector(live) != selector(&object));
    if immutable {
        let message = format!("{name} is invalid: spec.selector: Invalid value: field is immutable");
        let causes = json!([{"reason": "FieldValueInvalid", "message": "field is immutable", "field": "spec.selector"}]);
        return Err(status(422, "Invalid", &message, &json!({ "causes": causes })));
    }
    match state.store.apply(&place, manager(queries), &object, (flag("force", "true"), dry)) {
        Ok((object, true)) => Ok((StatusCode::CREATED, axum::Json(object)).into_response()),
        Ok((object, false)) => Ok(ok(object)),
        Err(Refusal::Malformed(why)) => {
            cluster.wire.violation(format!("{name} cannot be applied: {why}"));
            let message = format!("failed to create typed patch object ({name}): {why}");
            Err(status(500, "InternalError", &message, &json!({})))
        }
        Err(Refusal::Conflicts(conflicts)) => {
            let causes: Vec<Value> = conflicts
                .iter()
                .map(|conflict| {
                    json!({
                        "reason": "FieldManagerConflict",
                        "message": format!("conflict with \"{}\" using {}", conflict.owner, asked.kind.api),
                        "field": conflict.field,
                    })
                })
                .collect();
            let message = format!("Apply failed with {} conflicts", causes.len());
            Err(status(409, "Conflict", &message, &json!({ "causes": causes })))
        }
    }
}

/// Whether an object's labels fulfil a selector of `key=value` pairs.
pub(super) fn selected(object: &Value, selector: Option<&String>) -> bool {
    let pairs = selector.into_iter().flat_map(|text| text.split(',')).filter(|pair| !pair.is_empty());
    pairs
        .filter_map(|pair| pair.split_once('='))
        .all(|(key, value)| object["metadata"]["labels"][key] == value)
}

pub(super) fn matches(asked: &Asked, place: &Place) -> bool {
    place.0 == asked.kind && asked.namespace.as_ref().is_none_or(|namespace| *namespace == place.1)
}

fn list(state: &State, asked: &Asked, queries: &Queries) -> Value {
    let items: Vec<Value> = state
        .store
        .of_kind(&asked.kind)
        .filter(|(place, stored)| {
            matches(asked, place) && selected(&stored.object, queries.get("labelSelector"))
        })
        .map(|(_, stored)| {
            let mut item = stored.shown();
            // Items of a list carry neither.
            if let Some(item) = item.as_object_mut() {
                item.remove("kind");
                item.remove("apiVersion");
            }
            item
        })
        .collect();
    json!({
        "kind": "List", "apiVersion": asked.kind.api,
        "metadata": {"resourceVersion": state.store.version.to_string()}, "items": items,
    })
}

/// The device's runtime in a pod.
fn proxy(state: &State, asked: &Asked, name: &str) -> Response {
    let (name, _) = name.split_once(':').unwrap_or((name, ""));
    let Some(pod) = state.store.get(&asked.place(name)) else { return not_found("pods", name) };
    let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
    let ready = pod["status"]["containerStatuses"][0]["ready"] == true;
    let model = if let Behaviour::OtherModel(hex) = state.world.behaviour(image) {
        hex
    } else {
        let told = pod["metadata"]["annotations"]["mynah/model-digest"].as_str().unwrap_or_default();
        told.trim_start_matches("sha256:").to_owned()
    };
    match asked.rest.get(1).map(String::as_str) {
        _ if !ready => status(503, "ServiceUnavailable", "no endpoints available", &json!({})),
        Some("readyz") => "ok\n".into_response(),
        Some("metrics") => format!(
            "# TYPE mynah_model_info gauge\nmynah_model_info{{sha256=\"{model}\",version=\"0.1.0\"}} 1\n"
        )
        .into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
