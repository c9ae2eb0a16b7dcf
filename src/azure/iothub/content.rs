//! What a hub is told to run: a deployment manifest as IoT Hub's `modulesContent`, alone, beside what a device
//! has, or as a layer.

use std::collections::BTreeMap;

use mynah_contracts::Sha256Digest;
use serde_json::{Map, Value, json};

use super::HubError;
use crate::secret::Secret;

/// The agent that runs a device's modules; its twin is the deployment.
pub(super) const EDGE_AGENT: &str = "$edgeAgent";

/// The broker between a device's modules.
const EDGE_HUB: &str = "$edgeHub";

/// The key of a twin's desired properties in `modulesContent`.
const DESIRED: &str = "properties.desired";

/// Where a layer has a registry's credentials; the registry's name follows.
const REGISTRIES: &str = "properties.desired.runtime.settings.registryCredentials.";

/// The most bytes a twin's desired properties may have ("IoT Hub quotas and throttling": 32 KB).
const MAX_TWIN: usize = 32 << 10;

/// The most modules of a deployment ("IoT Hub quotas and throttling").
const MAX_MODULES: usize = 50;

/// A user of a registry that devices pull images from.
#[derive(Clone, Debug)]
pub struct RegistryCredentials {
    /// The registry's host, such as `mynah.azurecr.io`.
    pub address: String,
    /// The user.
    pub username: String,
    /// The password or token.
    pub password: Secret,
}

/// The object below `modulesContent`: for each module the desired properties of its twin.
///
/// It may hold passwords of registries, so it has no `Debug`.
#[derive(Clone, PartialEq)]
pub struct Content(Map<String, Value>);

/// A module that is to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Its image.
    pub image: String,
    /// Whether it is to run; otherwise it is to be stopped.
    pub running: bool,
}

impl Content {
    /// Takes a checked manifest, a whole or a layered one.
    pub fn of_manifest(manifest: &Value) -> Self {
        let content = manifest.get("content").unwrap_or(manifest);
        Self(content.get("modulesContent").and_then(Value::as_object).cloned().unwrap_or_default())
    }

    /// Takes what a hub keeps.
    pub(super) fn of_hub(content: &Value) -> Self {
        Self::of_manifest(content)
    }

