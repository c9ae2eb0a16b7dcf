//! The calls to the API of Kubernetes that a deployment needs, and what refusals mean.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::access::{Access, Credential};
use super::exec::Granted;
use super::object::{Key, Resource};
use super::{ClusterError, MANAGER};
use crate::http::{Body, Client, Incoming, Method, Policy, Repeat, Request, Response, clean};
use crate::secret::Secret;

/// Statuses whose words are read here.
const TOLD: [u16; 8] = [400, 401, 403, 404, 409, 410, 415, 422];

/// How long a watch is to last, in seconds: less than a silent connection is borne.
const WATCH_SECONDS: &str = "50";

/// How much of a pod's answer is used, in bytes.
const ANSWER: usize = 1 << 20;

/// A cluster to be spoken to. Clones share connections and sign-in.
#[derive(Clone)]
pub struct Api {
    client: Client,
    access: Arc<Access>,
    granted: Arc<Mutex<Option<Granted>>>,
    kinds: Arc<Mutex<BTreeMap<(String, String), Resource>>>,
}

/// A `Status` of the API.
#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
struct Details {
    #[serde(default)]
    causes: Vec<Cause>,
}

#[derive(Debug, Default, Deserialize)]
struct Cause {
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    field: Option<String>,
}

/// A page of objects.
#[derive(Debug)]
pub(super) struct List {
    pub(super) items: Vec<Value>,
    pub(super) version: String,
}

/// How an object is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Way {
    /// Whether fields of others are taken over.
    pub(super) force: bool,
    /// Whether it is only tried.
    pub(super) dry: bool,
}

impl Api {
    /// Signs in, as far as that can be done before the first call.
    ///
    /// # Errors
    /// When a program that signs in fails, or a certificate cannot be used.
    pub async fn connect(access: Access) -> Result<Self, ClusterError> {
        let mut granted = None;
        let mut tls = access.tls.clone();
        if let Credential::Exec(exec) = &access.credential {
            let first = exec.run().await?;
            tls = first.apply(&tls);
            granted = Some(first);
        }
        let client = Client::with_tls(Policy::default(), &tls)?;
        Ok(Self {
            client,
            access: Arc::new(access),
            granted: Arc::new(Mutex::new(granted)),
            kinds: Arc::default(),
        })
    }

    /// The server: scheme, host and port.
    pub fn server(&self) -> String {
        self.access.server()
    }

