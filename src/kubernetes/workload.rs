//! One module: its pod, what starts it, its settings.

use mynah_contracts::iot_edge::{EdgeModule, ImagePullPolicy, ModuleStatus, RestartPolicy};
use mynah_contracts::{Module, Platform, Sha256Digest};
use serde_json::{Map, Value, json};

use super::docker::{CreateOptions, Healthcheck, HostConfig, says_nothing};
use super::network::Ports;
use super::storage::{AUDIO_GROUP, Storage, VIDEO_GROUP};
use super::{Writer, labels, name, selector, set};
use crate::cluster::MODEL_ANNOTATION;
use crate::manifest::secret;
use crate::oci::runtime_image;

/// The runtime's setting for its hub, and the value that only a device of IoT Edge can fulfil.
const HUB: &str = "MYNAH_HUB";
const EDGE: &str = "edge";

/// Where a module finds its desired properties as a file.
const TWIN_FOLDER: &str = "/etc/mynah/twin";

/// A module on its way to Kubernetes.
pub(super) struct Workload<'a> {
    pub(super) name: &'a str,
    /// Its name there.
    pub(super) label: &'a str,
    pub(super) module: &'a EdgeModule,
    pub(super) options: &'a CreateOptions,
}

/// A module's environment, taken apart.
#[derive(Default)]
struct Settings {
    plain: Map<String, Value>,
    /// In the container itself: names a `ConfigMap` cannot hold, and references to secrets.
    listed: Vec<Value>,
}

