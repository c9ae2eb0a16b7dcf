//! What a manifest may say and better does not: more rights than a module needs, doors left open, secrets in clear.
//!
//! A finding names a place, never a value.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use super::content::{self, DESIRED, ModulePlace, escaped};
use super::{create_options, secret};

/// What kind of finding; its name is what `--allow` takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Rule {
    /// A container with all rights.
    Privileged,
    /// A container in the host's network, process list or shared memory.
    HostNamespace,
    /// Rights beyond those a container has.
    Capability,
    /// A folder or file of the host.
    HostBind,
    /// A device that no camera, sound or sensor module is known to need.
    Device,
    /// A port that debuggers listen on.
    DebugPort,
    /// A secret in clear.
    Secret,
    /// An image that may change under its name.
    FloatingImage,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Privileged,
        Self::HostNamespace,
        Self::Capability,
        Self::HostBind,
        Self::Device,
        Self::DebugPort,
        Self::Secret,
        Self::FloatingImage,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::HostNamespace => "host-namespace",
            Self::Capability => "capability",
            Self::HostBind => "host-bind",
            Self::Device => "device",
            Self::DebugPort => "debug-port",
            Self::Secret => "secret",
            Self::FloatingImage => "floating-image",
        }
    }
}

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// Where: a JSON Pointer; what is inside options for Docker goes on below `createOptions`.
    pub pointer: String,
    /// What is there.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {} ({})", self.pointer.escape_debug(), self.what, self.rule.as_str())
    }
}

/// Ports on which the debuggers of common languages and remote shells listen.
const DEBUG_PORTS: [(u16, &str); 10] = [
    (22, "remote shells"),
    (1234, "gdbserver"),
    (2345, "gdbserver and Delve"),
    (2375, "the Docker engine without encryption"),
    (5005, "Java's debugger"),
    (5678, "Python's debugger"),
    (5679, "Python's debugger"),
    (9222, "a browser's debugger"),
    (9229, "Node.js' debugger"),
    (40000, "Delve"),
];

/// The beginnings of the names of devices that cameras, sound cards, sensors and accelerators have.
const KNOWN_DEVICES: [&str; 17] = [
    "video", "media", "v4l", "snd", "i2c", "spidev", "gpiomem", "gpiochip", "ttyUSB", "ttyACM", "ttyAMA",
    "ttyS", "serial", "vchiq", "dri", "dma_heap", "apex",
];

/// Everything to be said about `document`, before its options for Docker are cut into pieces. `from_variables` are
/// the values that variables gave: a registry's password among them is not written in the template.
pub(super) fn check(document: &Value, from_variables: &BTreeSet<String>) -> Vec<Finding> {
    let mut linter = Linter { findings: Vec::new() };
    for place in content::modules(document) {
        if let Some(module) = document.pointer(&place.pointer) {
            linter.module(&place, module);
        }
    }
    let content = content::content_pointer(document);
    if let Some(Value::Object(twins)) = document.pointer(content) {
        for (name, twin) in twins {
            let pointer = format!("{content}/{}", escaped(name));
            if name == "$edgeAgent" {
                linter.registries(twin, &pointer, from_variables);
            } else if name != "$edgeHub" {
                linter.twin("", twin, &pointer);
            }
        }
    }
    linter.findings
}

struct Linter {
    findings: Vec<Finding>,
}

impl Linter {
    fn report(&mut self, rule: Rule, pointer: &str, what: impl Into<String>) {
        self.findings.push(Finding { rule, pointer: pointer.to_owned(), what: what.into() });
    }

    fn secret(&mut self, name: &str, value: &str, pointer: &str) {
        if let Some(reason) = secret::reason(name, value) {
            self.report(
                Rule::Secret,
                pointer,
                format!("is in clear for everyone who can read the manifest or the twin: {reason}"),
            );
        }
    }

    fn module(&mut self, place: &ModulePlace, module: &Value) {
        for (name, entry) in module.get("env").and_then(Value::as_object).into_iter().flatten() {
            if let Some(value) = entry.get("value").and_then(Value::as_str) {
                self.secret(name, value, &format!("{}/env/{}/value", place.pointer, escaped(name)));
            }
        }
        let Some(Value::Object(settings)) = module.get("settings") else { return };
        let pointer = format!("{}/settings", place.pointer);
        if let Some(image) = settings.get("image").and_then(Value::as_str)
            && floats(image)
        {
            self.report(
                Rule::FloatingImage,
                &format!("{pointer}/image"),
                "has neither a version nor a digest: a device keeps the image it has",
            );
        }
        if let Some(options) = create_options::object_of(settings) {
            self.options(&options, &format!("{pointer}/createOptions"), place.system);
        }
    }

