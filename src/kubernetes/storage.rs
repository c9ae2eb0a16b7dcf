//! What a module sees of its node: folders, volumes, devices.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::docker::{CreateOptions, HostConfig};
use super::{DeviceAccess, Notes, Writer, name};

/// Debian's and Raspberry Pi OS' numbers of the groups that own cameras and sound cards.
pub(super) const VIDEO_GROUP: u32 = 44;
pub(super) const AUDIO_GROUP: u32 = 29;

/// What a node's owner grants the claim of a named volume; Docker's volumes have no size of their own.
const CLAIM: &str = "1Gi";

/// What becomes of folders, volumes and devices in a pod.
#[derive(Debug, Default)]
pub(super) struct Storage {
    pub(super) volumes: Vec<Value>,
    pub(super) mounts: Vec<Value>,
    /// Resources of a device plugin.
    pub(super) resources: BTreeMap<String, u32>,
    /// Groups that may open the devices.
    pub(super) groups: Vec<u32>,
    pub(super) privileged: bool,
    /// Whether the module writes to a claimed volume.
    pub(super) is_claimed: bool,
}

impl Storage {
    pub(super) fn of(module: &str, options: &CreateOptions, writer: &mut Writer<'_>) -> Self {
        let mut storage = Self::default();
        let Some(host) = &options.host_config else { return storage };
        storage.devices(module, host, writer);
        storage.binds(module, host, writer);
        storage
    }

    fn mount(&mut self, source: Value, target: &str, read_only: bool) {
        let name = format!("volume-{}", self.volumes.len());
        let mut volume = Map::from_iter([("name".to_owned(), Value::from(name.clone()))]);
        if let Value::Object(source) = source {
            volume.extend(source);
        }
        self.volumes.push(Value::Object(volume));
        let mut mount = json!({"name": name, "mountPath": target});
        if read_only {
            mount["readOnly"] = true.into();
        }
        self.mounts.push(mount);
    }

    fn devices(&mut self, module: &str, host: &HostConfig, writer: &mut Writer<'_>) {
        let Writer { cluster, devices: asked, notes, .. } = writer;
        let listed = host.devices.iter().flatten().map(|device| {
            let inside = if device.path_in_container.is_empty() {
                &device.path_on_host
            } else {
                &device.path_in_container
            };
            (device.path_on_host.as_str(), inside.as_str())
        });
        // People bind devices like folders, mostly in addition.
        let bound = host.binds.iter().flatten().filter_map(|bind| {
            let mut parts = bind.split(':');
            Some((parts.next().filter(|path| path.starts_with("/dev/"))?, parts.next()?))
        });
        let devices: BTreeMap<&str, &str> = bound.chain(listed).collect();
        for (path, inside) in devices {
            let device = path.trim_start_matches("/dev/");
            let (group, id) = if device.starts_with("video") || device.starts_with("media") {
                (Some("video".to_owned()), Some(VIDEO_GROUP))
            } else if device.starts_with("snd") {
                (Some("sound".to_owned()), Some(AUDIO_GROUP))
            } else {
                (name::label(device), None)
            };
            self.groups.extend(id);
            asked.insert(path.to_owned());
            if let Some(named) = cluster.resources.get(path) {
                // One unit is one device.
                *self.resources.entry(named.as_str().to_owned()).or_default() += 1;
                notes.need(format!(
                    "a device plugin that offers `{}` for {}",
                    named.as_str(),
                    path.escape_debug()
                ));
                under_its_own_name(module, path, inside, notes);
                continue;
            }
            let folder = device == "snd" || device == "dri" || path.ends_with('/');
            let kind = if folder { "Directory" } else { "CharDevice" };
            match (cluster.devices, group) {
                (DeviceAccess::Plugin, Some(group)) => {
                    notes.need(format!(
                        "generic-device-plugin on the nodes, with the group `{group}` for {}",
                        path.escape_debug()
                    ));
                    self.resources.insert(format!("squat.ai/{group}"), 1);
                    under_its_own_name(module, path, inside, notes);
                }
                (DeviceAccess::Plugin, None) => {
                    notes.problem(module, "/settings/createOptions/HostConfig/Devices", "names no device");
                }
                (DeviceAccess::HostPath | DeviceAccess::Privileged, _) => {
                    self.mount(json!({"hostPath": {"path": path, "type": kind}}), inside, false);
                    if cluster.devices == DeviceAccess::Privileged {
                        self.privileged = true;
                    } else {
                        let what =
                            format!("{path} is mounted, but most container runtimes let nobody open it");
                        notes.warn(module, what.escape_debug());
                    }
                }
            }
        }
    }

