//! A double of IoT Hub's service API, version 2021-04-12: devices, modules, twins, configurations, queries.
//!
//! It has a state: configurations reach the devices they target by priority, and devices report through
//! `$edgeAgent` as edgeAgent 1.6 does, when their twins are looked at. It is strict: a body with a field the
//! service does not know, a wrong signature or a missing `api-version` is refused.

mod configurations;
mod devices;
mod query;
mod routes;
mod sign_in;
mod state;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use serde_json::{Value, json};

pub use sign_in::{KEY, POLICY};
pub use state::{Behaviour, Tier};

use crate::wire::{Served, Wire};
use state::{Device, EDGE_AGENT, Module, State};

/// A hub; its clones are the same hub.
#[derive(Clone)]
pub struct IotHub {
    /// The record of what was asked, and what is to go wrong.
    pub wire: Arc<Wire>,
    state: Arc<Mutex<State>>,
}

impl Default for IotHub {
    fn default() -> Self {
        Self::new(Tier::Standard)
    }
}

impl IotHub {
    /// An empty hub.
    pub fn new(tier: Tier) -> Self {
        let state = State {
            tier,
            devices: BTreeMap::new(),
            configurations: BTreeMap::new(),
            clock: 0,
            ahead: 0,
            rate: 20,
            calls: VecDeque::new(),
            bearers: BTreeSet::new(),
            gaps: Vec::new(),
            page: 100,
            max_configurations: 100,
        };
        Self { wire: Arc::new(Wire::default()), state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves it on `port` (0: any free one).
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(&self, port: u16) -> Result<Served> {
        Served::start(routes::routes(self.clone()), Arc::clone(&self.wire), port)
    }

    /// A connection string for the hub at `host`, with the key that the double knows.
    pub fn connection_string(host: &str) -> String {
        format!("HostName={host};SharedAccessKeyName={POLICY};SharedAccessKey={KEY}")
    }

    /// Adds a connected edge device with the tags `tags`.
    pub fn add_edge_device(&self, id: &str, tags: Value) {
        self.add(id, tags, true);
    }

    /// Adds a device that is no edge device.
    pub fn add_plain_device(&self, id: &str) {
        self.add(id, json!({}), false);
    }

    fn add(&self, id: &str, tags: Value, edge: bool) {
        let mut modules = BTreeMap::new();
        if edge {
            modules.insert(EDGE_AGENT.to_owned(), Module::new());
            modules.insert("$edgeHub".to_owned(), Module::new());
        }
        let device = Device {
            edge,
            connected: true,
            architecture: "aarch64".into(),
            tags,
            modules,
            behaviours: BTreeMap::new(),
            pending: None,
        };
        let mut state = self.lock();
        state.devices.insert(id.to_owned(), device);
        if !state.configurations.is_empty() {
            state.evaluate("a new device");
        }
    }

    /// Says what a device makes of deployments from now on whose text holds `image` (empty: of every one).
    pub fn behaves(&self, device: &str, image: &str, behaviour: Behaviour) {
        if let Some(device) = self.lock().devices.get_mut(device) {
            device.behaviours.insert(image.to_owned(), behaviour);
        }
    }

    /// Connects or disconnects a device; a disconnected one reports nothing.
    pub fn connect(&self, device: &str, connected: bool) {
        if let Some(device) = self.lock().devices.get_mut(device) {
            device.connected = connected;
        }
    }

    /// Gives a device this content at once, as someone else's hand would.
    pub fn apply(&self, device: &str, content: &Value) {
        let mut state = self.lock();
        if let Some(device) = state.devices.get_mut(device) {
            device.apply(content);
        }
        state.tick();
        state.tick();
    }

    /// Sets the desired properties of a module's twin, as an operator would.
    pub fn set_desired(&self, device: &str, module: &str, desired: Value) {
        if let Some(module) = self.lock().devices.get_mut(device).and_then(|d| d.modules.get_mut(module)) {
            module.desired = desired;
            module.desired_version += 1;
        }
    }

    /// Creates someone else's configuration.
    pub fn add_configuration(&self, id: &str, content: Value, target_condition: &str, priority: i64) {
        let mut state = self.lock();
        let created = state.now();
        let configuration = state::Configuration {
            labels: json!({}),
            content,
            target_condition: target_condition.into(),
            priority,
            metrics: json!({"queries": {}, "results": {}}),
            created,
            updated: created,
        };
        state.configurations.insert(id.into(), configuration);
        state.evaluate(id);
    }

    /// How many calls to configurations are allowed a minute; the service allows 20.
    pub fn allow_calls_a_minute(&self, calls: usize) {
        self.lock().rate = calls;
    }

    /// How many seconds the hub's clock is ahead of this machine's.
    pub fn set_clock_ahead(&self, seconds: u64) {
        self.lock().ahead = seconds;
    }

    /// How many rows a page of a query has at most; the service gives 100.
    pub fn page_of(&self, rows: usize) {
        self.lock().page = rows;
    }

    /// The configurations: id → priority.
    pub fn priorities(&self) -> BTreeMap<String, i64> {
        self.lock().configurations.iter().map(|(id, c)| (id.clone(), c.priority)).collect()
    }

    /// A configuration's content.
    pub fn content(&self, id: &str) -> Option<Value> {
        self.lock().configurations.get(id).map(|configuration| configuration.content.clone())
    }

    /// A module's desired properties.
    pub fn desired(&self, device: &str, module: &str) -> Option<Value> {
        Some(self.lock().devices.get(device)?.modules.get(module)?.desired.clone())
    }

    /// The version of a module's desired properties: it grows with every change.
    pub fn desired_version(&self, device: &str, module: &str) -> Option<u64> {
        Some(self.lock().devices.get(device)?.modules.get(module)?.desired_version)
    }

    /// The module identities of a device.
    pub fn modules(&self, device: &str) -> Vec<String> {
        self.lock().devices.get(device).map(|d| d.modules.keys().cloned().collect()).unwrap_or_default()
    }

    /// The bearer tokens with which it was asked.
    pub fn bearers(&self) -> Vec<String> {
        self.lock().bearers.iter().cloned().collect()
    }

    /// Calls that left a device without any deployment.
    pub fn gaps(&self) -> Vec<String> {
        self.lock().gaps.clone()
    }
}