    fn options(&mut self, options: &Map<String, Value>, pointer: &str, system: bool) {
        for (at, entry) in list(options.get("Env")) {
            if let Some((name, value)) = entry.as_str().and_then(|entry| entry.split_once('=')) {
                self.secret(name, value, &format!("{pointer}/Env/{at}"));
            }
        }
        for key in ["Cmd", "Entrypoint"] {
            for (at, word) in list(options.get(key)) {
                if let Some(reason) = word.as_str().and_then(secret::by_form) {
                    self.report(
                        Rule::Secret,
                        &format!("{pointer}/{key}/{at}"),
                        format!("is in clear: {reason}"),
                    );
                }
            }
        }
        for (port, _) in options.get("ExposedPorts").and_then(Value::as_object).into_iter().flatten() {
            self.port(port, &format!("{pointer}/ExposedPorts/{}", escaped(port)));
        }
        let Some(Value::Object(host)) = options.get("HostConfig") else { return };
        let pointer = format!("{pointer}/HostConfig");
        let at = |key: &str| format!("{pointer}/{key}");
        // edgeAgent reads the text `"true"` too.
        let privileged = match host.get("Privileged") {
            Some(Value::Bool(privileged)) => *privileged,
            Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
            _ => false,
        };
        if privileged {
            self.report(Rule::Privileged, &at("Privileged"), "gives the container every right on the host");
        }
        for key in ["NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode"] {
            if host.get(key).and_then(Value::as_str) == Some("host") {
                self.report(Rule::HostNamespace, &at(key), "takes the container's own namespace away");
            }
        }
        for (number, name) in list(host.get("CapAdd")) {
            let name = name.as_str().unwrap_or("something");
            let what = format!("adds the right {}", name.escape_debug());
            self.report(Rule::Capability, &format!("{}/{number}", at("CapAdd")), what);
        }
        for (port, _) in host.get("PortBindings").and_then(Value::as_object).into_iter().flatten() {
            self.port(port, &format!("{}/{}", at("PortBindings"), escaped(port)));
        }
        self.binds(host, &pointer);
        // IoT Edge's own modules have no devices to speak of.
        for (number, device) in list(host.get("Devices")).filter(|_| !system) {
            let Some(path) = device.get("PathOnHost").and_then(Value::as_str) else { continue };
            let name = path.strip_prefix("/dev/").unwrap_or_default();
            if !KNOWN_DEVICES.iter().any(|known| name.starts_with(known)) {
                let what =
                    format!("is {}, none of the usual cameras, sound cards and buses", path.escape_debug());
                self.report(Rule::Device, &format!("{}/{number}", at("Devices")), what);
            }
        }
    }

    fn binds(&mut self, host: &Map<String, Value>, pointer: &str) {
        let binds = list(host.get("Binds")).filter_map(|(at, bind)| {
            Some((format!("{pointer}/Binds/{at}"), bind.as_str()?.split(':').next()?.to_owned()))
        });
        let mounts = list(host.get("Mounts"))
            .filter(|(_, mount)| mount.get("Type").and_then(Value::as_str) == Some("bind"))
            .filter_map(|(at, mount)| {
                Some((format!("{pointer}/Mounts/{at}"), mount.get("Source")?.as_str()?.to_owned()))
            });
        for (pointer, source) in binds.chain(mounts) {
            // A volume's name holds neither.
            if !source.contains(['/', '\\']) {
                continue;
            }
            let what = if source.ends_with("docker.sock") || source.ends_with("containerd.sock") {
                "hands over the container engine, and with it the host".to_owned()
            } else {
                format!("opens {} of the host", source.escape_debug())
            };
            self.report(Rule::HostBind, &pointer, what);
        }
    }

    fn port(&mut self, port: &str, pointer: &str) {
        let number: Option<u16> = port.split('/').next().and_then(|number| number.parse().ok());
        if let Some((_, who)) = DEBUG_PORTS.iter().find(|(known, _)| Some(*known) == number) {
            self.report(Rule::DebugPort, pointer, format!("opens the port of {who}"));
        }
    }

    fn registries(&mut self, twin: &Value, pointer: &str, from_variables: &BTreeSet<String>) {
        for (key, part) in twin.as_object().into_iter().flatten() {
            let here = format!("{pointer}/{}", escaped(key));
            let whole = part.pointer("/runtime/settings/registryCredentials").and_then(Value::as_object);
            let layered = key.starts_with(&format!("{DESIRED}.runtime.settings.registryCredentials."));
            let all = whole
                .into_iter()
                .flatten()
                .map(|(name, one)| {
                    (format!("{here}/runtime/settings/registryCredentials/{}", escaped(name)), one)
                })
                .chain(layered.then_some((here.clone(), part)));
            for (pointer, one) in all {
                if let Some(password) = one.get("password").and_then(Value::as_str)
                    && !password.is_empty()
                    && !from_variables.contains(password)
                {
                    let what = "is written in the template; name a variable there: `$NAME`";
                    self.report(Rule::Secret, &format!("{pointer}/password"), what);
                }
            }
        }
    }

    /// Desired properties, to any depth a document may have.
    fn twin(&mut self, name: &str, value: &Value, pointer: &str) {
        match value {
            Value::String(text) => self.secret(name, text, pointer),
            Value::Object(entries) => {
                for (key, value) in entries {
                    self.twin(key, value, &format!("{pointer}/{}", escaped(key)));
                }
            }
            Value::Array(items) => {
                for (at, value) in items.iter().enumerate() {
                    self.twin(name, value, &format!("{pointer}/{at}"));
                }
            }
            _ => {}
        }
    }
}

