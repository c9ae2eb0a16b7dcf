//! From manifests to objects: a golden file, and each rule by itself.

use mynah_contracts::{
    Descriptor, Diagnosis as _, Module, Platform, PlatformImage, RelativePath, SchemaVersion, Sha256Digest,
    Tool,
};
use serde_json::json;

use super::*;
use crate::manifest::{DEFAULT_TEMPLATE, Sources, generate};

fn modules() -> ModuleSet {
    let descriptor = |text: &str| Descriptor {
        media_type: "application/vnd.oci.image.index.v1+json".into(),
        digest: Sha256Digest::of(text.as_bytes()),
        size: 1,
    };
    let image = |platform: Platform| PlatformImage {
        platform,
        manifest: descriptor(platform.as_str()),
        layers: Vec::new(),
    };
    ModuleSet {
        schema_version: SchemaVersion::CURRENT,
        tool: Tool::current(),
        modules: vec![Module {
            name: "mynah-runtime".into(),
            repository: "registry.example/mynah/runtime".into(),
            tag: "1-abc".into(),
            layout: RelativePath::new("mynah-runtime").unwrap(),
            index: descriptor("index"),
            platforms: vec![image(Platform::LinuxAmd64), image(Platform::LinuxArm64)],
            model: Some(Sha256Digest::of(b"model")),
        }],
    }
}

fn cluster(modules: &ModuleSet) -> Cluster<'_> {
    Cluster {
        namespace: "mynah".into(),
        node_label: None,
        devices: DeviceAccess::Plugin,
        resources: BTreeMap::new(),
        probes: BTreeMap::new(),
        modules,
    }
}

/// A manifest of one module `m` besides the runtime.
fn manifest(module: &Value, twin: Option<Value>) -> Vec<u8> {
    let mut template: Value = serde_json::from_str(DEFAULT_TEMPLATE).unwrap();
    let content = &mut template["modulesContent"];
    let mut whole = json!({"type": "docker", "status": "running", "restartPolicy": "always"});
    whole.as_object_mut().unwrap().extend(module.as_object().unwrap().clone());
    content["$edgeAgent"]["properties.desired"]["modules"]["m"] = whole;
    content["$edgeAgent"]["properties.desired"]["runtime"]["settings"]["registryCredentials"] =
        json!({"Mine": {"username": "u", "password": "hunter2", "address": "registry.example"}});
    if let Some(twin) = twin {
        content["m"] = json!({"properties.desired": twin});
    }
    generate(template.to_string().as_bytes(), &Sources::new(&modules())).unwrap().json
}

fn with_options(options: &Value) -> Vec<u8> {
    manifest(&json!({"settings": {"image": "a.example/m:1", "createOptions": options}}), None)
}

fn converted(manifest: &[u8]) -> Converted {
    let modules = modules();
    convert(manifest, &cluster(&modules)).unwrap()
}

fn find<'a>(converted: &'a Converted, kind: &str, name: &str) -> &'a Value {
    converted
        .objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("no {kind} {name}: {:#?}", converted.objects))
}

fn pod<'a>(converted: &'a Converted, kind: &str) -> &'a Value {
    &find(converted, kind, "m")["spec"]["template"]["spec"]
}

fn refused(options: &Value) -> String {
    let modules = modules();
    convert(&with_options(options), &cluster(&modules)).unwrap_err().to_string()
}

#[test]
fn the_default_manifest_is_the_golden_file() {
    let modules = modules();
    let generated = generate(DEFAULT_TEMPLATE.as_bytes(), &Sources::new(&modules)).unwrap();
    let converted = convert(&generated.json, &cluster(&modules)).unwrap();
    let yaml = String::from_utf8(render(&converted.objects, Form::Yaml).unwrap()).unwrap();
    insta::assert_snapshot!("default", yaml);
    let list: Value = serde_json::from_slice(&render(&converted.objects, Form::Json).unwrap()).unwrap();
    assert_eq!(list["items"].as_array().unwrap(), &converted.objects);
    let warned = |says: &str| converted.warnings.iter().any(|warning| warning.contains(says));
    assert!(
        warned("routes have no counterpart") && warned("`MYNAH_HUB` is `edge`"),
        "{:?}",
        converted.warnings
    );
    assert_eq!(converted.warnings.len(), 2);
}

