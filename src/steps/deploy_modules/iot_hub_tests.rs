//! The step against a double of the hub, with an environment as an agent gives it.

use mynah_contracts::{Quiet, from_json};
use mynah_testkit::iothub::{IotHub, KEY};
use mynah_testkit::wire::Served;
use serde_json::json;

use super::super::DeployModules;
use super::*;
use crate::step::Step as _;

struct Bench {
    folder: tempfile::TempDir,
    double: IotHub,
    served: Served,
}

impl Bench {
    fn new() -> Self {
        let (folder, double) = (tempfile::tempdir().unwrap(), IotHub::default());
        double.add_edge_device("pi-1", json!({"room": "hall"}));
        let served = double.start(0).unwrap();
        let template =
            crate::manifest::DEFAULT_TEMPLATE.replace("${MODULES.mynah-runtime}", "registry.example/eye:1");
        let mut manifest: serde_json::Value = serde_json::from_str(&template).unwrap();
        manifest.as_object_mut().unwrap().remove("$schema-template");
        for module in manifest["modulesContent"]["$edgeAgent"]["properties.desired"]
            .as_object_mut()
            .unwrap()
            .values_mut()
        {
            for module in module.as_object_mut().into_iter().flat_map(|modules| modules.values_mut()) {
                if let Some(options) = module.pointer_mut("/settings/createOptions") {
                    *options = options.to_string().into();
                }
            }
        }
        fs::write(folder.path().join("deployment.json"), manifest.to_string()).unwrap();
        Self { folder, double, served }
    }