fn list(value: Option<&Value>) -> impl Iterator<Item = (usize, &Value)> {
    value.and_then(Value::as_array).into_iter().flatten().enumerate()
}

/// Whether an image's reference has neither a digest nor a tag but `latest`.
fn floats(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or(image);
    !image.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(document: &Value) -> Vec<(Rule, String)> {
        check(document, &["from-variable".to_owned()].into())
            .into_iter()
            .map(|finding| (finding.rule, finding.pointer))
            .collect()
    }

    fn manifest(options: &Value, env: &Value) -> Value {
        let module = json!({"env": env, "settings": {"image": "a:1", "createOptions": options}});
        json!({"modulesContent": {"$edgeAgent": {DESIRED: {"modules": {"m": module}}}}})
    }

    const MODULE: &str = "/modulesContent/$edgeAgent/properties.desired/modules/m";

    #[test]
    fn each_rule_finds_its_own_wherever_options_are_text_or_object() {
        for (options, rule, below) in [
            (json!({"HostConfig": {"Privileged": true}}), Rule::Privileged, "HostConfig/Privileged"),
            (json!({"HostConfig": {"Privileged": "true"}}), Rule::Privileged, "HostConfig/Privileged"),
            (json!({"HostConfig": {"NetworkMode": "host"}}), Rule::HostNamespace, "HostConfig/NetworkMode"),
            (json!({"HostConfig": {"CapAdd": ["NET_ADMIN"]}}), Rule::Capability, "HostConfig/CapAdd/0"),
            (json!({"HostConfig": {"Binds": ["v:/a", "/etc:/b:ro"]}}), Rule::HostBind, "HostConfig/Binds/1"),
            (
                json!({"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/a"}]}}),
                Rule::HostBind,
                "HostConfig/Mounts/0",
            ),
            (
                json!({"HostConfig": {"Devices": [{"PathOnHost": "/dev/mem"}]}}),
                Rule::Device,
                "HostConfig/Devices/0",
            ),
            (
                json!({"HostConfig": {"PortBindings": {"5678/tcp": []}}}),
                Rule::DebugPort,
                "HostConfig/PortBindings/5678~1tcp",
            ),
            (json!({"ExposedPorts": {"22/tcp": {}}}), Rule::DebugPort, "ExposedPorts/22~1tcp"),
            (json!({"Env": ["A=1", "MY_TOKEN=abc"]}), Rule::Secret, "Env/1"),
            (json!({"Cmd": ["--hub", "HostName=h;SharedAccessKey=k="]}), Rule::Secret, "Cmd/1"),
        ] {
            let expected = [(rule, format!("{MODULE}/settings/createOptions/{below}"))];
            assert_eq!(found(&manifest(&options, &json!({}))), expected);
            assert_eq!(found(&manifest(&options.to_string().into(), &json!({}))), expected);
        }
    }

    #[test]
    fn what_a_camera_module_needs_is_no_finding() {
        let options = json!({
            "ExposedPorts": {"80/tcp": {}},
            "HostConfig": {
                "Devices": [{"PathOnHost": "/dev/video0"}, {"PathOnHost": "/dev/snd"}],
                "Binds": ["clips:/clips"], "Privileged": false, "NetworkMode": "bridge",
            },
        });
        assert_eq!(
            found(&manifest(&options, &json!({"THRESHOLD": {"value": "0.6"}, "N": {"value": 3}}))),
            []
        );
    }

    #[test]
    fn secrets_in_env_twins_and_registries_are_found_and_not_shown() {
        let mut document = manifest(&json!({}), &json!({"DB_PASSWORD": {"value": "hunter2"}}));
        document["modulesContent"]["m"] = json!({DESIRED: {"a": [{"apiKey": "hunter2"}]}});
        document["modulesContent"]["$edgeAgent"][DESIRED]["runtime"] = json!({"settings": {"registryCredentials": {
            "a": {"password": "hunter2"}, "b": {"password": "from-variable"}
        }}});
        let findings = check(&document, &["from-variable".to_owned()].into());
        let pointers: Vec<_> = findings.iter().map(|finding| finding.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            [
                &format!("{MODULE}/env/DB_PASSWORD/value"),
                "/modulesContent/$edgeAgent/properties.desired/runtime/settings/registryCredentials/a/password",
                "/modulesContent/m/properties.desired/a/0/apiKey",
            ]
        );
        assert!(findings.iter().all(|finding| !finding.to_string().contains("hunter2")));
    }

    #[test]
    fn images_float_without_version_and_digest() {
        for (image, expected) in [
            ("a", true),
            ("a:latest", true),
            ("host:5000/a", true),
            ("host:5000/a:1", false),
            ("a@sha256:00", false),
        ] {
            assert_eq!(floats(image), expected, "{image}");
        }
    }
}