    /// Takes the desired properties of twins, as a hub shows them.
    pub(super) fn of_twins<'a>(twins: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Self {
        let whole =
            twins.into_iter().map(|(name, desired)| (name.to_owned(), json!({DESIRED: plain(desired)})));
        Self(whole.collect())
    }

    /// What is sent.
    pub(super) fn body(&self) -> Value {
        json!({"modulesContent": self.0})
    }

    /// As a manifest, to be compared with another.
    pub(super) fn manifest(&self) -> Value {
        if self.is_layered() { json!({"content": self.body()}) } else { self.body() }
    }

    /// Whether it is a layer: it has no whole set of modules.
    pub fn is_layered(&self) -> bool {
        !self.0.is_empty() && self.desired(EDGE_AGENT).is_none()
    }

    /// The names of all twins it sets.
    pub(super) fn twins(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The desired properties it gives a twin.
    pub(super) fn desired(&self, module: &str) -> Option<&Value> {
        self.0.get(module)?.get(DESIRED)
    }

    /// Whether a device that ran nothing could run it.
    pub(super) fn is_whole(&self) -> bool {
        self.desired(EDGE_AGENT).is_some_and(|desired| desired.get("systemModules").is_some())
    }

    /// The modules besides IoT Edge's own, by name.
    pub fn modules(&self) -> BTreeMap<&str, Wanted> {
        let whole = self.desired(EDGE_AGENT).and_then(|desired| desired.get("modules"));
        let whole = whole.and_then(Value::as_object).into_iter().flatten();
        let layered = self.0.get(EDGE_AGENT).and_then(Value::as_object).into_iter().flatten();
        let layered = layered
            .filter_map(|(path, module)| Some((path.strip_prefix("properties.desired.modules.")?, module)));
        whole
            .map(|(name, module)| (name.as_str(), module))
            .chain(layered)
            .filter_map(|(name, module)| {
                let image = module.pointer("/settings/image")?.as_str()?.to_owned();
                let running = module.get("status").and_then(Value::as_str) == Some("running");
                Some((name, Wanted { image, running }))
            })
            .collect()
    }

    /// Gives the devices a registry's user and password.
    pub fn bind(&mut self, credentials: &RegistryCredentials) {
        let entry = json!({
            "address": credentials.address,
            "username": credentials.username,
            "password": credentials.password.expose(),
        });
        let name = self
            .registries()
            .into_iter()
            .find(|(_, there)| there.get("address") == entry.get("address"))
            .map_or_else(|| registry_name(&credentials.address), |(name, _)| name);
        if self.is_layered() {
            let agent = self.0.entry(EDGE_AGENT).or_insert_with(|| json!({}));
            if let Some(agent) = agent.as_object_mut() {
                agent.insert(format!("{REGISTRIES}{name}"), entry);
            }
            return;
        }
        let Some(settings) = self
            .0
            .get_mut(EDGE_AGENT)
            .and_then(|agent| agent.get_mut(DESIRED))
            .and_then(|desired| desired.pointer_mut("/runtime/settings").and_then(Value::as_object_mut))
        else {
            return;
        };
        let registries = settings.entry("registryCredentials").or_insert_with(|| json!({}));
        let Some(registries) = registries.as_object_mut() else { return };
        registries.insert(name, entry);
    }

    /// Registries it names without a password.
    pub fn without_password(&self) -> Vec<String> {
        let text =
            |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let registries = self.registries().into_iter();
        registries
            .filter(|(_, entry)| text(entry, "password").is_empty())
            .map(|(_, entry)| text(entry, "address"))
            .collect()
    }

    /// The registries it names, whole or layered.
    fn registries(&self) -> Vec<(String, &Value)> {
        let whole = self
            .desired(EDGE_AGENT)
            .and_then(|desired| desired.pointer("/runtime/settings/registryCredentials"))
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, entry)| (name.clone(), entry));
        let layered = self.0.get(EDGE_AGENT).and_then(Value::as_object).into_iter().flatten();
        let layered =
            layered.filter_map(|(path, entry)| Some((path.strip_prefix(REGISTRIES)?.to_owned(), entry)));
        whole.chain(layered).collect()
    }

    /// This content beside what a device has: its other modules, routes and registries stay, and so do its
    /// IoT Edge images.
    #[must_use]
    pub(super) fn beside(&self, present: &Self) -> Self {
        if !present.is_whole() {
            return self.clone();
        }
        let mut merged = present.0.clone();
        // Twins of other modules are not named, so that nothing of them is touched.
        merged.retain(|name, _| name == EDGE_AGENT || name == EDGE_HUB);
        for (name, twin) in &self.0 {
            if name != EDGE_AGENT && name != EDGE_HUB {
                merged.insert(name.clone(), twin.clone());
            }
        }
        let mut merged = Self(merged);
        merged.add(self, EDGE_AGENT, "/modules");
        merged.add(self, EDGE_AGENT, "/runtime/settings/registryCredentials");
        merged.add(self, EDGE_HUB, "/routes");
        for twin in [EDGE_AGENT, EDGE_HUB] {
            merged.raise_schema(self, twin);
        }
        merged
    }

    /// Adds the entries of `from` at `pointer` of a twin.
    fn add(&mut self, from: &Self, twin: &str, pointer: &str) {
        let Some(entries) = from.desired(twin).and_then(|desired| desired.pointer(pointer)?.as_object())
        else {
            return;
        };
        let Some(desired) = self.0.get_mut(twin).and_then(|twin| twin.get_mut(DESIRED)) else { return };
        let mut place = desired;
        for key in pointer.split('/').skip(1) {
            if !place.is_object() {
                *place = json!({});
            }
            let Some(object) = place.as_object_mut() else { return };
            place = object.entry(key).or_insert_with(|| json!({}));
        }
        if let Some(object) = place.as_object_mut() {
            object.extend(entries.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
    }

    /// The newer of two schema versions: what is added may need it.
    fn raise_schema(&mut self, from: &Self, twin: &str) {
        let version = |content: &Self| {
            content.desired(twin).and_then(|desired| Some(desired.get("schemaVersion")?.as_str()?.to_owned()))
        };
        let (Some(ours), Some(theirs)) = (version(from), version(self)) else { return };
        if ours > theirs
            && let Some(desired) =
                self.0.get_mut(twin).and_then(|twin| twin.get_mut(DESIRED)?.as_object_mut())
        {
            desired.insert("schemaVersion".into(), ours.into());
        }
    }

    /// This content as a layer: modules, routes, registries and module twins, to be put over a whole deployment.
    #[must_use]
    pub(super) fn layer(&self) -> Self {
        if self.is_layered() {
            return self.clone();
        }
        let mut layer = Map::new();
        for (twin, pointer) in [
            (EDGE_AGENT, "modules"),
            (EDGE_AGENT, "runtime.settings.registryCredentials"),
            (EDGE_HUB, "routes"),
        ] {
            let path = format!("/{}", pointer.replace('.', "/"));
            let entries = self.desired(twin).and_then(|desired| desired.pointer(&path)?.as_object());
            let entries = entries
                .into_iter()
                .flatten()
                .map(|(name, value)| (format!("{DESIRED}.{pointer}.{name}"), value.clone()));
            let entries: Map<String, Value> = entries.collect();
            if let Some(Value::Object(there)) = layer.get_mut(twin) {
                there.extend(entries);
            } else if !entries.is_empty() {
                layer.insert(twin.into(), Value::Object(entries));
            }
        }
        let twins = self.0.iter().filter(|(name, _)| *name != EDGE_AGENT && *name != EDGE_HUB);
        layer.extend(twins.map(|(name, twin)| (name.clone(), twin.clone())));
        Self(layer)
    }

    /// The name of a configuration that deploys this to the devices of `condition`: equal content, equal name.
    ///
    /// Passwords are left out: a name is seen by many, and a short password could be found from it.
    pub(super) fn configuration_id(&self, name: &str, condition: &str) -> String {
        let mut public = Value::Object(self.0.clone());
        blank_passwords(&mut public);
        let digest = Sha256Digest::of(format!("{condition}\0{public}").as_bytes());
        format!("{name}-{}", digest.hex().get(..12).unwrap_or_default())
    }

    /// Tells deployments apart by what the agent is to run; passwords are left out for the same reason.
    pub(super) fn agent_digest(&self) -> Sha256Digest {
        let mut public = self.desired(EDGE_AGENT).cloned().unwrap_or_default();
        blank_passwords(&mut public);
        Sha256Digest::of(public.to_string().as_bytes())
    }

    /// Refuses what the hub would refuse, before anything is changed.
    pub(super) fn check(&self) -> Result<(), HubError> {
        let modules = self.modules().len();
        if modules > MAX_MODULES {
            return Err(HubError::TooManyModules { modules, limit: MAX_MODULES });
        }
        for (module, twin) in &self.0 {
            let bytes: usize =
                twin.as_object().into_iter().flatten().map(|(_, value)| value.to_string().len()).sum();
            if bytes > MAX_TWIN {
                return Err(HubError::TooLarge { module: module.clone(), bytes, limit: MAX_TWIN });
            }
        }
        Ok(())
    }
}

/// Desired properties without what the hub adds to them.
fn plain(desired: &Value) -> Value {
    let mut desired = desired.clone();
    if let Value::Object(object) = &mut desired {
        object.remove("$metadata");
        object.remove("$version");
    }
    desired
}

/// Strikes out every `password`.
fn blank_passwords(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if key == "password" && value.is_string() {
                    *value = Value::from("***");
                } else {
                    blank_passwords(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(blank_passwords),
        _ => {}
    }
}

/// An entry's name for a registry: the schema allows no dot, `$`, `#` or space in it.
fn registry_name(address: &str) -> String {
    address.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(modules: &[&str]) -> Content {
        let template = crate::manifest::DEFAULT_TEMPLATE;
        let mut manifest: Value = serde_json::from_str(template).unwrap();
        let agent = &mut manifest["modulesContent"][EDGE_AGENT][DESIRED];
        let module = agent["modules"]["mynah-runtime"].clone();
        agent["modules"] = json!({});
        for name in modules {
            agent["modules"][*name] = module.clone();
            agent["modules"][*name]["settings"] = json!({"image": format!("registry.example/{name}:1")});
        }
        Content::of_manifest(&manifest)
    }

    fn credentials(password: &str) -> RegistryCredentials {
        RegistryCredentials {
            address: "mynah.example:5000".into(),
            username: "puller".into(),
            password: Secret::new(password.to_owned()),
        }
    }

    #[test]
    fn other_modules_routes_and_registries_stay() {
        let mut present = content(&["theirs", "ours"]);
        present.bind(&credentials("of-theirs"));
        present.0[EDGE_HUB][DESIRED]["routes"] = json!({"theirs": "FROM /* INTO $upstream"});
        present.0.insert("theirs".into(), json!({DESIRED: {"speed": 1}}));
        let mut ours = content(&["ours"]);
        ours.0[EDGE_AGENT][DESIRED]["modules"]["ours"]["settings"]["image"] =
            json!("registry.example/ours:2");
        ours.0[EDGE_AGENT][DESIRED]["systemModules"]["edgeHub"]["settings"]["image"] = json!("other");
        ours.0.insert("ours".into(), json!({DESIRED: {"threshold": 0.5}}));
        let merged = ours.beside(&present);
        let images: Vec<_> =
            merged.modules().into_iter().map(|(name, m)| (name.to_owned(), m.image)).collect();
        assert_eq!(
            images,
            [
                ("ours".to_owned(), "registry.example/ours:2".to_owned()),
                ("theirs".to_owned(), "registry.example/theirs:1".to_owned())
            ]
        );
        let agent = merged.desired(EDGE_AGENT).unwrap();
        assert_eq!(agent["systemModules"], present.desired(EDGE_AGENT).unwrap()["systemModules"]);
        assert!(agent["runtime"]["settings"]["registryCredentials"]["mynah-example-5000"].is_object());
        let routes = &merged.desired(EDGE_HUB).unwrap()["routes"];
        assert!(routes["theirs"].is_string() && routes["mynah-runtime"].is_string(), "{routes}");
        assert!(merged.desired("theirs").is_none(), "the twin of another's module is named");
        assert_eq!(merged.desired("ours").unwrap()["threshold"], 0.5);
        assert!(ours.beside(&Content(Map::new())) == ours);
    }

    #[test]
    fn a_layer_holds_what_is_ours_under_dotted_keys() {
        let mut ours = content(&["ours"]);
        ours.bind(&credentials("of-ours"));
        let layer = ours.layer();
        let keys: Vec<_> = layer.0[EDGE_AGENT].as_object().unwrap().keys().cloned().collect();
        assert_eq!(
            keys,
            [
                "properties.desired.modules.ours",
                "properties.desired.runtime.settings.registryCredentials.mynah-example-5000"
            ]
        );
        assert_eq!(layer.modules(), ours.modules());
        assert!(!layer.is_whole() && layer.is_layered() && !ours.is_layered());
        assert!(layer.layer() == layer && Content::of_manifest(&layer.manifest()) == layer);
        let mut rebound = layer.clone();
        rebound.bind(&credentials("another-one"));
        assert!(rebound != layer && rebound.registries().len() == 1);
        assert!(rebound.without_password().is_empty());
    }

    #[test]
    fn a_password_changes_the_content_and_not_its_name() {
        let (mut one, mut other) = (content(&["ours"]), content(&["ours"]));
        one.bind(&credentials("first-password"));
        other.bind(&credentials("other-password"));
        assert!(one != other);
        let name = |content: &Content| content.configuration_id("mynah", "tags.room = 'hall'");
        assert_eq!(name(&one), name(&other));
        assert!(name(&one) != one.configuration_id("mynah", "*"));
        assert!(one.without_password().is_empty());
    }

    #[test]
    fn an_entry_that_names_the_registry_is_filled() {
        let mut ours = content(&["ours"]);
        ours.0[EDGE_AGENT][DESIRED]["runtime"]["settings"]["registryCredentials"] =
            json!({"mine": {"address": "mynah.example:5000", "username": "", "password": ""}});
        assert_eq!(ours.without_password(), ["mynah.example:5000"]);
        ours.bind(&credentials("hunter22"));
        let registries = &ours.desired(EDGE_AGENT).unwrap()["runtime"]["settings"]["registryCredentials"];
        assert_eq!(registries.as_object().unwrap().len(), 1);
        assert_eq!(registries["mine"]["username"], "puller");
    }

    #[test]
    fn what_no_twin_can_hold_is_refused() {
        let mut ours = content(&["ours"]);
        ours.0[EDGE_AGENT][DESIRED]["modules"]["ours"]["env"] =
            json!({"BIG": {"value": "x".repeat(MAX_TWIN)}});
        assert!(matches!(ours.check(), Err(HubError::TooLarge { .. })));
        let many: Vec<String> = (0..=MAX_MODULES).map(|number| format!("m{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(matches!(content(&many).check(), Err(HubError::TooManyModules { .. })));
        assert!(content(&["ours"]).check().is_ok());
    }

    proptest! {
        #[test]
        fn merging_twice_is_merging_once(theirs in proptest::collection::btree_set("[a-c]", 0..3), ours in proptest::collection::btree_set("[b-d]", 1..3)) {
            let names = |set: &std::collections::BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
            let (theirs, ours) = (names(&theirs), names(&ours));
            let present = content(&theirs.iter().map(String::as_str).collect::<Vec<_>>());
            let ours = content(&ours.iter().map(String::as_str).collect::<Vec<_>>());
            let once = ours.beside(&present);
            prop_assert!(ours.beside(&once) == once);
            for name in theirs {
                prop_assert!(once.modules().contains_key(name.as_str()));
            }
        }
    }
}
