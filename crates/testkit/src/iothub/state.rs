//! What the hub holds, how it decides which deployment a device gets, and how the devices answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::query::Condition;

/// The agent's module on every edge device.
pub(super) const EDGE_AGENT: &str = "$edgeAgent";

/// What a device makes of a new deployment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Behaviour {
    /// Its modules run once its twins were looked at so many times more.
    RunsAfter(u32),
    /// The agent reports this code and description.
    Refuses {
        /// Such as 400 for a manifest it cannot read, 500 for an image it cannot pull.
        code: u16,
        /// What it says.
        description: String,
    },
    /// The agent reports success, but this module keeps ending.
    Crashes {
        /// The module.
        module: String,
        /// Its exit code.
        exit_code: i32,
    },
    /// The agent says nothing.
    NeverReports,
}

/// What kind of hub it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tier {
    /// All features.
    Standard,
    /// No twins, no deployments.
    Basic,
}

pub(super) struct Device {
    pub(super) edge: bool,
    pub(super) connected: bool,
    pub(super) architecture: String,
    pub(super) tags: Value,
    pub(super) modules: BTreeMap<String, Module>,
    /// For deployments that hold this image; the empty text is every deployment.
    pub(super) behaviours: BTreeMap<String, Behaviour>,
    /// How often the twins are yet to be looked at before it answers.
    pub(super) pending: Option<u32>,
}

pub(super) struct Module {
    pub(super) desired: Value,
    pub(super) desired_version: u64,
    pub(super) reported: Value,
    pub(super) version: u64,
    pub(super) configurations: BTreeMap<String, &'static str>,
}

impl Module {
    pub(super) fn new() -> Self {
        Self {
            desired: json!({}),
            desired_version: 1,
            reported: json!({}),
            version: 1,
            configurations: BTreeMap::new(),
        }
    }
}

#[derive(Clone)]
pub(super) struct Configuration {
    pub(super) labels: Value,
    pub(super) content: Value,
    pub(super) target_condition: String,
    pub(super) priority: i64,
    pub(super) metrics: Value,
    pub(super) created: u64,
    pub(super) updated: u64,
}

impl Configuration {
    /// Whether it only adds to a whole deployment.
    fn is_layered(&self) -> bool {
        self.content.pointer("/modulesContent/$edgeAgent/properties.desired").is_none()
    }

    fn is_deployment(&self) -> bool {
        self.content.get("modulesContent").is_some()
    }
}

pub(super) struct State {
    pub(super) tier: Tier,
    pub(super) devices: BTreeMap<String, Device>,
    pub(super) configurations: BTreeMap<String, Configuration>,
    /// Grows with every change; stands for the time.
    pub(super) clock: u64,
    /// How many seconds the hub's clock is ahead of this machine's.
    pub(super) ahead: u64,
    /// Calls to configurations allowed a minute.
    pub(super) rate: usize,
    pub(super) calls: VecDeque<Instant>,
    /// The bearer tokens that were shown.
    pub(super) bearers: BTreeSet<String>,
    /// Devices that were left without any deployment, with the call that did it.
    pub(super) gaps: Vec<String>,
    pub(super) page: usize,
    pub(super) max_configurations: usize,
}

impl State {
    pub(super) fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn device_twin(&self, id: &str) -> Option<Value> {
        let device = self.devices.get(id)?;
        Some(json!({
            "deviceId": id,
            "etag": "AAAAAAAAAAE=",
            "version": 1,
            "status": "enabled",
            "connectionState": state_of(device),
            "authenticationType": "sas",
            "capabilities": {"iotEdge": device.edge},
            "tags": device.tags,
            "properties": {"desired": {"$version": 1}, "reported": {"$version": 1}},
        }))
    }

    pub(super) fn module_twin(&self, id: &str, name: &str) -> Option<Value> {
        let device = self.devices.get(id)?;
        let module = device.modules.get(name)?;
        let versioned = |value: &Value, version: u64| {
            let mut value = value.clone();
            if let Value::Object(object) = &mut value {
                object.insert("$metadata".into(), json!({"$lastUpdated": "2026-01-01T00:00:00Z"}));
                object.insert("$version".into(), version.into());
            }
            value
        };
        let configurations: Map<String, Value> = module
            .configurations
            .iter()
            .map(|(id, status)| (id.clone(), json!({"status": status})))
            .collect();
        Some(json!({
            "deviceId": id,
            "moduleId": name,
            "etag": format!("v{}", module.version),
            "version": module.version,
            "status": "enabled",
            "connectionState": state_of(device),
            "properties": {
                "desired": versioned(&module.desired, module.desired_version),
                "reported": versioned(&module.reported, module.version),
            },
            "configurations": configurations,
        }))
    }

