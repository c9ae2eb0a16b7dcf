//! The rules of the published IoT Edge deployment schemas, edgeAgent 1.0 and 1.1, edgeHub 1.0 to 1.3.
//!
//! The types of `contracts::iot_edge` hold the same rules and stop at the first that is broken. This names every
//! broken one at once, each place by its JSON Pointer, with what is allowed there. A test holds the two together. It
//! also knows layered deployments, whose keys are paths.

use serde_json::{Map, Value};

use super::content::{self, DESIRED, escaped};
use super::create_options::{PIECE, piece_number};
use super::{ManifestError, Problem};

/// Checks a finished manifest.
pub(super) fn check(document: &Value) -> Result<(), ManifestError> {
    let mut checker = Checker { problems: Vec::new() };
    let root = Place::root(document);
    if content::is_layered(document) {
        checker.layered(&root);
    } else {
        checker.deployment(&root);
    }
    if checker.problems.is_empty() { Ok(()) } else { Err(ManifestError::Invalid(checker.problems)) }
}

/// A value and where it stands.
struct Place<'a> {
    value: &'a Value,
    pointer: String,
}

impl<'a> Place<'a> {
    fn root(value: &'a Value) -> Self {
        Self { value, pointer: String::new() }
    }

    fn again(&self) -> Self {
        Self { value: self.value, pointer: self.pointer.clone() }
    }

    fn at(&self, key: &str, value: &'a Value) -> Self {
        Self { value, pointer: format!("{}/{}", self.pointer, escaped(key)) }
    }

    fn get(&self, key: &str) -> Option<Self> {
        Some(self.at(key, self.value.get(key)?))
    }

    fn entries(&self) -> impl Iterator<Item = (&'a String, Self)> {
        self.value.as_object().into_iter().flatten().map(|(key, value)| (key, self.at(key, value)))
    }
}

/// Which keys an object may have.
struct Keys {
    required: &'static [&'static str],
    optional: &'static [&'static str],
}

const EDGE_AGENT: Keys = Keys { required: &["type", "settings"], optional: &["env", "imagePullPolicy"] };
const EDGE_HUB: Keys = Keys {
    required: &["type", "settings", "status", "restartPolicy"],
    optional: &["env", "imagePullPolicy", "startupOrder"],
};
const MODULE: Keys = Keys {
    required: &["type", "status", "restartPolicy", "settings"],
    optional: &["version", "env", "imagePullPolicy", "startupOrder"],
};

struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn report(&mut self, place: &Place<'_>, what: impl Into<String>) {
        self.problems.push(Problem { pointer: place.pointer.clone(), what: what.into() });
    }

    fn object<'a>(&mut self, place: &Place<'a>) -> Option<&'a Map<String, Value>> {
        let object = place.value.as_object();
        if object.is_none() {
            self.report(place, format!("is {}, an object is needed", kind_of(place.value)));
        }
        object
    }

    /// Checks an object's keys; says whether it is one.
    fn keys(&mut self, place: &Place<'_>, keys: &Keys, also: impl Fn(&str) -> bool) -> bool {
        let Some(object) = self.object(place) else { return false };
        for key in keys.required.iter().filter(|key| !object.contains_key(**key)) {
            self.report(place, format!("lacks `{key}`"));
        }
        for key in object.keys() {
            if !keys.required.contains(&key.as_str()) && !keys.optional.contains(&key.as_str()) && !also(key)
            {
                let known = [keys.required, keys.optional].concat().join("`, `");
                self.report(
                    place,
                    format!("has the unknown key `{}` (known: `{known}`)", key.escape_debug()),
                );
            }
        }
        true
    }

    fn text<'a>(&mut self, place: Option<Place<'a>>) -> Option<&'a str> {
        let place = place?;
        let text = place.value.as_str();
        if text.is_none() {
            self.report(&place, format!("is {}, text is needed", kind_of(place.value)));
        }
        text
    }

    fn one_of<'a>(&mut self, place: Option<Place<'a>>, allowed: &[&str]) -> Option<&'a str> {
        let place = place?;
        let text = place.value.as_str();
        if !text.is_some_and(|text| allowed.contains(&text)) {
            let found = place.value.to_string().chars().take(60).collect::<String>();
            self.report(&place, format!("is {found}, allowed is `{}`", allowed.join("`, `")));
        }
        text
    }

    fn whole(&mut self, place: Option<Place<'_>>, max: u64) {
        if let Some(place) = place
            && place.value.as_u64().is_none_or(|number| number > max)
        {
            self.report(&place, format!("must be a whole number from 0 to {max}"));
        }
    }

    fn deployment(&mut self, root: &Place<'_>) {
        const TOP: Keys = Keys { required: &["modulesContent"], optional: &[] };
        const CONTENT: Keys = Keys { required: &["$edgeAgent", "$edgeHub"], optional: &[] };
        self.keys(root, &TOP, |_| false);
        let Some(content) = root.get("modulesContent") else { return };
        self.keys(&content, &CONTENT, is_module_name);
        for (name, twin) in content.entries() {
            if let Some(desired) = self.desired(&twin) {
                match name.as_str() {
                    "$edgeAgent" => self.agent(&desired),
                    "$edgeHub" => self.hub(&desired),
                    _ => drop(self.object(&desired)),
                }
            }
        }
    }

    fn desired<'a>(&mut self, twin: &Place<'a>) -> Option<Place<'a>> {
        const TWIN: Keys = Keys { required: &["properties.desired"], optional: &[] };
        self.keys(twin, &TWIN, |_| false);
        twin.get("properties.desired")
    }

    fn agent(&mut self, desired: &Place<'_>) {
        const AGENT: Keys =
            Keys { required: &["schemaVersion", "runtime", "systemModules", "modules"], optional: &[] };
        const SYSTEM: Keys = Keys { required: &["edgeAgent", "edgeHub"], optional: &[] };
        if !self.keys(desired, &AGENT, |_| false) {
            return;
        }
        let version = self.one_of(desired.get("schemaVersion"), &["1.0", "1.1"]);
        if let Some(runtime) = desired.get("runtime") {
            self.runtime(&runtime);
        }
        if let Some(system) = desired.get("systemModules") {
            self.keys(&system, &SYSTEM, |_| false);
            if let Some(agent) = system.get("edgeAgent") {
                self.module(&agent, &EDGE_AGENT, version);
            }
            if let Some(hub) = system.get("edgeHub") {
                self.module(&hub, &EDGE_HUB, version);
            }
        }
        if let Some(modules) = desired.get("modules") {
            self.object(&modules);
            for (name, module) in modules.entries() {
                self.user_module(name, &module, version);
            }
        }
    }

    fn user_module(&mut self, name: &str, module: &Place<'_>, version: Option<&str>) {
        if !is_module_name(name) {
            self.report(module, "is no module name: letters, digits, `_` and `-` are allowed");
        }
        self.module(module, &MODULE, version);
    }

    /// A layered deployment: what it names is added to what a base deployment says.
    fn layered(&mut self, root: &Place<'_>) {
        const TOP: Keys = Keys { required: &["content"], optional: &[] };
        const CONTENT: Keys = Keys { required: &["modulesContent"], optional: &[] };
        self.keys(root, &TOP, |_| false);
        let Some(content) = root.get("content") else { return };
        if !self.keys(&content, &CONTENT, |_| false) {
            return;
        }
        let Some(content) = content.get("modulesContent") else { return };
        self.object(&content);
        for (name, twin) in content.entries() {
            if !matches!(name.as_str(), "$edgeAgent" | "$edgeHub") && !is_module_name(name) {
                self.report(&twin, "is no module name: letters, digits, `_` and `-` are allowed");
            }
            self.object(&twin);
            for (key, part) in twin.entries() {
                match key.strip_prefix(DESIRED).map(|path| (name.as_str(), path)) {
                    Some(("$edgeAgent", "")) => self.agent(&part),
                    Some(("$edgeHub", "")) => self.hub(&part),
                    Some((_, "")) => drop(self.object(&part)),
                    Some((name, path)) if path.starts_with('.') => self.layer(name, &path[1..], &part),
                    _ => self.report(&part, "is no `properties.desired` and no `properties.desired.<path>`"),
                }
            }
        }
    }

    /// What stands under the path `properties.desired.<path>` of a twin.
    fn layer(&mut self, twin: &str, path: &str, part: &Place<'_>) {
        // Versions stand in the base deployment.
        let names: Vec<&str> = path.split('.').collect();
        match (twin, names.as_slice()) {
            (_, names) if names.contains(&"") => self.report(part, "is a path with an empty part"),
            ("$edgeAgent", ["modules", name]) => self.user_module(name, part, None),
            ("$edgeAgent", ["systemModules", "edgeAgent"]) => self.module(part, &EDGE_AGENT, None),
            ("$edgeAgent", ["systemModules", "edgeHub"]) => self.module(part, &EDGE_HUB, None),
            ("$edgeAgent", ["modules" | "systemModules", _, "env"]) => self.env(part),
            ("$edgeAgent", ["modules" | "systemModules", _, "env", name]) => self.env_entry(name, part),
            ("$edgeAgent", ["modules" | "systemModules", _, "settings"]) => self.settings(part),
            ("$edgeAgent", ["modules"]) => {
                self.object(part);
                for (name, module) in part.entries() {
                    self.user_module(name, &module, None);
                }
            }
            ("$edgeAgent", ["runtime"]) => self.runtime(part),
            ("$edgeAgent", ["runtime", "settings", "registryCredentials", name]) => {
                self.credentials(name, part);
            }
            ("$edgeAgent", ["schemaVersion"]) => {
                self.one_of(Some(part.again()), &["1.0", "1.1"]);
            }
            ("$edgeHub", ["routes", name]) => {
                self.plain_name(name, part);
                self.route(part, None);
            }
            ("$edgeHub", ["routes"]) => {
                self.object(part);
                for (name, route) in part.entries() {
                    self.plain_name(name, &route);
                    self.route(&route, None);
                }
            }
            ("$edgeHub", ["storeAndForwardConfiguration"]) => self.store(part),
            ("$edgeHub", ["schemaVersion"]) => {
                self.one_of(Some(part.again()), &["1.0", "1.1", "1.2", "1.3"]);
            }
            ("$edgeHub", ["mqttBroker" | "integrity", ..])
            | ("$edgeAgent", ["modules" | "systemModules", _, _]) => {}
            ("$edgeAgent" | "$edgeHub", _) => self.report(part, "is a path that IoT Edge does not know"),
            _ => {}
        }
    }

    fn runtime(&mut self, runtime: &Place<'_>) {
        const RUNTIME: Keys = Keys { required: &["type", "settings"], optional: &[] };
        const SETTINGS: Keys =
            Keys { required: &[], optional: &["minDockerVersion", "loggingOptions", "registryCredentials"] };
        if !self.keys(runtime, &RUNTIME, |_| false) {
            return;
        }
        self.one_of(runtime.get("type"), &["docker"]);
        let Some(settings) = runtime.get("settings") else { return };
        self.keys(&settings, &SETTINGS, |_| false);
        self.text(settings.get("minDockerVersion"));
        self.text(settings.get("loggingOptions"));
        let Some(registries) = settings.get("registryCredentials") else { return };
        self.object(&registries);
        for (name, credentials) in registries.entries() {
            self.credentials(name, &credentials);
        }
    }

    fn credentials(&mut self, name: &str, credentials: &Place<'_>) {
        const CREDENTIALS: Keys = Keys { required: &["username", "password", "address"], optional: &[] };
        self.plain_name(name, credentials);
        if self.keys(credentials, &CREDENTIALS, |_| false) {
            self.text(credentials.get("username"));
            self.text(credentials.get("password"));
            if let Some(address) = self.text(credentials.get("address"))
                && (address.is_empty() || address.contains(char::is_whitespace))
            {
                self.report(credentials, "has an `address` that is empty or holds white space");
            }
        }
    }

    fn module(&mut self, module: &Place<'_>, keys: &Keys, version: Option<&str>) {
        if !self.keys(module, keys, |_| false) {
            return;
        }
        self.one_of(module.get("type"), &["docker"]);
        self.one_of(module.get("status"), &["running", "stopped"]);
        self.one_of(module.get("restartPolicy"), &["never", "on-failure", "on-unhealthy", "always"]);
        self.one_of(module.get("imagePullPolicy"), &["on-create", "never"]);
        self.text(module.get("version"));
        self.whole(module.get("startupOrder"), u32::MAX.into());
        if let Some(order) = module.get("startupOrder").filter(|_| version == Some("1.0")) {
            self.report(&order, "needs the edgeAgent's schemaVersion 1.1");
        }
        if let Some(env) = module.get("env") {
            self.env(&env);
        }
        if let Some(settings) = module.get("settings") {
            self.settings(&settings);
        }
    }

    fn env(&mut self, env: &Place<'_>) {
        self.object(env);
        for (name, entry) in env.entries() {
            self.env_entry(name, &entry);
        }
    }

    fn env_entry(&mut self, name: &str, entry: &Place<'_>) {
        const VALUE: Keys = Keys { required: &["value"], optional: &[] };
        if name.is_empty() || name.contains(|c: char| matches!(c, '+' | '#' | '$' | '.') || c.is_whitespace())
        {
            self.report(
                entry,
                "is no name of a variable: `+`, `#`, `$`, `.` and white space are not allowed",
            );
        }
        if self.keys(entry, &VALUE, |_| false)
            && let Some(value) = entry.get("value")
            && !(value.value.is_string() || value.value.is_number() || value.value.is_boolean())
        {
            self.report(
                &value,
                format!("is {}, text, a number or true/false is needed", kind_of(value.value)),
            );
        }
    }

    fn settings(&mut self, settings: &Place<'_>) {
        const SETTINGS: Keys = Keys { required: &["image"], optional: &["createOptions"] };
        if !self.keys(settings, &SETTINGS, |key| piece_number(key).is_some()) {
            return;
        }
        if let Some(image) = self.text(settings.get("image"))
            && (image.is_empty() || image.contains(char::is_whitespace))
        {
            self.report(settings, "has an `image` that is empty or holds white space");
        }
        for (key, piece) in settings.entries().filter(|(key, _)| piece_number(key).is_some()) {
            let long = self.text(settings.get(key)).is_some_and(|text| text.chars().count() > PIECE);
            if long {
                self.report(&piece, format!("has more than {PIECE} characters"));
            }
        }
    }

    fn hub(&mut self, desired: &Place<'_>) {
        const HUB: Keys = Keys {
            required: &["schemaVersion", "routes"],
            optional: &["storeAndForwardConfiguration", "mqttBroker", "integrity"],
        };
        if !self.keys(desired, &HUB, |_| false) {
            return;
        }
        let version = self.one_of(desired.get("schemaVersion"), &["1.0", "1.1", "1.2", "1.3"]);
        if let Some(routes) = desired.get("routes") {
            self.object(&routes);
            for (name, route) in routes.entries() {
                self.plain_name(name, &route);
                self.route(&route, version);
            }
        }
        for (key, too_old, least) in
            [("mqttBroker", ["1.0", "1.1"].as_slice(), "1.2"), ("integrity", &["1.0", "1.1", "1.2"], "1.3")]
        {
            let Some(part) = desired.get(key) else { continue };
            self.object(&part);
            if version.is_some_and(|version| too_old.contains(&version)) {
                self.report(&part, format!("needs the edgeHub's schemaVersion {least}"));
            }
        }
        if let Some(store) = desired.get("storeAndForwardConfiguration") {
            self.store(&store);
        }
    }

    fn store(&mut self, store: &Place<'_>) {
        const STORE: Keys = Keys { required: &["timeToLiveSecs"], optional: &[] };
        if self.keys(store, &STORE, |_| false)
            && let Some(seconds) = store.get("timeToLiveSecs")
            && seconds.value.as_i64().is_none()
        {
            self.report(&seconds, "must be a whole number of seconds");
        }
    }

    fn route(&mut self, route: &Place<'_>, version: Option<&str>) {
        const ROUTE: Keys = Keys { required: &["route"], optional: &["priority", "timeToLiveSecs"] };
        let text = if route.value.is_object() {
            if version == Some("1.0") {
                self.report(route, "is an object, which needs the edgeHub's schemaVersion 1.1");
            }
            self.keys(route, &ROUTE, |_| false);
            self.whole(route.get("priority"), 9);
            self.whole(route.get("timeToLiveSecs"), u32::MAX.into());
            self.text(route.get("route"))
        } else {
            self.text(Some(route.again()))
        };
        if text.is_some_and(str::is_empty) {
            self.report(route, "is an empty route");
        }
    }

    /// Names of routes and registries: a twin's keys may not hold these characters.
    fn plain_name(&mut self, name: &str, place: &Place<'_>) {
        if name.is_empty() || name.contains(['.', '$', '#', ' ']) {
            self.report(place, "is no name: `.`, `$`, `#` and spaces are not allowed");
        }
    }
}

fn is_module_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
