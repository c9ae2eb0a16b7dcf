//! The calls to IoT Hub's service API that a deployment needs, version 2021-04-12.

use serde::de::DeserializeOwned;
use serde_json::json;

use super::HubError;
use super::connection::{HubAddress, SharedKey};
use super::content::{Content, EDGE_AGENT};
use super::wire::{Configuration, Device, DeviceRow, ModuleTwin, Tested};
use crate::azure::auth::{TokenSource, scope};
use crate::http::{Client, HttpError, Method, Repeat, Request, Response};

/// The version of the interface.
const VERSION: &str = "2021-04-12";

/// How many rows a page of a query is to have; the service gives no more than this.
const PAGE: &str = "100";

/// How often a configuration is read again because someone else changed it meanwhile.
const READINGS: usize = 5;

/// Who signs in.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A shared access policy.
    SharedKey(SharedKey),
    /// An identity of Microsoft Entra ID.
    Identity(TokenSource),
}

/// A hub.
pub struct Hub {
    client: Client,
    address: HubAddress,
    credential: Credential,
}

impl Hub {
    /// A hub to be spoken to through `client`.
    pub fn new(client: Client, address: HubAddress, credential: Credential) -> Self {
        Self { client, address, credential }
    }

    /// Its host.
    pub fn host(&self) -> &str {
        self.address.host()
    }

    fn request(&self, method: Method, path: &[&str]) -> Request {
        let mut url = self.address.url().clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        // What is set twice is the same as once, in each of the calls below.
        Request::new(method, url).query("api-version", VERSION).repeat(Repeat::Always)
    }

    async fn send(&self, request: Request) -> Result<Response, HubError> {
        let request = match &self.credential {
            Credential::SharedKey(key) => {
                let signature = key.signature(self.host(), jiff::Timestamp::now());
                request.authorization("SharedAccessSignature", &signature)
            }
            Credential::Identity(source) => request.bearer(&source.token(scope::IOT_HUB).await?),
        };
        self.client.send(&request).await.map_err(|error| self.explain(error))
    }

    fn explain(&self, error: HttpError) -> HubError {
        let hub = self.host().to_owned();
        let says = |words: &str| {
            error.refusal().is_some_and(|refusal| {
                [&refusal.message, &refusal.code, &refusal.request_id]
                    .into_iter()
                    .flatten()
                    .any(|text| text.contains(words))
            })
        };
        if says("NotAvailableInCurrentTier") || says("NotSupportedInCurrentTier") {
            return HubError::BasicTier(hub);
        }
        match error.status() {
            Some(401 | 403) if !says("LimitExceeded") && !says("QuotaExceeded") => {
                let who = match &self.credential {
                    Credential::SharedKey(key) => format!("the policy `{}`", key.policy().escape_debug()),
                    Credential::Identity(_) => "the identity that signs in".to_owned(),
                };
                HubError::NotAccepted { hub, who, source: error }
            }
            _ => HubError::Http(error),
        }
    }

    async fn json<T: DeserializeOwned>(&self, request: Request) -> Result<T, HubError> {
        Ok(self.send(request).await?.json()?)
    }

    /// As [`Self::json`], nothing where there is no such thing.
    async fn found<T: DeserializeOwned>(&self, request: Request) -> Result<Option<T>, HubError> {
        let answer = self.send(request.also(&[404])).await?;
        if answer.status() == 404 { Ok(None) } else { Ok(Some(answer.json()?)) }
    }

    /// A device of the registry.
    pub(super) async fn device(&self, id: &str) -> Result<Option<Device>, HubError> {
        self.found(self.request(Method::GET, &["devices", id])).await
    }

    /// A module's twin.
    pub(super) async fn module_twin(
        &self,
        device: &str,
        module: &str,
    ) -> Result<Option<ModuleTwin>, HubError> {
        self.found(self.request(Method::GET, &["twins", device, "modules", module])).await
    }

    /// Gives one device its content.
    pub(super) async fn apply(&self, device: &str, content: &Content) -> Result<(), HubError> {
        let request = self.request(Method::POST, &["devices", device, "applyConfigurationContent"]);
        self.send(request.json(&content.body())).await.map(drop)
    }

    /// All configurations. A hub has at most 100, which come in one answer.
    pub(super) async fn configurations(&self) -> Result<Vec<Configuration>, HubError> {
        self.json(self.request(Method::GET, &["configurations"]).query("top", "100")).await
    }

    /// A configuration.
    pub(super) async fn configuration(&self, id: &str) -> Result<Option<Configuration>, HubError> {
        self.found(self.request(Method::GET, &["configurations", id])).await
    }