#[test]
fn a_rich_module_is_the_golden_file() {
    let module = json!({
        "startupOrder": 0, "imagePullPolicy": "never",
        "env": {"LEVEL": {"value": "no"}, "N": {"value": 3}, "API_KEY": {"value": "hunter2"}, "A:B": {"value": "$(x)"}, "C:PASSWORD": {"value": "hunter2"}},
        "settings": {"image": "registry.example/m@sha256:00", "createOptions": {
            "Env": ["LEVEL=lost", "URL=a=b=c"], "Cmd": ["run", "--at", "$(HOME)"], "Entrypoint": "/m",
            "WorkingDir": "/w", "User": "1000:1000", "Labels": {"a.example/b": "c", "bad key": "x"}, "StopTimeout": 20,
            "ExposedPorts": {"80/tcp": {}},
            "Healthcheck": {"Test": ["CMD", "/m", "check"], "Interval": 5_000_000_000_u64, "Retries": 2},
            "HostConfig": {
                "PortBindings": {"8000/tcp": [{"HostPort": "80"}], "53/udp": [{"HostPort": 53, "HostIp": ""}]},
                "Binds": ["/home/pi/images:/images:ro", "clips:/clips", "/dev/video0:/dev/video0"],
                "Mounts": [{"Type": "tmpfs", "Target": "/t"}, {"Type": "volume", "Source": "clips", "Target": "/c2"}],
                "Tmpfs": {"/run": "rw,size=64m"}, "Memory": 268_435_456, "NanoCpus": 1_500_000_000_u64,
                "Devices": [{"PathOnHost": "/dev/video0", "PathInContainer": "/dev/video0"}, {"PathOnHost": "/dev/i2c-1"}],
                "GroupAdd": ["audio", "997"], "CapAdd": ["NET_ADMIN"], "CapDrop": ["CAP_CHOWN"],
                "ReadonlyRootfs": true, "ExtraHosts": ["hub:10.0.0.1"], "LogConfig": {"Type": "json-file"},
            },
            "k8s-experimental": {"nodeSelector": {"camera": "usb"}, "resources": {"requests": {"cpu": "100m"}}},
        }},
    });
    let converted = converted(&manifest(&module, Some(json!({"threshold": 0.7}))));
    let yaml = String::from_utf8(render(&converted.objects, Form::Yaml).unwrap()).unwrap();
    assert!(
        !yaml.contains("hunter2")
            && !format!("{:?}", (&converted.warnings, &converted.needs)).contains("hunter2")
    );
    insta::assert_snapshot!(
        "rich",
        format!("{yaml}\n# {:#?}\n# {:#?}\n", converted.warnings, converted.needs)
    );
}

#[test]
fn what_a_module_writes_to_takes_a_group_of_its_pod() {
    let rights = |options: Value| {
        let converted = converted(&with_options(&options));
        let mut folders = converted.needs.clone();
        folders.retain(|need| need.starts_with("the folder "));
        (pod(&converted, "Deployment")["securityContext"].clone(), folders)
    };
    let (claimed, needs) = rights(json!({"HostConfig": {"Binds": ["state:/var/lib/mynah"]}}));
    assert_eq!(
        (&claimed["fsGroup"], &claimed["fsGroupChangePolicy"]),
        (&json!(10001), &json!("OnRootMismatch"))
    );
    assert_eq!(needs, Vec::<String>::new());
    let own = json!({"User": "1000:1001", "HostConfig": {"Binds": ["state:/s"]}});
    assert_eq!(rights(own).0["fsGroup"], json!(1001));
    let (read, _) = rights(json!({"HostConfig": {"Binds": ["clips:/clips:ro"]}}));
    assert_eq!(read.get("fsGroup"), None);
    // A folder of the node stays as it is there.
    let (bound, needs) = rights(json!({"HostConfig": {"Binds": ["/srv/state:/s", "/srv/clips:/c:ro"]}}));
    assert_eq!(bound.get("fsGroup"), None);
    assert_eq!(needs.len(), 1);
    assert!(needs[0].starts_with("the folder `/srv/state` on the node, writable for"), "{needs:?}");
}