impl Workload<'_> {
    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        let (label, host) = (self.label, self.options.host_config.as_ref());
        self.tell_what_is_left_out(writer);
        let everywhere = writer.cluster.node_label.is_some();
        // A DaemonSet cannot be stopped.
        let everywhere = everywhere && self.module.status == ModuleStatus::Running;
        writer.object("v1", "ServiceAccount", label, label, json!({"automountServiceAccountToken": false}));
        let settings = self.settings(writer);
        let mut storage = Storage::of(self.name, self.options, writer);
        let mut configured = Vec::new();
        let env = format!("{label}-env");
        if !settings.plain.is_empty() {
            configured.push(Value::Object(settings.plain.clone()));
            writer.object("v1", "ConfigMap", &env, label, json!({"data": settings.plain}));
        }
        if let Some(twin) = self.twin(writer) {
            let name = format!("{label}-twin");
            configured.push(twin.clone());
            storage.volumes.push(json!({"name": "twin", "configMap": {"name": name}}));
            storage.mounts.push(json!({"name": "twin", "mountPath": TWIN_FOLDER, "readOnly": true}));
            writer.object("v1", "ConfigMap", &name, label, json!({"data": {"desired.json": twin}}));
            writer.notes.warn(
                self.name,
                format_args!("there is no twin: its desired properties are in {TWIN_FOLDER}/desired.json"),
            );
        }
        let on_host = host.is_some_and(|host| host.network_mode.as_deref() == Some("host"));
        let ports = Ports::of(self.name, self.options, &mut writer.notes);
        let service = self.options.kubernetes.as_ref().and_then(|k| k.service_options.as_ref());
        let service = service.and_then(|options| options.get("type")).and_then(Value::as_str);
        ports.services(label, everywhere || on_host, service, writer);

        let container = self.container(&settings, &env, &ports, &mut storage, everywhere, writer);
        let pod = self.pod(container, &storage, on_host, writer);
        let mut annotations = self.annotations(writer);
        if !configured.is_empty() {
            // A changed setting starts the module anew, as IoT Edge does.
            let digest = Sha256Digest::of(Value::Array(configured).to_string().as_bytes());
            annotations.insert("mynah/settings-digest".into(), digest.to_string().into());
        }
        if let Some(model) = self.built(writer).and_then(|module| module.model) {
            // What a deployment waits for, and a new model starts the pod anew even under the same image.
            annotations.insert(MODEL_ANNOTATION.into(), model.to_string().into());
        }
        let mut metadata = json!({"labels": labels(Some(label))});
        if !annotations.is_empty() {
            metadata["annotations"] = Value::Object(annotations);
        }
        let mut spec = json!({
            "selector": {"matchLabels": selector(label)},
            "template": {"metadata": metadata, "spec": pod},
        });
        let kind = if everywhere { "DaemonSet" } else { "Deployment" };
        let strategy = self.options.kubernetes.as_ref().and_then(|k| k.strategy.clone());
        if everywhere {
            spec["updateStrategy"] = json!({"type": "RollingUpdate"});
        } else {
            spec["replicas"] = u8::from(self.module.status == ModuleStatus::Running).into();
            // A camera, a port of the host or a volume is one's own: the new pod would wait for the old one for ever.
            spec["strategy"] = strategy.map_or_else(|| json!({"type": "Recreate"}), Value::Object);
        }
        writer.object("apps/v1", kind, label, label, json!({ "spec": spec }));
        if let Some(object) = writer.objects.last_mut()
            && let Some(order) = self.module.startup_order
        {
            object["metadata"]["annotations"] = json!({"mynah/startup-order": order.to_string()});
        }
    }

    fn tell_what_is_left_out(&self, writer: &mut Writer<'_>) {
        let empty = Map::new();
        let host = self.options.host_config.as_ref().map_or(&empty, |host| &host.rest);
        let extension = self.options.kubernetes.as_ref().map_or(&empty, |extension| &extension.rest);
        for (below, rest) in
            [("", &self.options.rest), ("HostConfig/", host), ("k8s-experimental/", extension)]
        {
            for (key, _) in rest.iter().filter(|(_, value)| !says_nothing(value)) {
                let what = format!("createOptions/{below}{key} has no counterpart and is left out");
                writer.notes.warn(self.name, what.escape_debug());
            }
        }
        let policy = self.module.restart_policy;
        if matches!(policy, RestartPolicy::Never | RestartPolicy::OnFailure) {
            let what =
                format!("restartPolicy `{}` becomes `always`: a pod is started again", policy.as_str());
            writer.notes.warn(self.name, what);
        }
    }

    /// The environment: the manifest's `env` wins over `Env` of Docker's options, as in edgeAgent.
    fn settings(&self, writer: &mut Writer<'_>) -> Settings {
        let mut all = std::collections::BTreeMap::new();
        for entry in self.options.env.iter().flatten() {
            match entry.split_once('=') {
                Some((name, value)) => drop(all.insert(name.to_owned(), value.to_owned())),
                None => {
                    writer.notes.warn(self.name, format_args!("Env `{}` has no value", entry.escape_debug()));
                }
            }
        }
        for (name, entry) in self.module.env.iter().flatten() {
            all.insert(name.to_string(), entry.value.to_string());
        }
        if all.get(HUB).is_some_and(|hub| hub == EDGE) {
            all.remove(HUB);
            let what = format!(
                "`{HUB}` is `{EDGE}`, which a cluster does not have: it is left out; name a broker or `device`"
            );
            writer.notes.warn(self.name, what);
        }
        let mut settings = Settings::default();
        let secrets = format!("{}-secrets", self.label);
        for (name, value) in all {
            if secret::reason(&name, &value).is_some() {
                let key = name::secret_key(&name);
                writer
                    .notes
                    .need(format!("the Secret `{secrets}` with the key `{key}`: its value is not written"));
                let reference = json!({"secretKeyRef": {"name": secrets, "key": key}});
                settings.listed.push(json!({"name": name, "valueFrom": reference}));
            } else if name::is_variable(&name) {
                settings.plain.insert(name, value.into());
            } else {
                // `$(NAME)` would be replaced here; `$$` stays a dollar sign.
                settings.listed.push(json!({"name": name, "value": value.replace("$(", "$$(")}));
            }
        }
        settings
    }

    fn twin(&self, writer: &Writer<'_>) -> Option<Value> {
        let twins = &writer.deployment.modules_content.twins;
        let (_, twin) = twins.iter().find(|(name, _)| name.as_str() == self.name)?;
        let mut text = serde_json::to_string_pretty(&twin.desired).ok()?;
        text.push('\n');
        Some(text.into())
    }

    fn annotations(&self, writer: &mut Writer<'_>) -> Map<String, Value> {
        let mut annotations = Map::new();
        for (key, value) in self.options.labels.iter().flatten() {
            if name::is_qualified(key) {
                annotations.insert(key.clone(), value.clone().into());
            } else {
                let what = format!("the label `{key}` cannot be an annotation and is left out");
                writer.notes.warn(self.name, what.escape_debug());
            }
        }
        annotations
    }

    fn container(
        &self,
        settings: &Settings,
        env: &str,
        ports: &Ports,
        storage: &mut Storage,
        everywhere: bool,
        writer: &mut Writer<'_>,
    ) -> Value {
        let mut container = Map::new();
        container.insert("name".into(), self.label.into());
        container.insert("image".into(), self.module.settings.image.as_str().into());
        let pull = match self.module.image_pull_policy {
            Some(ImagePullPolicy::Never) => "Never",
            Some(ImagePullPolicy::OnCreate) | None => "IfNotPresent",
        };
        container.insert("imagePullPolicy".into(), pull.into());
        // Kubernetes would replace `$(NAME)`, Docker does not.
        let words = |words: Option<&super::docker::Words>| -> Value {
            words.iter().flat_map(|words| words.words()).map(|word| word.replace("$(", "$$(")).collect()
        };
        set(&mut container, "command", words(self.options.entrypoint.as_ref()));
        set(&mut container, "args", words(self.options.cmd.as_ref()));
        set(&mut container, "workingDir", self.options.working_dir.clone());
        if !settings.plain.is_empty() {
            container.insert("envFrom".into(), json!([{"configMapRef": {"name": env}}]));
        }
        set(&mut container, "env", settings.listed.clone());
        set(&mut container, "ports", ports.of_container(everywhere));
        set(&mut container, "volumeMounts", storage.mounts.clone());
        set(&mut container, "resources", self.resources(storage));
        self.probes(&mut container, writer);
        container.insert("securityContext".into(), self.container_rights(storage, writer));
        Value::Object(container)
    }

    fn resources(&self, storage: &Storage) -> Value {
        let (mut limits, mut requests) = (Map::new(), Map::new());
        if let Some(host) = &self.options.host_config {
            let bytes = |bytes: Option<u64>| bytes.filter(|bytes| *bytes > 0).map(|bytes| bytes.to_string());
            set(&mut limits, "memory", bytes(host.memory));
            set(&mut requests, "memory", bytes(host.memory_reservation));
            let cpus = host.nano_cpus.filter(|cpus| *cpus > 0);
            set(&mut limits, "cpu", cpus.map(|cpus| format!("{}m", cpus.div_ceil(1_000_000))));
        }
        for (name, count) in &storage.resources {
            limits.insert(name.clone(), count.to_string().into());
        }
        let mut resources = Map::new();
        set(&mut resources, "limits", limits);
        set(&mut resources, "requests", requests);
        let mut resources = Value::Object(resources);
        for (key, wish) in self.options.kubernetes.iter().filter_map(|k| k.resources.as_ref()).flatten() {
            for (name, amount) in wish.as_object().into_iter().flatten() {
                resources[key][name] = amount.clone();
            }
        }
        resources
    }

    fn probes(&self, container: &mut Map<String, Value>, writer: &Writer<'_>) {
        if let Some(probe) = writer.cluster.probes.get(self.name) {
            let get = json!({"path": probe.path, "port": probe.port});
            container.insert(
                "livenessProbe".into(),
                json!({"httpGet": get, "periodSeconds": 30, "failureThreshold": 3}),
            );
            container.insert("readinessProbe".into(), json!({"httpGet": get, "periodSeconds": 10}));
            container.insert(
                "startupProbe".into(),
                json!({"httpGet": get, "periodSeconds": 5, "failureThreshold": 60}),
            );
        } else if let Some(probe) = self.options.healthcheck.as_ref().and_then(exec_probe) {
            container.insert("livenessProbe".into(), probe);
        }
    }

    fn container_rights(&self, storage: &Storage, writer: &mut Writer<'_>) -> Value {
        let host = self.options.host_config.as_ref();
        if storage.privileged || host.is_some_and(|host| host.privileged) {
            writer.notes.warn(self.name, "runs privileged, with every right on its node");
            return json!({"privileged": true});
        }
        let mut rights = json!({"allowPrivilegeEscalation": false});
        let mut capabilities = Map::new();
        let plain = |names: Option<&Vec<String>>| -> Value {
            names.into_iter().flatten().map(|name| name.trim_start_matches("CAP_").to_owned()).collect()
        };
        set(&mut capabilities, "add", plain(host.and_then(|host| host.cap_add.as_ref())));
        if self.built(writer).is_some_and(|module| module.model.is_some()) {
            // Our own runtime, which needs no rights and whose image names a user.
            capabilities.insert("drop".into(), json!(["ALL"]));
            rights["runAsNonRoot"] = true.into();
        } else {
            set(&mut capabilities, "drop", plain(host.and_then(|host| host.cap_drop.as_ref())));
        }
        if !capabilities.is_empty() {
            rights["capabilities"] = Value::Object(capabilities);
        }
        if host.is_some_and(|host| host.readonly_rootfs) {
            rights["readOnlyRootFilesystem"] = true.into();
        }
        rights
    }

    fn pod(&self, container: Value, storage: &Storage, on_host: bool, writer: &mut Writer<'_>) -> Value {
        let mut pod = Map::new();
        pod.insert("serviceAccountName".into(), self.label.into());
        pod.insert("automountServiceAccountToken".into(), false.into());
        pod.insert("enableServiceLinks".into(), false.into());
        set(&mut pod, "hostname", self.options.hostname.as_deref().and_then(name::label));
        set(&mut pod, "terminationGracePeriodSeconds", self.options.stop_timeout);
        pod.insert("securityContext".into(), self.pod_rights(storage, writer));
        let host = self.options.host_config.as_ref();
        let is_host = |mode: fn(&HostConfig) -> Option<&str>| host.and_then(mode) == Some("host");
        if on_host {
            pod.insert("hostNetwork".into(), true.into());
            pod.insert("dnsPolicy".into(), "ClusterFirstWithHostNet".into());
        }
        set(&mut pod, "hostPID", is_host(|host| host.pid_mode.as_deref()));
        set(&mut pod, "hostIPC", is_host(|host| host.ipc_mode.as_deref()));
        let mut aliases = Vec::new();
        for entry in host.and_then(|host| host.extra_hosts.as_ref()).into_iter().flatten() {
            if let Some((name, ip)) =
                entry.split_once(':').filter(|(_, ip)| ip.parse::<std::net::IpAddr>().is_ok())
            {
                aliases.push(json!({"ip": ip, "hostnames": [name]}));
            } else {
                let what = format!("ExtraHosts `{entry}` names no address and is left out");
                writer.notes.warn(self.name, what.escape_debug());
            }
        }
        set(&mut pod, "hostAliases", aliases);
        self.placement(&mut pod, writer);
        set(&mut pod, "imagePullSecrets", self.pull_secrets(writer));
        pod.insert("containers".into(), Value::Array(vec![container]));
        set(&mut pod, "volumes", storage.volumes.clone());
        Value::Object(pod)
    }

    fn pod_rights(&self, storage: &Storage, writer: &mut Writer<'_>) -> Value {
        let mut rights = Map::from_iter([("seccompProfile".to_owned(), json!({"type": "RuntimeDefault"}))]);
        if let Some(user) = self.options.user.as_deref().filter(|user| !user.is_empty()) {
            let (user, group) =
                user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
            match (user.parse::<u32>(), group.map(str::parse::<u32>).transpose()) {
                (Ok(user), Ok(group)) => {
                    rights.insert("runAsUser".into(), user.into());
                    rights.extend(group.map(|group| ("runAsGroup".to_owned(), group.into())));
                }
                _ => writer.notes.warn(self.name, "its User is a name, which only its image knows: left out"),
            }
        }
        let mut groups = storage.groups.clone();
        for group in self.options.host_config.iter().filter_map(|host| host.group_add.as_ref()).flatten() {
            let known = match group.as_str() {
                "audio" => Some(AUDIO_GROUP),
                "video" => Some(VIDEO_GROUP),
                number => number.parse().ok(),
            };
            if known.is_none() {
                let what = format!("the group `{group}` has no known number and is left out");
                writer.notes.warn(self.name, what.escape_debug());
            }
            groups.extend(known);
        }
        groups.sort_unstable();
        groups.dedup();
        set(&mut rights, "supplementalGroups", groups);
        if storage.is_claimed {
            // A new volume is root's. Docker gives it to the owner of the image's folder; here it takes a group of the pod.
            let group = rights.get("runAsGroup").cloned().unwrap_or_else(|| runtime_image::USER.into());
            rights.insert("fsGroup".into(), group);
            rights.insert("fsGroupChangePolicy".into(), "OnRootMismatch".into());
        }
        rights.extend(self.options.kubernetes.iter().filter_map(|k| k.security_context.clone()).flatten());
        Value::Object(rights)
    }

    /// On which nodes the module may run: those its image is for, those with the label.
    fn placement(&self, pod: &mut Map<String, Value>, writer: &Writer<'_>) {
        let mut nodes = Map::from_iter([("kubernetes.io/os".to_owned(), Value::from("linux"))]);
        let platforms = self.platforms(writer);
        match platforms.as_slice() {
            [] => {}
            [one] => drop(nodes.insert("kubernetes.io/arch".into(), one.architecture().into())),
            several => {
                let names: Vec<_> = several.iter().map(|platform| platform.architecture()).collect();
                let terms = json!([{"matchExpressions": [
                    {"key": "kubernetes.io/arch", "operator": "In", "values": names}
                ]}]);
                let required =
                    json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
                pod.insert("affinity".into(), json!({ "nodeAffinity": required }));
            }
        }
        if let Some((key, value)) = &writer.cluster.node_label {
            nodes.insert(key.clone(), value.clone().into());
        }
        nodes.extend(self.options.kubernetes.iter().filter_map(|k| k.node_selector.clone()).flatten());
        pod.insert("nodeSelector".into(), Value::Object(nodes));
    }

    /// The built module this one's image is of.
    fn built<'w>(&self, writer: &Writer<'w>) -> Option<&'w Module> {
        let image = self.module.settings.image.as_str();
        writer.cluster.modules.modules.iter().find(|module| {
            image == module.pinned()
                || module.platforms.iter().any(|of| {
                    image.strip_prefix(&module.repository).and_then(|rest| rest.strip_prefix('@'))
                        == Some(of.manifest.digest.to_string().as_str())
                })
        })
    }

    fn platforms(&self, writer: &Writer<'_>) -> Vec<Platform> {
        let Some(module) = self.built(writer) else { return Vec::new() };
        let all = module.platforms.iter().map(|image| image.platform);
        if self.module.settings.image.as_str() == module.pinned() {
            return all.collect();
        }
        let digest = self.module.settings.image.as_str().rsplit('@').next().unwrap_or_default();
        let of_digest = |image: &&mynah_contracts::PlatformImage| image.manifest.digest.to_string() == digest;
        module.platforms.iter().filter(of_digest).map(|image| image.platform).collect()
    }

    fn pull_secrets(&self, writer: &mut Writer<'_>) -> Vec<Value> {
        let registries =
            &writer.deployment.modules_content.agent.desired.runtime.settings.registry_credentials;
        let host =
            self.module.settings.image.as_str().split('/').next().unwrap_or_default().to_ascii_lowercase();
        let mut secrets = Vec::new();
        for (name, credentials) in registries.iter().flatten() {
            let address = credentials.address.as_str().to_ascii_lowercase();
            let address = address.trim_start_matches("https://").trim_end_matches('/');
            let Some(secret) = name::label(name.as_str()).filter(|_| address == host) else { continue };
            writer.notes.need(format!(
                "the Secret `{secret}` of the type docker-registry for {}: its password is not written",
                address.escape_debug()
            ));
            secrets.push(json!({ "name": secret }));
        }
        secrets
    }
}

/// Docker's health check as a probe; nothing where it is switched off or left to the image.
fn exec_probe(check: &Healthcheck) -> Option<Value> {
    let (kind, words) = check.test.split_first()?;
    let command: Vec<&str> = match kind.as_str() {
        "CMD" if !words.is_empty() => words.iter().map(String::as_str).collect(),
        "CMD-SHELL" => ["/bin/sh", "-c"].into_iter().chain(words.iter().map(String::as_str)).collect(),
        _ => return None,
    };
    let seconds = |nanoseconds: u64, default: u64| {
        if nanoseconds == 0 { default } else { nanoseconds.div_ceil(1_000_000_000) }
    };
    // Docker's own defaults: Engine API, `HealthConfig`.
    Some(json!({
        "exec": {"command": command},
        "periodSeconds": seconds(check.interval, 30),
        "timeoutSeconds": seconds(check.timeout, 30),
        "failureThreshold": if check.retries == 0 { 3 } else { check.retries },
        "initialDelaySeconds": seconds(check.start_period, 0),
    }))
}