    /// Creates a configuration; one that is there already is left alone and given.
    pub(super) async fn create(
        &self,
        configuration: &Configuration,
    ) -> Result<Option<Configuration>, HubError> {
        let request = self.request(Method::PUT, &["configurations", &configuration.id]);
        let answer = self.send(request.json(configuration).also(&[409])).await?;
        if answer.status() != 409 {
            return Ok(None);
        }
        // A first try whose answer was lost, or someone else's.
        self.configuration(&configuration.id).await
    }

    /// Changes a configuration's priority.
    pub(super) async fn set_priority(&self, id: &str, priority: i64) -> Result<(), HubError> {
        // Another may change it between reading and writing; the etag tells, and it is read again.
        for _ in 0..READINGS {
            let Some(mut there) = self.configuration(id).await? else { break };
            if there.priority == priority {
                return Ok(());
            }
            there.priority = priority;
            let etag =
                there.etag.as_deref().map_or("*".into(), |etag| format!("\"{}\"", etag.trim_matches('"')));
            let request = self.request(Method::PUT, &["configurations", id]).header("if-match", &etag);
            if self.send(request.json(&there).also(&[412])).await?.status() != 412 {
                return Ok(());
            }
        }
        Err(HubError::Taken(id.to_owned()))
    }

    /// Deletes a configuration; one that is gone already is no error.
    pub(super) async fn delete(&self, id: &str) -> Result<(), HubError> {
        let request = self.request(Method::DELETE, &["configurations", id]).header("if-match", "*");
        self.send(request.also(&[404])).await.map(drop)
    }

    /// Has the hub check a target condition.
    pub(super) async fn test_condition(&self, condition: &str) -> Result<(), HubError> {
        let request = self.request(Method::POST, &["configurations", "testQueries"]);
        let body = json!({"targetCondition": condition, "customMetricQueries": {}});
        let tested: Tested = self.json(request.json(&body)).await?;
        match tested.target_condition_error.filter(|why| !why.trim().is_empty()) {
            None => Ok(()),
            Some(why) => Err(HubError::Condition {
                condition: condition.to_owned(),
                why: why.escape_debug().to_string(),
            }),
        }
    }

    /// The devices that fulfil a target condition.
    pub(super) async fn devices(&self, condition: &str) -> Result<Vec<DeviceRow>, HubError> {
        let query = match condition.trim() {
            "*" => "SELECT * FROM devices".to_owned(),
            condition => format!("SELECT * FROM devices WHERE {condition}"),
        };
        let mut devices = Vec::new();
        self.query(&query, |page: Vec<DeviceRow>| devices.extend(page)).await?;
        devices.sort_by(|a, b| a.device_id.cmp(&b.device_id));
        Ok(devices)
    }

    /// Looks at the agents of all devices on which a configuration is in force. Gives how many pages there were.
    pub(super) async fn agents(
        &self,
        configuration: &str,
        mut each: impl FnMut(ModuleTwin),
    ) -> Result<u32, HubError> {
        let query = format!(
            "SELECT * FROM devices.modules WHERE moduleId = '{EDGE_AGENT}' AND configurations.[[{configuration}]].status = 'Applied'"
        );
        self.query(&query, |page: Vec<ModuleTwin>| page.into_iter().for_each(&mut each)).await
    }

    /// Reads a query page by page, so that the hub's size decides nothing here.
    async fn query<T: DeserializeOwned>(
        &self,
        query: &str,
        mut each: impl FnMut(Vec<T>),
    ) -> Result<u32, HubError> {
        let mut continuation: Option<String> = None;
        let mut pages = 0;
        loop {
            let mut request =
                self.request(Method::POST, &["devices", "query"]).header("x-ms-max-item-count", PAGE);
            if let Some(token) = &continuation {
                request = request.header("x-ms-continuation", token);
            }
            let answer = self.send(request.json(&json!({"query": query}))).await?;
            each(answer.json()?);
            pages += 1;
            continuation =
                answer.header("x-ms-continuation").filter(|token| !token.is_empty()).map(str::to_owned);
            if continuation.is_none() {
                return Ok(pages);
            }
        }
    }

    /// The body of a new configuration.
    pub(super) fn new_configuration(
        id: String,
        label: (&str, &str),
        condition: &str,
        priority: i64,
        content: &Content,
    ) -> Configuration {
        Configuration {
            id,
            schema_version: Some("1.0".into()),
            labels: Some([(label.0.to_owned(), label.1.to_owned())].into()),
            content: content.body(),
            target_condition: Some(condition.to_owned()),
            priority,
            etag: None,
        }
    }
}