#[test]
fn devices_by_each_way_of_access() {
    let options =
        json!({"HostConfig": {"Devices": [{"PathOnHost": "/dev/video0"}, {"PathOnHost": "/dev/snd"}]}});
    let modules = modules();
    let by = |devices| convert(&with_options(&options), &Cluster { devices, ..cluster(&modules) }).unwrap();
    let plugin = by(DeviceAccess::Plugin);
    let container = &pod(&plugin, "Deployment")["containers"][0];
    assert_eq!(container["resources"]["limits"], json!({"squat.ai/video": "1", "squat.ai/sound": "1"}));
    assert_eq!(container["securityContext"], json!({"allowPrivilegeEscalation": false}));
    assert_eq!(pod(&plugin, "Deployment")["securityContext"]["supplementalGroups"], json!([29, 44]));
    assert_eq!(plugin.needs.iter().filter(|need| need.starts_with("generic-device-plugin")).count(), 2);
    let mounted = by(DeviceAccess::HostPath);
    let volumes = &pod(&mounted, "Deployment")["volumes"];
    assert_eq!(volumes[0]["hostPath"], json!({"path": "/dev/snd", "type": "Directory"}));
    assert_eq!(volumes[1]["hostPath"], json!({"path": "/dev/video0", "type": "CharDevice"}));
    assert!(pod(&mounted, "Deployment")["containers"][0]["securityContext"].get("privileged").is_none());
    assert!(mounted.warnings.iter().any(|warning| warning.contains("let nobody open it")));
    let privileged = by(DeviceAccess::Privileged);
    assert_eq!(
        pod(&privileged, "Deployment")["containers"][0]["securityContext"],
        json!({"privileged": true})
    );
}

#[test]
fn a_device_with_a_resource_of_its_own_needs_no_privilege_whatever_the_others_do() {
    let options = json!({"HostConfig": {"Devices": [
        {"PathOnHost": "/dev/video0", "PathInContainer": "/dev/eye"}, {"PathOnHost": "/dev/video2"}, {"PathOnHost": "/dev/snd"},
    ]}});
    let modules = modules();
    let by = |devices, pairs: &[(&str, &str)]| {
        let resources = pairs
            .iter()
            .map(|(path, name)| ((*path).to_owned(), ExtendedResource::parse(name).unwrap()))
            .collect();
        convert(&with_options(&options), &Cluster { devices, resources, ..cluster(&modules) })
    };
    let cameras = [("/dev/video0", "akri.sh/camera"), ("/dev/video2", "akri.sh/camera")];
    let mounted = by(DeviceAccess::HostPath, &cameras).unwrap();
    let eye = pod(&mounted, "Deployment");
    // Two cameras are two units; sound, for which nothing is named, is mounted.
    assert_eq!(eye["containers"][0]["resources"]["limits"], json!({"akri.sh/camera": "2"}));
    assert_eq!(eye["volumes"].as_array().unwrap().len(), 1);
    assert_eq!(eye["volumes"][0]["hostPath"]["path"], "/dev/snd");
    assert_eq!(eye["securityContext"]["supplementalGroups"], json!([29, 44]));
    assert_eq!(eye["containers"][0]["securityContext"], json!({"allowPrivilegeEscalation": false}));
    assert!(mounted.needs.contains(&"a device plugin that offers `akri.sh/camera` for /dev/video2".into()));
    assert!(mounted.warnings.iter().any(|warning| warning.contains("/dev/video0 under its own name")));
    let mixed = by(DeviceAccess::Plugin, &cameras[..1]).unwrap();
    let limits = &pod(&mixed, "Deployment")["containers"][0]["resources"]["limits"];
    assert_eq!(*limits, json!({"akri.sh/camera": "1", "squat.ai/video": "1", "squat.ai/sound": "1"}));

    let error = by(DeviceAccess::Plugin, &[("/dev/vidoe0", "akri.sh/camera")]).unwrap_err();
    assert_eq!(error.to_string(), "no module of the manifest asks for the device `/dev/vidoe0`");
    assert!(error.hint().unwrap().contains("`/dev/snd`, `/dev/video0`, `/dev/video2`"));
}

#[test]
fn resources_are_named_as_the_api_server_wants() {
    for (text, good) in [
        ("akri.sh/akri-udev-video-8120fe", true),
        ("squat.ai/video", true),
        ("video", false),
        ("node.kubernetes.io/video", false),
        ("requests.example/video", false),
        ("akri.sh/", false),
        ("akri.sh/a b", false),
    ] {
        assert_eq!(ExtendedResource::parse(text).is_some(), good, "{text}");
    }
}

#[test]
fn a_label_makes_a_daemon_set_whose_ports_are_the_nodes_own() {
    let modules = modules();
    let options = json!({"HostConfig": {"PortBindings": {"8000/tcp": [{"HostPort": "80"}]}}});
    let node_label = Some(("mynah/device".to_owned(), "yes".to_owned()));
    let converted = convert(&with_options(&options), &Cluster { node_label, ..cluster(&modules) }).unwrap();
    let pod = pod(&converted, "DaemonSet");
    assert_eq!(pod["nodeSelector"], json!({"kubernetes.io/os": "linux", "mynah/device": "yes"}));
    let expected = json!([{"containerPort": 8000, "protocol": "TCP", "hostPort": 80}]);
    assert_eq!(pod["containers"][0]["ports"], expected);
    assert!(!converted.objects.iter().any(|object| object["metadata"]["name"] == "m-host"));
}