    fn binds(&mut self, module: &str, host: &HostConfig, writer: &mut Writer<'_>) {
        let place = "/settings/createOptions/HostConfig";
        for bind in host.binds.iter().flatten() {
            let mut parts = bind.split(':');
            match (parts.next(), parts.next(), parts.next(), parts.next()) {
                (Some(source), Some(target), mode, None) if target.starts_with('/') => {
                    let read_only = mode.is_some_and(|mode| mode.split(',').any(|word| word == "ro"));
                    if !source.starts_with("/dev/") {
                        self.source(module, source, target, read_only, writer);
                    }
                }
                _ => {
                    let what = format!("has `{}`, which is no `<source>:<target>[:ro]`", bind.escape_debug());
                    writer.notes.problem(module, &format!("{place}/Binds"), what);
                }
            }
        }
        for mount in host.mounts.iter().flatten() {
            match mount.kind.as_str() {
                "bind" | "volume" => {
                    self.source(module, &mount.source, &mount.target, mount.read_only, writer);
                }
                "tmpfs" => self.mount(json!({"emptyDir": {"medium": "Memory"}}), &mount.target, false),
                other => {
                    let what = format!("has a mount of the type `{}`", other.escape_debug());
                    writer.notes.problem(module, &format!("{place}/Mounts"), what);
                }
            }
        }
        for (target, options) in host.tmpfs.iter().flatten() {
            let mut source = json!({"emptyDir": {"medium": "Memory"}});
            match options.split(',').find_map(|option| option.strip_prefix("size=")).map(quantity) {
                Some(Some(size)) => source["emptyDir"]["sizeLimit"] = size.into(),
                Some(None) => writer.notes.warn(module, "has a tmpfs with a size that is not understood"),
                None => {}
            }
            self.mount(source, target, false);
        }
    }

    /// A folder or socket of the node, or a named volume.
    fn source(&mut self, module: &str, source: &str, target: &str, read_only: bool, writer: &mut Writer<'_>) {
        if source.starts_with('/') {
            let socket = Path::new(source).extension().is_some_and(|extension| extension == "sock");
            let kind = if socket { "Socket" } else { "DirectoryOrCreate" };
            self.mount(json!({"hostPath": {"path": source, "type": kind}}), target, read_only);
            if !socket && !read_only {
                // No group of the pod reaches a node's folder.
                writer.notes.need(format!(
                    "the folder `{}` on the node, writable for the user of the module `{module}`: a missing one is made \
                     for root alone",
                    source.escape_debug()
                ));
            }
            return;
        }
        let claim = if source.contains(['/', '\\']) { None } else { name::label(source) };
        let Some(claim) = claim else {
            let what = format!(
                "mounts `{}`, which is neither a folder of a node nor a volume",
                source.escape_debug()
            );
            writer.notes.problem(module, "/settings/createOptions/HostConfig", what);
            return;
        };
        match writer.volumes.get(&claim) {
            None => {
                writer.volumes.insert(claim.clone(), source.to_owned());
                // K3s' own storage knows no other mode; pods of one node share it all the same.
                let spec = json!({
                    "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": CLAIM}},
                });
                writer.object("v1", "PersistentVolumeClaim", &claim, &claim, json!({ "spec": spec }));
            }
            Some(other) if other != source => {
                let what = format!("mounts the volume `{source}`, which would be called as `{other}` is");
                writer.notes.problem(module, "/settings/createOptions/HostConfig", what);
            }
            Some(_) => {}
        }
        if writer.cluster.node_label.is_some() {
            writer.notes.warn(
                module,
                format_args!("the volume `{claim}` is of one node; on the others the module waits for it"),
            );
        }
        self.is_claimed |= !read_only;
        self.mount(json!({"persistentVolumeClaim": {"claimName": claim}}), target, read_only);
    }
}

/// Tells that a device plugin gives a device the name that it has on the node.
fn under_its_own_name(module: &str, path: &str, inside: &str, notes: &mut Notes) {
    if inside != path {
        let what = format!("sees {path} under its own name, not as {inside}");
        notes.warn(module, what.escape_debug());
    }
}

/// Docker's `64m` as Kubernetes' `64Mi`.
fn quantity(text: &str) -> Option<String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => "",
        "k" | "kb" => "Ki",
        "m" | "mb" => "Mi",
        "g" | "gb" => "Gi",
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}
