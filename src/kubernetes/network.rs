//! Ports: what a module's container listens on, and where its node opens it.
//!
//! In Docker's network a module is reached under its name on every port it listens on, whatever is opened on the host.
//! A headless `Service` does the same. A port that is opened on the host gets a `LoadBalancer`, which on K3s opens it on
//! the nodes, or, where each device runs the module, a port of the node itself.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::docker::{CreateOptions, Port};
use super::{Notes, Writer, selector};

/// A port of a container: its number and `TCP`, `UDP` or `SCTP`.
pub(super) type Key = (u16, &'static str);

/// The ports of a module.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// The port of the container → the ports of the host, where there are any.
    pub(super) all: BTreeMap<Key, Vec<u16>>,
    /// Whether all of the host's are for the host itself.
    local: bool,
}

impl Ports {
    pub(super) fn of(module: &str, options: &CreateOptions, notes: &mut Notes) -> Self {
        let mut ports = Self { all: BTreeMap::new(), local: true };
        for text in options.exposed_ports.iter().flatten().map(|(port, _)| port) {
            match parse(text) {
                Some(key) => drop(ports.all.entry(key).or_default()),
                None => notes.problem(module, "/settings/createOptions/ExposedPorts", bad(text)),
            }
        }
        let place = "/settings/createOptions/HostConfig/PortBindings";
        let bindings = options.host_config.iter().filter_map(|host| host.port_bindings.as_ref()).flatten();
        for (text, bindings) in bindings {
            let Some(key) = parse(text) else {
                notes.problem(module, place, bad(text));
                continue;
            };
            let opened = ports.all.entry(key).or_default();
            for binding in bindings.iter().flatten() {
                let number = match &binding.host_port {
                    Some(Port::Number(number)) => Some(*number).filter(|number| *number > 0),
                    Some(Port::Text(text)) if !text.is_empty() => {
                        text.parse().ok().filter(|number| *number > 0)
                    }
                    _ => {
                        notes.warn(
                            module,
                            format_args!("port {text} has no port of the host, its own is taken"),
                        );
                        Some(key.0)
                    }
                };
                match number {
                    Some(number) => opened.push(number),
                    None => notes.problem(module, place, "has a `HostPort` that is no port"),
                }
                let ip = binding.host_ip.as_deref().unwrap_or_default();
                ports.local &= ip.starts_with("127.") || ip == "::1" || ip == "localhost";
            }
            opened.sort_unstable();
            opened.dedup();
        }
        ports
    }

    /// The container's list of ports; with `host` they are opened on the node too.
    pub(super) fn of_container(&self, host: bool) -> Value {
        self.all
            .iter()
            .flat_map(|((port, protocol), opened)| {
                let plain = json!({"containerPort": port, "protocol": protocol});
                let on_host = opened.iter().map(
                    move |number| json!({"containerPort": port, "protocol": protocol, "hostPort": number}),
                );
                if host && !opened.is_empty() { on_host.collect::<Vec<_>>() } else { vec![plain] }
            })
            .collect()
    }

    /// The services under the module's name.
    pub(super) fn services(&self, label: &str, on_nodes: bool, kind: Option<&str>, writer: &mut Writer<'_>) {
        let listed = |ports: Vec<(u16, Key)>| -> Value {
            ports
                .into_iter()
                .map(|(port, (target, protocol))| {
                    let name = format!("{}-{port}", protocol.to_lowercase());
                    json!({"name": name, "port": port, "targetPort": target, "protocol": protocol})
                })
                .collect()
        };
        let mut spec = json!({
            "clusterIP": "None",
            // A name in Docker's network does not wait for a module to be well.
            "publishNotReadyAddresses": true,
            "selector": selector(label),
        });
        if !self.all.is_empty() {
            spec["ports"] = listed(self.all.keys().map(|key| (key.0, *key)).collect());
        }
        writer.object("v1", "Service", label, label, json!({ "spec": spec }));
        let mut seen = std::collections::BTreeSet::new();
        let opened: Vec<_> = self
            .all
            .iter()
            .flat_map(|(key, opened)| opened.iter().map(move |port| (*port, *key)))
            .filter(|(port, key)| seen.insert((*port, key.1)))
            .collect();
        if opened.is_empty() || on_nodes {
            return;
        }
        let kind = kind.unwrap_or(if self.local { "ClusterIP" } else { "LoadBalancer" });
        let spec = json!({"type": kind, "selector": selector(label), "ports": listed(opened)});
        writer.object("v1", "Service", &format!("{label}-host"), label, json!({ "spec": spec }));
    }
}

fn bad(port: &str) -> String {
    format!("names `{}`, which is no `<port>/<tcp|udp|sctp>`", port.escape_debug())
}

fn parse(text: &str) -> Option<Key> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => "TCP",
        "udp" => "UDP",
        "sctp" => "SCTP",
        _ => return None,
    };
    Some((number.parse().ok().filter(|number| *number > 0)?, protocol))
}