#[test]
fn a_stopped_module_has_no_pods_and_a_probe_goes_where_it_is_told() {
    let module = json!({"status": "stopped", "settings": {"image": "m:1"}});
    assert_eq!(find(&converted(&manifest(&module, None)), "Deployment", "m")["spec"]["replicas"], 0);
    let modules = modules();
    let probes = [("m".to_owned(), HttpProbe { port: 8080, path: "/healthz".into() })].into();
    let converted = convert(&with_options(&json!({})), &Cluster { probes, ..cluster(&modules) }).unwrap();
    let container = &pod(&converted, "Deployment")["containers"][0];
    assert_eq!(container["livenessProbe"]["httpGet"], json!({"path": "/healthz", "port": 8080}));
    assert_eq!(container["startupProbe"]["failureThreshold"], 60);
}

#[test]
fn an_image_of_one_platform_goes_to_its_nodes() {
    let image = format!("registry.example/mynah/runtime@{}", Sha256Digest::of(b"linux/arm64"));
    let converted = converted(&manifest(&json!({"settings": {"image": image}}), None));
    assert_eq!(pod(&converted, "Deployment")["nodeSelector"]["kubernetes.io/arch"], "arm64");
    assert_eq!(pod(&converted, "Deployment")["imagePullSecrets"], json!([{"name": "mine"}]));
}

#[test]
fn a_changed_setting_starts_the_module_anew() {
    let digest = |value: &str| {
        let module = json!({"env": {"A": {"value": value}}, "settings": {"image": "m:1"}});
        let converted = converted(&manifest(&module, None));
        find(&converted, "Deployment", "m")["spec"]["template"]["metadata"]["annotations"]["mynah/settings-digest"]
            .clone()
    };
    assert!(digest("1").is_string());
    assert_ne!(digest("1"), digest("2"));
    assert_eq!(digest("1"), digest("1"));
}

#[test]
fn modules_stand_in_their_start_up_order() {
    let module = json!({"startupOrder": 0, "settings": {"image": "m:1"}});
    let converted = converted(&manifest(&module, None));
    let order: Vec<_> = converted
        .objects
        .iter()
        .filter(|object| object["kind"] == "Deployment")
        .map(|object| object["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(order, ["m", "mynah-runtime"]);
}

#[test]
fn what_cannot_be_expressed_is_told_with_its_place() {
    for (options, says) in [
        (json!({"HostConfig": {"Binds": [".\\test:/x"]}}), "neither a folder of a node nor a volume"),
        (json!({"HostConfig": {"Binds": ["C:\\a:C:\\b"]}}), "no `<source>:<target>[:ro]`"),
        (json!({"HostConfig": {"Mounts": [{"Type": "npipe", "Target": "/x"}]}}), "the type `npipe`"),
        (json!({"HostConfig": {"PortBindings": {"eighty": []}}}), "no `<port>/<tcp|udp|sctp>`"),
        (json!({"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "1-9"}]}}}), "no port"),
        (json!({"Env": 3}), "cannot be read"),
    ] {
        let text = refused(&options);
        assert!(text.contains(says) && text.contains("/modules/m/settings/createOptions"), "{text}");
    }
}

#[test]
fn names_that_meet_and_layers_are_refused() {
    let mut document: Value = serde_json::from_slice(&with_options(&json!({}))).unwrap();
    let modules_of = &mut document["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"];
    modules_of["M"] = modules_of["m"].clone();
    let set = modules();
    let error = convert(document.to_string().as_bytes(), &cluster(&set)).unwrap_err();
    assert!(error.to_string().contains("would be called `m`, as `M` is"), "{error}");
    let layered = br#"{"content": {"modulesContent": {}}}"#;
    assert!(matches!(convert(layered, &cluster(&set)), Err(KubernetesError::Manifest(_))));
}

#[test]
fn secrets_of_the_environment_are_not_written_others_are() {
    let agent = "/modulesContent/$edgeAgent/properties.desired";
    assert!(!writes(&format!("{agent}/modules/m/env/A/value")));
    assert!(!writes(&format!("{agent}/modules/m/settings/createOptions/Env/0")));
    assert!(writes(&format!("{agent}/modules/m/settings/createOptions/Cmd/0")));
    assert!(writes("/modulesContent/m/properties.desired/env/A"));
}