    /// Gives every edge device what the configurations say. Returns nothing; who is left without a deployment
    /// stands in [`Self::gaps`].
    pub(super) fn evaluate(&mut self, call: &str) {
        let ids: Vec<String> =
            self.devices.iter().filter(|(_, device)| device.edge).map(|(id, _)| id.clone()).collect();
        for id in ids {
            let Some(row) = self.device_twin(&id) else { continue };
            let mut matching: Vec<(&String, &Configuration)> = self
                .configurations
                .iter()
                .filter(|(_, configuration)| {
                    configuration.is_deployment()
                        && Condition::parse(&configuration.target_condition)
                            .is_ok_and(|condition| condition.holds(&row))
                })
                .collect();
            // The highest priority first, then the latest.
            matching.sort_by_key(|(_, c)| std::cmp::Reverse((c.priority, c.created)));
            let base = matching.iter().find(|(_, configuration)| !configuration.is_layered()).copied();
            let mut statuses: BTreeMap<String, &'static str> =
                matching.iter().map(|(id, _)| ((*id).clone(), "Targeted")).collect();
            let content = base.map(|(base_id, base)| {
                statuses.insert(base_id.clone(), "Applied");
                let mut content = base.content.clone();
                for (layer_id, layer) in matching.iter().rev() {
                    if layer.is_layered() && layer.priority > base.priority {
                        statuses.insert((*layer_id).clone(), "Applied");
                        add_layer(&mut content, &layer.content);
                    }
                }
                content
            });
            let Some(device) = self.devices.get_mut(&id) else { continue };
            let agent = device.modules.entry(EDGE_AGENT.into()).or_insert_with(Module::new);
            let had = agent.configurations.values().any(|status| *status == "Applied");
            agent.configurations = statuses;
            match content {
                Some(content) => device.apply(&content),
                None if had => self.gaps.push(format!("{call} left `{id}` without a deployment")),
                None => {}
            }
        }
    }

    /// Someone looked at the twins: devices get on with their work.
    pub(super) fn tick(&mut self) {
        for device in self.devices.values_mut().filter(|device| device.connected) {
            match device.pending {
                Some(0) => device.report(),
                Some(left) => device.pending = Some(left - 1),
                None => {}
            }
        }
    }
}

fn state_of(device: &Device) -> &'static str {
    if device.connected { "Connected" } else { "Disconnected" }
}

/// Puts the dotted keys of a layered deployment over a whole one.
fn add_layer(content: &mut Value, layer: &Value) {
    let modules = layer.get("modulesContent").and_then(Value::as_object).into_iter().flatten();
    for (module, properties) in modules {
        for (path, value) in properties.as_object().into_iter().flatten() {
            // `properties.desired` stays one key, what follows leads into it.
            let rest = path.strip_prefix("properties.desired").unwrap_or(path).trim_start_matches('.');
            let twin = &mut content["modulesContent"][module];
            if twin.is_null() {
                *twin = json!({});
            }
            let mut place = &mut twin["properties.desired"];
            for key in rest.split('.').filter(|key| !key.is_empty()) {
                if !place.is_object() {
                    *place = json!({});
                }
                place = &mut place[key];
            }
            *place = value.clone();
        }
    }
}

impl Device {
    /// Takes over a whole deployment.
    pub(super) fn apply(&mut self, content: &Value) {
        let mut changed = false;
        for (name, twin) in content["modulesContent"].as_object().into_iter().flatten() {
            let module = self.modules.entry(name.clone()).or_insert_with(Module::new);
            let desired = &twin["properties.desired"];
            if module.desired != *desired {
                module.desired = desired.clone();
                module.desired_version += 1;
                module.version += 1;
                changed = true;
            }
        }
        for name in wanted(content).keys() {
            self.modules.entry(name.clone()).or_insert_with(Module::new);
        }
        if changed {
            self.pending = Some(match self.behaviour() {
                Behaviour::RunsAfter(looks) => looks,
                _ => 0,
            });
        }
    }

    /// What it makes of the present deployment.
    fn behaviour(&self) -> Behaviour {
        let desired = self.modules.get(EDGE_AGENT).map(|agent| agent.desired.to_string()).unwrap_or_default();
        let of_image = self
            .behaviours
            .iter()
            .find(|(image, _)| !image.is_empty() && desired.contains(image.as_str()))
            .or_else(|| self.behaviours.get_key_value(""));
        of_image.map_or(Behaviour::RunsAfter(1), |(_, behaviour)| behaviour.clone())
    }

    /// The agent reports what came of the present deployment.
    fn report(&mut self) {
        let behaviour = self.behaviour();
        self.pending = None;
        if behaviour == Behaviour::NeverReports {
            return;
        }
        let Some(agent) = self.modules.get_mut(EDGE_AGENT) else { return };
        let (code, description) = match &behaviour {
            Behaviour::Refuses { code, description } => (*code, description.clone()),
            _ => (200, String::new()),
        };
        agent.version += 1;
        agent.reported["lastDesiredVersion"] = agent.desired_version.into();
        agent.reported["lastDesiredStatus"] = json!({"code": code, "description": description});
        agent.reported["schemaVersion"] = json!("1.1");
        agent.reported["runtime"] = json!({"type": "docker", "platform": {"os": "linux", "architecture": self.architecture, "version": "1.6.1"}});
        if code != 200 {
            return;
        }
        let mut modules = Map::new();
        for (name, module) in agent.desired["modules"].as_object().into_iter().flatten() {
            let mut reported = module.clone();
            let stopped = module["status"] == "stopped";
            reported["runtimeStatus"] = json!(if stopped { "stopped" } else { "running" });
            reported["exitCode"] = json!(0);
            reported["restartCount"] = json!(0);
            reported["statusDescription"] = json!("running");
            if let Behaviour::Crashes { module, exit_code } = &behaviour
                && module == name
            {
                reported["runtimeStatus"] = json!("backoff");
                reported["exitCode"] = json!(exit_code);
                reported["restartCount"] = json!(7);
                reported["statusDescription"] = json!(format!("Container exited with code {exit_code}"));
            }
            modules.insert(name.clone(), reported);
        }
        let wanted: BTreeSet<String> = modules.keys().cloned().collect();
        agent.reported["modules"] = Value::Object(modules);
        // The agent removes the identities of modules it no longer runs.
        self.modules.retain(|name, _| name.starts_with('$') || wanted.contains(name));
    }
}

/// The modules a deployment runs, by name.
fn wanted(content: &Value) -> Map<String, Value> {
    content
        .pointer("/modulesContent/$edgeAgent/properties.desired/modules")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}