    fn request<S: AsRef<str>>(&self, method: Method, path: &[S]) -> Request {
        let mut url = self.access.server.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.iter().map(AsRef::as_ref));
        }
        Request::new(method, url).also(&TOLD)
    }

    async fn token(&self, anew: bool) -> Result<Option<Secret>, ClusterError> {
        match &self.access.credential {
            Credential::Nobody => Ok(None),
            Credential::Bearer(token) => Ok(Some(token.clone())),
            Credential::TokenFile(path) => {
                let io = |source| ClusterError::Io { path: path.clone(), source };
                let text = fs::read_to_string(path).map_err(io)?;
                Ok(Some(Secret::new(text.trim())))
            }
            Credential::Exec(exec) => {
                let mut granted = self.granted.lock().await;
                let held = granted.as_ref().filter(|held| !anew && held.holds(Timestamp::now()));
                if let Some(held) = held {
                    return Ok(held.token.clone());
                }
                let fresh = exec.run().await?;
                let token = fresh.token.clone();
                *granted = Some(fresh);
                Ok(token)
            }
        }
    }

    /// Sends a request; one that was refused for its token is sent again with a new one, where there is such.
    async fn send(&self, request: Request) -> Result<Response, ClusterError> {
        let mut anew = false;
        loop {
            let signed = match self.token(anew).await? {
                Some(token) => request.clone().bearer(&token),
                None => request.clone(),
            };
            let answer = self.client.send(&signed).await?;
            if answer.status() != 401 {
                return Ok(answer);
            }
            if anew || !matches!(self.access.credential, Credential::Exec(_)) {
                return Err(self.not_accepted());
            }
            anew = true;
        }
    }

    fn not_accepted(&self) -> ClusterError {
        let who = match &self.access.credential {
            Credential::Nobody => "the client certificate".to_owned(),
            Credential::Bearer(_) => "the token".to_owned(),
            Credential::TokenFile(path) => format!("the token in `{}`", path.display()),
            Credential::Exec(exec) => format!("what {exec:?} gives"),
        };
        ClusterError::NotAccepted { server: self.server(), who }
    }

    /// What a refusal means for `object`.
    fn refusal(&self, answer: &Response, object: &str) -> ClusterError {
        let status: Status = serde_json::from_slice(answer.bytes()).unwrap_or_default();
        let message = status.message.unwrap_or_else(|| format!("status {}", answer.status()));
        let message = clean(&message);
        let causes = status.details.map(|details| details.causes).unwrap_or_default();
        let conflicts: Vec<String> = causes
            .iter()
            .filter(|cause| cause.reason.as_deref() == Some("FieldManagerConflict"))
            .map(|cause| {
                let owner = cause.message.as_deref().unwrap_or("conflict with an unknown manager");
                let owner = owner.strip_prefix("conflict with ").unwrap_or(owner).replace('"', "`");
                format!("{} by {owner}", cause.field.as_deref().unwrap_or("a field"))
            })
            .collect();
        match answer.status() {
            403 => ClusterError::Denied { server: self.server(), what: message },
            409 if !conflicts.is_empty() => {
                ClusterError::Conflict { object: object.to_owned(), fields: conflicts }
            }
            409 if status.reason.as_deref() != Some("Invalid") => ClusterError::Taken(object.to_owned()),
            _ => ClusterError::Refused { object: object.to_owned(), why: message },
        }
    }

    fn good(&self, answer: Response, object: &str) -> Result<Response, ClusterError> {
        if (200..300).contains(&answer.status()) { Ok(answer) } else { Err(self.refusal(&answer, object)) }
    }

    /// Where the API has a kind.
    pub(super) async fn resource(&self, key: &Key) -> Result<Resource, ClusterError> {
        if let Some(known) = Resource::known(&key.api, &key.kind) {
            return Ok(known);
        }
        let mut kinds = self.kinds.lock().await;
        if let Some(known) = kinds.get(&(key.api.clone(), key.kind.clone())) {
            return Ok(known.clone());
        }
        let root = if key.api.contains('/') { "apis" } else { "api" };
        let path: Vec<&str> = std::iter::once(root).chain(key.api.split('/')).collect();
        let answer = self.send(self.request(Method::GET, &path)).await?;
        let unknown = || ClusterError::UnknownKind {
            server: self.server(),
            kind: key.kind.clone(),
            api: key.api.clone(),
        };
        if answer.status() == 404 {
            return Err(unknown());
        }
        let list: Value = self.good(answer, &format!("the group `{}`", key.api))?.json()?;
        let found = list["resources"].as_array().into_iter().flatten().find(|resource| {
            resource["kind"] == key.kind.as_str()
                && resource["name"].as_str().is_some_and(|n| !n.contains('/'))
        });
        let found = found.ok_or_else(unknown)?;
        let resource = Resource {
            api: key.api.clone(),
            plural: found["name"].as_str().unwrap_or_default().to_owned(),
            namespaced: found["namespaced"].as_bool().unwrap_or(true),
        };
        kinds.insert((key.api.clone(), key.kind.clone()), resource.clone());
        Ok(resource)
    }

    async fn path(&self, key: &Key) -> Result<Vec<String>, ClusterError> {
        let resource = self.resource(key).await?;
        if resource.namespaced && key.namespace.is_none() {
            return Err(ClusterError::Refused { object: key.to_string(), why: "it has no namespace".into() });
        }
        let mut path = resource.path(key.namespace.as_deref());
        path.push(key.name.clone());
        Ok(path)
    }

    /// An object, nothing where there is none.
    pub(super) async fn get(&self, key: &Key) -> Result<Option<Value>, ClusterError> {
        let answer = self.send(self.request(Method::GET, &self.path(key).await?)).await?;
        if answer.status() == 404 {
            return Ok(None);
        }
        Ok(Some(self.good(answer, &key.to_string())?.json()?))
    }

    /// Applies an object (server-side apply) and gives what it then is.
    pub(super) async fn apply(&self, key: &Key, object: &Value, way: Way) -> Result<Value, ClusterError> {
        let mut request = self
            .request(Method::PATCH, &self.path(key).await?)
            .query("fieldManager", MANAGER)
            .query("fieldValidation", "Strict");
        if way.force {
            request = request.query("force", "true");
        }
        if way.dry {
            request = request.query("dryRun", "All");
        }
        // JSON is YAML; applied twice it is as applied once.
        let body = Body::Bytes(object.to_string().into_bytes());
        let request = request.body("application/apply-patch+yaml", body).repeat(Repeat::Always);
        Ok(self.good(self.send(request).await?, &key.to_string())?.json()?)
    }

    /// Makes an object that must not be there, or replaces the very version that was read.
    pub(super) async fn write(&self, key: &Key, object: &Value) -> Result<Value, ClusterError> {
        let request = if object.pointer("/metadata/resourceVersion").is_some() {
            self.request(Method::PUT, &self.path(key).await?)
        } else {
            let resource = self.resource(key).await?;
            self.request(Method::POST, &resource.path(key.namespace.as_deref()))
        };
        let request = request.query("fieldManager", MANAGER).json(object).repeat(Repeat::Never);
        Ok(self.good(self.send(request).await?, &key.to_string())?.json()?)
    }

    /// Deletes the very object that was seen; what is gone already is as good.
    pub(super) async fn delete(&self, key: &Key, uid: Option<&str>) -> Result<(), ClusterError> {
        let mut options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
        });
        if let Some(uid) = uid {
            options["preconditions"] = json!({ "uid": uid });
        }
        let request = self.request(Method::DELETE, &self.path(key).await?).json(&options);
        let answer = self.send(request).await?;
        if answer.status() == 404 {
            return Ok(());
        }
        self.good(answer, &key.to_string()).map(drop)
    }

    /// All objects of a kind, or those a selector of labels picks.
    pub(super) async fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        selector: &str,
    ) -> Result<List, ClusterError> {
        let request = self.request(Method::GET, &resource.path(namespace)).query("labelSelector", selector);
        let answer = self.good(self.send(request).await?, &format!("the list of {}", resource.plural))?;
        let mut list: Value = answer.json()?;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let items = match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        Ok(List { items, version })
    }

    /// Opens a watch from a version on; nothing where the cluster no longer knows that version.
    pub(super) async fn watch(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        selector: &str,
        version: &str,
    ) -> Result<Option<Incoming>, ClusterError> {
        let mut request = self
            .request(Method::GET, &resource.path(namespace))
            .query("labelSelector", selector)
            .query("watch", "true")
            .query("allowWatchBookmarks", "true")
            .query("resourceVersion", version)
            .query("timeoutSeconds", WATCH_SECONDS)
            // Whoever watches goes on by itself.
            .tries(1);
        if let Some(token) = self.token(false).await? {
            request = request.bearer(&token);
        }
        let incoming = self.client.open(&request).await?;
        match incoming.status() {
            200..300 => Ok(Some(incoming)),
            410 => Ok(None),
            401 if matches!(self.access.credential, Credential::Exec(_)) => {
                self.token(true).await?;
                Ok(None)
            }
            401 => Err(self.not_accepted()),
            403 => Err(ClusterError::Denied {
                server: self.server(),
                what: format!("watching {}", resource.plural),
            }),
            status => Err(ClusterError::Refused {
                object: format!("the watch of {}", resource.plural),
                why: format!("status {status}"),
            }),
        }
    }

    /// Whether whoever signs in may do this; `resource` may be followed by `/<subresource>`.
    pub(super) async fn may(
        &self,
        verb: &str,
        group: &str,
        resource: &str,
        namespace: Option<&str>,
    ) -> Result<bool, ClusterError> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "verb": verb, "group": group, "resource": resource, "subresource": subresource,
                "namespace": namespace.unwrap_or_default(),
            }},
        });
        let path = ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"];
        let request = self.request(Method::POST, &path).json(&review).repeat(Repeat::Always);
        let answer: Value = self.good(self.send(request).await?, "the question for rights")?.json()?;
        Ok(answer["status"]["allowed"].as_bool().unwrap_or(false))
    }

    /// Asks a pod over HTTP, through the API server: the status and the text it answers with.
    pub(super) async fn ask(
        &self,
        namespace: &str,
        pod: &str,
        port: u64,
        path: &str,
    ) -> Result<(u16, String), ClusterError> {
        let pod = format!("{pod}:{port}");
        let path = ["api", "v1", "namespaces", namespace, "pods", &pod, "proxy", path];
        let request = self.request(Method::GET, &path).also(&[500, 502, 503, 504]);
        let answer = self.send(request.within(Duration::from_secs(20)).tries(1)).await?;
        let bytes = answer.bytes();
        let text = String::from_utf8_lossy(bytes.get(..ANSWER.min(bytes.len())).unwrap_or_default());
        Ok((answer.status(), text.into_owned()))
    }

    /// The version of the cluster, such as `v1.35.2+k3s1`.
    ///
    /// # Errors
    /// When the cluster cannot be reached or does not accept who signs in.
    pub async fn version(&self) -> Result<String, ClusterError> {
        let answer = self.send(self.request(Method::GET, &["version"])).await?;
        let version: Value = self.good(answer, "the question for its version")?.json()?;
        Ok(version["gitVersion"].as_str().unwrap_or("an unknown version").to_owned())
    }
}