    fn host(&self) -> String {
        self.served.url().replace("http://", "")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn with<T>(
        &self,
        env: &[(&str, &str)],
        options: &[(&str, &str)],
        act: impl FnOnce(&super::super::Plan, &Context<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let manifest = self.at("deployment.json").display().to_string();
        let given = [
            ("manifest", manifest),
            ("out", self.at("out").display().to_string()),
            ("target", "iot-hub".into()),
        ];
        let given = given.into_iter().chain(options.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let plan = DeployModules::plan(&Inputs::from_pairs(DeployModules::OPTIONS, given))?;
        let env: Env = env.iter().copied().collect();
        act(
            &plan,
            &Context { monitor: &Quiet, env: &env, created: None, now: || jiff::Timestamp::UNIX_EPOCH },
        )
    }

    fn deploy(&self, env: &[(&str, &str)], options: &[(&str, &str)]) -> Result<Outcome, Fault> {
        self.with(env, options, |plan, context| DeployModules.run(plan, context))
    }

    fn record(&self) -> DeploymentRecord {
        from_json(&fs::read(self.at("out/deployment-record.json")).unwrap()).unwrap()
    }
}

const DEVICE: (&str, &str) = ("device", "pi-1");

#[test]
fn a_device_is_deployed_to_and_a_record_tells_what_was_done() {
    let bench = Bench::new();
    let string = IotHub::connection_string(&bench.host());
    let env = [("IOTHUB_CONNECTION_STRING", string.as_str())];
    let text = bench.with(&env, &[DEVICE], |plan, context| DeployModules.preview(plan, context)).unwrap();
    assert!(text.contains("+ registry.example/eye:1") && !bench.at("out").exists(), "{text}");
    let outcome = bench.deploy(&env, &[DEVICE]).unwrap();
    assert_eq!(outcome.headline, format!("deployed through {}: `pi-1` runs it", bench.host()));
    let record = bench.record();
    assert_eq!((record.target, record.modules[0].name.as_str()), (DeployTarget::IotHub, "mynah-runtime"));
    assert_eq!(record.modules[0].platform, Some(mynah_contracts::Platform::LinuxArm64));
    assert!(record.hub.unwrap().changed);
    let again = bench.deploy(&env, &[DEVICE]).unwrap();
    assert!(again.headline.starts_with("unchanged at"), "{}", again.headline);
    assert_eq!(again.variables[1], ("changed", "false".to_owned()));
    assert!(!bench.record().hub.unwrap().changed);
    assert!(!fs::read_to_string(bench.at("out/deployment-record.json")).unwrap().contains(KEY));
}

#[test]
fn passwords_reach_the_devices_and_no_file() {
    let bench = Bench::new();
    let string = IotHub::connection_string(&bench.host());
    let auth = r#"{"scheme":"UsernamePassword","parameters":{"username":"puller","password":"hunter22-hunter22","registry":"https://registry.example/v1/"}}"#;
    let hub =
        format!(r#"{{"scheme":"UsernamePassword","parameters":{{"username":"","password":"{string}"}}}}"#);
    let env = [("ENDPOINT_AUTH_reg", auth), ("ENDPOINT_AUTH_hub", &hub)];
    let condition = ("targetCondition", "tags.room = 'hall'");
    let options = [condition, ("connection", "hub"), ("registryConnection", "reg")];
    let outcome = bench.deploy(&env, &options).unwrap();
    let id = &outcome.variables.iter().find(|(name, _)| *name == "configuration").unwrap().1;
    let content = bench.double.content(id).unwrap();
    let entry = content
        .pointer("/modulesContent/$edgeAgent/properties.desired/runtime/settings/registryCredentials/registry-example")
        .unwrap();
    assert_eq!(
        *entry,
        json!({"address": "registry.example", "username": "puller", "password": "hunter22-hunter22"})
    );
    for file in walkdir::WalkDir::new(bench.folder.path()).into_iter().map(Result::unwrap) {
        assert!(
            !fs::read_to_string(file.path()).unwrap_or_default().contains("hunter22"),
            "{}",
            file.path().display()
        );
    }
    let pulled = [
        ("IOTHUB_CONNECTION_STRING", string.as_str()),
        (PULL_USER, "puller"),
        (PULL_PASSWORD, "hunter22-hunter22"),
    ];
    let same = bench.deploy(&pulled, &[condition]).unwrap();
    assert!(same.headline.starts_with("unchanged"), "{}", same.headline);
}

#[test]
fn who_signs_in_and_where_must_be_clear() {
    let bench = Bench::new();
    let string = IotHub::connection_string(&bench.host());
    let set = ("IOTHUB_CONNECTION_STRING", string.as_str());
    let fails = |env: &[(&str, &str)], options: &[(&str, &str)], says: &str| {
        let fault = bench.deploy(env, options).unwrap_err();
        assert!(fault.chain().contains(says), "{fault} does not say {says:?}");
        assert_eq!(fault.kind(), FaultKind::BadInput);
        assert!(!fault.chain().contains(KEY), "{fault}");
    };
    fails(&[], &[DEVICE], "no hub is named");
    fails(&[("IOTHUB_CONNECTION_STRING", "$(hub)")], &[DEVICE], "no hub is named");
    fails(&[set], &[DEVICE, ("hub", "other")], "`--hub` names other.azure-devices.net");
    fails(&[("IOTHUB_CONNECTION_STRING", "HostName=x")], &[DEVICE], "lacks `SharedAccessKeyName`");
    fails(&[set], &[DEVICE, ("connection", "gone")], "`gone` is not known");
    fails(&[set, (PULL_USER, "u")], &[DEVICE], "belong together");
    fails(&[set], &[("device", "pi-2")], "no device `pi-2`");
    fs::write(bench.at("deployment.json"), "{}").unwrap();
    fails(&[set], &[DEVICE], "lacks `modulesContent`");
    fs::remove_file(bench.at("deployment.json")).unwrap();
    fails(&[set], &[DEVICE], "cannot read the manifest");
    assert!(!bench.at("out").exists());
}

#[test]
fn a_registry_is_found_in_the_manifest() {
    assert_eq!(registry_of("mynah.azurecr.io/eye@sha256:00"), Some("mynah.azurecr.io"));
    assert_eq!(registry_of("localhost:5000/eye:1"), Some("localhost:5000"));
    assert_eq!(registry_of("library/eye:1"), None);
    assert_eq!(host_of("https://index.docker.io/v1/"), "index.docker.io");
}
