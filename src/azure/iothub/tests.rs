//! Deployments against a strict double of the hub.

use std::cell::Cell;

use mynah_contracts::{Diagnosis as _, FaultKind, Quiet};
use mynah_testkit::faults::Fault;
use mynah_testkit::iothub::{Behaviour, IotHub, KEY, POLICY, Tier};
use mynah_testkit::wire::Served;
use serde_json::{Value, json};

use super::*;
use crate::http::{Client, Policy, block_on};
use crate::secret::Secret;

struct Bench {
    double: IotHub,
    hub: Hub,
    /// How long devices are given: long where they come to run, short where they are not to.
    limit: Cell<Duration>,
    _served: Served,
}

/// A manifest of the template with one module, `eye`, of this image.
fn manifest(image: &str) -> Content {
    let mut manifest: Value = serde_json::from_str(crate::manifest::DEFAULT_TEMPLATE).unwrap();
    let agent = &mut manifest["modulesContent"]["$edgeAgent"]["properties.desired"];
    let mut module = agent["modules"]["mynah-runtime"].clone();
    module["settings"] = json!({"image": image, "createOptions": "{}"});
    agent["modules"] = json!({"eye": module});
    Content::of_manifest(&manifest)
}

/// What someone else has put on a device: the module `ear` and its twin.
fn theirs() -> Value {
    let content = manifest("ear:1").body().to_string().replace("\"eye\"", "\"ear\"");
    let mut content: Value = serde_json::from_str(&content).unwrap();
    content["modulesContent"]["ear"] = json!({"properties.desired": {"volume": 3}});
    content
}

impl Bench {
    fn of(tier: Tier) -> Self {
        Self::with_key(tier, KEY)
    }

    fn with_key(tier: Tier, key: &str) -> Self {
        let double = IotHub::new(tier);
        double.allow_calls_a_minute(10_000);
        let served = double.start(0).unwrap();
        let host = served.url().replace("http://", "");
        let text = format!("HostName={host};SharedAccessKeyName={POLICY};SharedAccessKey={key}");
        let (address, key) = connection_string(&Secret::new(text)).unwrap();
        let policy = Policy { first_wait: Duration::from_millis(5), ..Policy::default() };
        let hub = Hub::new(Client::new(policy).unwrap(), address, Credential::SharedKey(key));
        Self { double, hub, limit: Cell::new(Duration::from_mins(1)), _served: served }
    }

    /// Three connected devices in the hall, one in the cellar, one that is no edge device.
    fn new() -> Self {
        let bench = Self::of(Tier::Standard);
        for number in 1..=3 {
            bench.double.add_edge_device(&format!("pi-{number}"), json!({"room": "hall"}));
        }
        bench.double.add_edge_device("pi-9", json!({"room": "cellar"}));
        bench.double.add_plain_device("lamp");
        bench
    }

    fn patience(&self) -> Patience {
        let (first, longest) = (Duration::from_millis(1), Duration::from_millis(4));
        Patience { limit: self.limit.get(), first, longest }
    }

    /// From here on a device that does not run it soon has failed.
    fn lose_patience(&self) {
        self.limit.set(Duration::from_secs(1));
    }

    fn device(&self, image: &str, others: Others) -> Result<Arrived, HubError> {
        self.device_named("pi-1", image, others)
    }

    fn device_named(&self, device: &str, image: &str, others: Others) -> Result<Arrived, HubError> {
        let content = manifest(image);
        let patience = self.patience();
        let deployment = DeviceDeployment { hub: &self.hub, device, content: &content, others, patience };
        block_on(&Quiet, deployment.deploy(&Quiet))
    }

    fn fleet(&self, image: &str) -> Result<Arrived, HubError> {
        self.fleet_of(image, "tags.room = 'hall'", false)
    }

    fn fleet_of(&self, image: &str, condition: &str, layered: bool) -> Result<Arrived, HubError> {
        let content = manifest(image);
        let deployment = FleetDeployment {
            hub: &self.hub,
            name: "mynah",
            condition,
            priority: 10,
            content: &content,
            layered,
            patience: self.patience(),
        };
        block_on(&Quiet, deployment.deploy(&Quiet))
    }

    fn image(&self, device: &str, module: &str) -> String {
        let desired = self.double.desired(device, "$edgeAgent").unwrap();
        desired
            .pointer(&format!("/modules/{module}/settings/image"))
            .and_then(Value::as_str)
            .unwrap_or("")
            .into()
    }

    fn writes(&self) -> usize {
        writes(&self.double)
    }

    /// What must hold after any test.
    fn is_sound(&self) {
        assert_eq!(self.double.wire.violations(), Vec::<String>::new());
        assert_eq!(self.double.gaps(), Vec::<String>::new());
    }
}

/// How often the hub was asked to change something.
fn writes(double: &IotHub) -> usize {
    let is_write = |method: &str, path: &str| {
        method == "PUT" || method == "DELETE" || path.ends_with("applyConfigurationContent")
    };
    double.wire.exchanges().iter().filter(|said| is_write(&said.method, &said.path)).count()
}

fn not_running(error: HubError) -> (Vec<DeviceFailure>, After) {
    match error {
        HubError::NotRunning { failures, after, .. } => (failures, after),
        other => panic!("{other}"),
    }
}

#[test]
fn one_device_runs_it_and_gets_nothing_anew() {
    let bench = Bench::new();
    let first = bench.device("eye:1", Others::Refuse).unwrap();
    assert_eq!((first.changed, first.platform), (true, Some(Platform::LinuxArm64)));
    assert_eq!(bench.image("pi-1", "eye"), "eye:1");
    let writes = bench.writes();
    assert!(!bench.device("eye:1", Others::Refuse).unwrap().changed);
    assert_eq!(bench.writes(), writes);
    assert!(bench.device("eye:2", Others::Refuse).unwrap().changed);
    bench.is_sound();
}

#[test]
fn modules_of_others_are_kept_or_removed_but_never_by_accident() {
    let bench = Bench::new();
    bench.double.apply("pi-1", &theirs());
    bench.double.set_desired("pi-1", "ear", json!({"volume": 11}));
    let version = bench.double.desired_version("pi-1", "ear");
    let error = bench.device("eye:1", Others::Refuse).unwrap_err();
    assert!(matches!(&error, HubError::OtherModules { modules, .. } if modules == &["ear"]), "{error}");
    assert_eq!(bench.writes(), 0);
    bench.device("eye:1", Others::Keep).unwrap();
    assert_eq!((bench.image("pi-1", "ear"), bench.image("pi-1", "eye")), ("ear:1".into(), "eye:1".into()));
    assert_eq!(bench.double.desired("pi-1", "ear").unwrap(), json!({"volume": 11}));
    assert_eq!(bench.double.desired_version("pi-1", "ear"), version);
    assert!(!bench.device("eye:1", Others::Keep).unwrap().changed);
    bench.device("eye:1", Others::Remove).unwrap();
    assert_eq!(bench.image("pi-1", "ear"), "");
    bench.is_sound();
}

#[test]
fn a_device_that_does_not_come_to_run_gets_its_earlier_content_again() {
    for (behaviour, module, says) in [
        (Behaviour::NeverReports, None, "has not reported"),
        (Behaviour::Refuses { code: 500, description: "no such image".into() }, None, "no such image"),
        (Behaviour::Refuses { code: 400, description: "odd".into() }, None, "code 400: odd"),
        (Behaviour::Crashes { module: "eye".into(), exit_code: 101 }, Some("eye"), "exit code 101"),
    ] {
        let bench = Bench::new();
        bench.device("eye:1", Others::Refuse).unwrap();
        bench.double.behaves("pi-1", "eye:2", behaviour);
        bench.lose_patience();
        let (failures, after) = not_running(bench.device("eye:2", Others::Refuse).unwrap_err());
        assert_eq!((failures[0].device.as_str(), failures[0].module.as_deref()), ("pi-1", module));
        assert!(failures[0].reason.contains(says), "{}", failures[0]);
        assert_eq!(after, After::RolledBack { to: "the earlier deployment".into(), confirmed: true });
        assert_eq!(bench.image("pi-1", "eye"), "eye:1");
        bench.is_sound();
    }
}

#[test]
fn former_content_is_kept_without_reaching_any_device_and_only_while_it_is_needed() {
    let bench = Bench::new();
    bench.device("eye:1", Others::Refuse).unwrap();
    assert_eq!(bench.double.wire.count("PUT", ""), 0, "there was nothing to keep");
    // Stopped between keeping and sending, or while it waits: what stands in the hub is the same then.
    let stopped = |image: &str| {
        let (content, patience) = (manifest(image), bench.patience());
        let others = Others::Refuse;
        let deployment =
            DeviceDeployment { hub: &bench.hub, device: "pi-1", content: &content, others, patience };
        let hurried =
            async { tokio::time::timeout(Duration::from_millis(300), deployment.deploy(&Quiet)).await };
        assert!(block_on(&Quiet, async { Ok::<_, HubError>(hurried.await) }).unwrap().is_err());
    };
    bench.double.behaves("pi-1", "eye:2", Behaviour::NeverReports);
    stopped("eye:2");
    let kept: Vec<String> = bench.double.priorities().into_keys().collect();
    assert_eq!((kept.len(), bench.image("pi-1", "eye")), (1, "eye:2".into()));
    assert!(bench.double.content(&kept[0]).unwrap().to_string().contains("eye:1"));

    // Someone else mends the device: what they gave it is what one goes back to.
    bench.double.apply("pi-1", &manifest("eye:5").body());
    bench.double.behaves("pi-1", "eye:3", Behaviour::NeverReports);
    bench.lose_patience();
    let (_, after) = not_running(bench.device("eye:3", Others::Refuse).unwrap_err());
    assert_eq!(after, After::RolledBack { to: "the earlier deployment".into(), confirmed: true });
    assert_eq!(bench.image("pi-1", "eye"), "eye:5");
    assert!(bench.double.priorities().is_empty());

    // A hub without room for it deploys all the same.
    for number in 0..100 {
        bench.double.add_configuration(&format!("theirs-{number}"), theirs(), "tags.room = 'attic'", 1);
    }
    bench.device("eye:6", Others::Refuse).unwrap();
    assert_eq!(bench.image("pi-1", "eye"), "eye:6");
    bench.is_sound();
}

#[test]
fn a_first_deployment_that_fails_has_nothing_to_go_back_to() {
    let bench = Bench::new();
    bench.double.behaves("pi-1", "", Behaviour::NeverReports);
    bench.lose_patience();
    let (_, after) = not_running(bench.device("eye:1", Others::Refuse).unwrap_err());
    assert_eq!(after, After::NothingBefore);
}

#[test]
fn what_cannot_be_deployed_to_is_told_before_anything_is_changed() {
    let bench = Bench::new();
    let refused = |device: &str| bench.device_named(device, "eye:1", Others::Refuse).unwrap_err();
    assert!(matches!(refused("PI-1"), HubError::UnknownDevice { .. }));
    assert!(matches!(refused("lamp"), HubError::NotEdge(_)));
    bench.double.add_configuration("theirs", theirs(), "tags.room = 'cellar'", 5);
    assert!(matches!(refused("pi-9"), HubError::Governed { deployment, .. } if deployment == "theirs"));
    let condition = |condition: &str| bench.fleet_of("eye:1", condition, false).unwrap_err();
    assert!(matches!(condition("tags.room = "), HubError::Condition { .. }));
    assert!(matches!(condition("tags.room = 'attic'"), HubError::NoDevice { others: 0, .. }));
    assert!(matches!(condition("deviceId = 'lamp'"), HubError::NoDevice { others: 1, .. }));
    assert_eq!(bench.writes(), 0);
    let basic = Bench::of(Tier::Basic);
    basic.double.add_edge_device("pi-1", json!({}));
    assert!(matches!(basic.device("eye:1", Others::Refuse).unwrap_err(), HubError::BasicTier(_)));
    let error = basic.fleet("eye:1").unwrap_err();
    assert!(matches!(error, HubError::BasicTier(_)), "{error:?}");
    assert_eq!(error.kind(), FaultKind::BadInput);
}

#[test]
fn a_wrong_key_is_told_with_the_policy_and_without_the_key() {
    let bench = Bench::with_key(Tier::Standard, "d3Jvbmcta2V5");
    let error = bench.device("eye:1", Others::Refuse).unwrap_err();
    assert_eq!(error.kind(), FaultKind::ServiceRefused);
    let text = format!("{} {error:?}", mynah_contracts::error_chain(&error));
    assert!(text.contains("the policy `service`") && !text.contains("d3Jvbmcta2V5"), "{text}");
    assert!(error.hint().unwrap().contains("clock"));
}

#[test]
fn a_wrong_clock_and_a_missing_role_are_hinted_at() {
    let bench = Bench::new();
    bench.double.set_clock_ahead(7200);
    let error = bench.device("eye:1", Others::Refuse).unwrap_err();
    assert!(mynah_contracts::error_chain(&error).contains("the signature has expired"), "{error:?}");
    assert!(error.hint().unwrap().contains("this machine's clock"));
    bench.double.set_clock_ahead(0);
    bench.double.wire.faults.script("GET", "/devices/*", Fault::Refuse { status: 403, retry_after: None }, 1);
    let error = bench.device("eye:1", Others::Refuse).unwrap_err();
    assert!(matches!(error, HubError::NotAccepted { .. }), "{error}");
    assert!(error.hint().unwrap().contains("role"));
    assert_eq!(bench.writes(), 0);
}

#[test]
fn a_fleet_changes_over_and_the_earlier_deployment_goes() {
    let bench = Bench::new();
    bench.double.add_configuration("theirs", theirs(), "tags.room = 'cellar'", 5);
    let first = bench.fleet("eye:1").unwrap();
    assert_eq!((first.running.len(), first.retired.len()), (3, 0));
    let writes = bench.writes();
    assert!(!bench.fleet("eye:1").unwrap().changed);
    assert_eq!(bench.writes(), writes);
    let second = bench.fleet("eye:2").unwrap();
    assert_eq!(second.retired, [first.configuration.unwrap()]);
    let priorities = bench.double.priorities();
    let ours = second.configuration.unwrap();
    assert_eq!(priorities, [(ours, 10), ("theirs".to_owned(), 5)].into());
    assert_eq!((bench.image("pi-3", "eye"), bench.image("pi-9", "ear")), ("eye:2".into(), "ear:1".into()));
    bench.is_sound();
}

#[test]
fn a_fleet_with_one_bad_device_is_taken_back_and_the_device_is_named() {
    let bench = Bench::new();
    let first = bench.fleet("eye:1").unwrap().configuration.unwrap();
    bench.double.behaves("pi-2", "eye:2", Behaviour::Crashes { module: "eye".into(), exit_code: 7 });
    let (failures, after) = not_running(bench.fleet("eye:2").unwrap_err());
    assert_eq!(failures.len(), 1);
    assert!(
        failures[0].to_string().starts_with("device `pi-2`, module `eye`: is `backoff`"),
        "{}",
        failures[0]
    );
    assert!(matches!(after, After::RolledBack { confirmed: true, .. }), "{after:?}");
    assert_eq!(bench.double.priorities(), [(first, 10)].into());
    assert_eq!(bench.image("pi-1", "eye"), "eye:1");
    bench.is_sound();
}

#[test]
fn devices_that_are_away_get_it_later_and_are_not_waited_for() {
    let bench = Bench::new();
    bench.double.connect("pi-2", false);
    let arrived = bench.fleet("eye:1").unwrap();
    assert_eq!((arrived.running.len(), arrived.offline), (2, vec!["pi-2".to_owned()]));
    bench.lose_patience();
    for device in ["pi-1", "pi-3"] {
        bench.double.connect(device, false);
    }
    let (failures, _) = not_running(bench.fleet("eye:2").unwrap_err());
    assert_eq!((failures.len(), failures[0].reason.as_str()), (3, "it is not connected"));
}

#[test]
fn a_stronger_deployment_of_someone_else_is_named() {
    let bench = Bench::new();
    bench.double.add_configuration("theirs", theirs(), "deviceId = 'pi-3'", 50);
    bench.lose_patience();
    let (failures, _) = not_running(bench.fleet("eye:1").unwrap_err());
    assert_eq!(failures.len(), 1);
    assert!(failures[0].reason.contains("`theirs` has a higher priority"), "{}", failures[0]);
}

#[test]
fn a_layer_adds_to_what_others_deployed() {
    let bench = Bench::new();
    bench.double.add_configuration("theirs", theirs(), "tags.room = 'hall'", 5);
    let arrived = bench.fleet_of("eye:1", "tags.room = 'hall'", true).unwrap();
    assert_eq!(arrived.running.len(), 3);
    assert_eq!((bench.image("pi-1", "ear"), bench.image("pi-1", "eye")), ("ear:1".into(), "eye:1".into()));
    assert!(!bench.fleet_of("eye:1", "tags.room = 'hall'", true).unwrap().changed);
    bench.is_sound();
    bench.lose_patience();
    let (failures, _) = not_running(bench.fleet_of("eye:1", "tags.room = 'cellar'", true).unwrap_err());
    assert!(failures[0].reason.starts_with("no whole deployment is in force"), "{}", failures[0]);
}

#[test]
fn a_layered_manifest_goes_to_many_and_not_to_one() {
    let bench = Bench::new();
    bench.double.add_configuration("theirs", theirs(), "tags.room = 'hall'", 5);
    let layered = Content::of_manifest(&manifest("eye:1").layer().manifest());
    let patience = bench.patience();
    let one = DeviceDeployment {
        hub: &bench.hub,
        device: "pi-9",
        content: &layered,
        others: Others::Keep,
        patience,
    };
    let error = block_on(&Quiet, one.deploy(&Quiet)).unwrap_err();
    assert!(matches!(error, HubError::LayeredForOne(_)), "{error}");
    let many = FleetDeployment {
        hub: &bench.hub,
        name: "mynah",
        condition: "tags.room = 'hall'",
        priority: 10,
        content: &layered,
        layered: false,
        patience,
    };
    block_on(&Quiet, many.deploy(&Quiet)).unwrap();
    assert_eq!((bench.image("pi-1", "ear"), bench.image("pi-1", "eye")), ("ear:1".into(), "eye:1".into()));
    bench.is_sound();
}

#[test]
fn a_run_that_was_stopped_anywhere_is_finished_by_the_next() {
    // What a run leaves when it ends before each of its writes, and after the last.
    for stop in 0..=3 {
        let bench = Bench::new();
        bench.fleet("eye:1").unwrap();
        let before = bench.writes();
        let content = manifest("eye:2");
        let deployment = FleetDeployment {
            hub: &bench.hub,
            name: "mynah",
            condition: "tags.room = 'hall'",
            priority: 10,
            content: &content,
            layered: false,
            patience: bench.patience(),
        };
        let stopped = StopAfter { double: &bench.double, writes: before + stop };
        let _ = block_on(&stopped, deployment.deploy(&Quiet));
        bench.fleet("eye:2").unwrap();
        let priorities: Vec<i64> = bench.double.priorities().into_values().collect();
        assert_eq!(priorities, [10], "stopped after {stop} writes");
        assert_eq!(bench.image("pi-1", "eye"), "eye:2");
        bench.is_sound();
    }
}

/// Stops the work once the hub saw so many writes.
struct StopAfter<'a> {
    double: &'a IotHub,
    writes: usize,
}

impl Monitor for StopAfter<'_> {
    fn progress(&self, _: &str, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        writes(self.double) >= self.writes
    }
}

#[test]
fn faults_of_the_service_change_nothing_about_the_end() {
    let bench = Bench::new();
    let script =
        |method: &str, path: &str, fault: Fault| bench.double.wire.faults.script(method, path, fault, 1);
    script("POST", "/configurations/testQueries", Fault::Refuse { status: 429, retry_after: Some(0) });
    script("GET", "/configurations", Fault::Cut);
    script("PUT", "/configurations/*", Fault::Lose { status: 500 });
    script("POST", "/devices/query", Fault::Refuse { status: 503, retry_after: None });
    let first = bench.fleet("eye:1").unwrap();
    assert_eq!(first.running.len(), 3);
    script("PUT", "/configurations/*", Fault::Duplicate);
    script("DELETE", "/configurations/*", Fault::Lose { status: 502 });
    bench.fleet("eye:2").unwrap();
    assert_eq!(bench.double.priorities().len(), 1);
    assert_eq!(bench.double.wire.faults.left(), 0);
    script("GET", "/configurations", Fault::NoJson);
    let error = bench.fleet("eye:3").unwrap_err();
    assert_eq!(error.kind(), FaultKind::ServiceRefused, "{error}");
    script("POST", "/devices/*/applyConfigurationContent", Fault::Lose { status: 504 });
    assert!(bench.device_named("pi-9", "eye:1", Others::Refuse).unwrap().changed);
    bench.is_sound();
}

#[test]
fn thousands_of_devices_come_by_pages() {
    let bench = Bench::of(Tier::Standard);
    for number in 0..1050 {
        bench.double.add_edge_device(&format!("pi-{number:04}"), json!({"room": "hall"}));
    }
    let arrived = bench.fleet("eye:1").unwrap();
    assert_eq!(arrived.running.len(), 1050);
    assert!(bench.double.wire.count("POST", "/devices/query") >= 22);
}

#[test]
fn a_preview_shows_the_difference_and_writes_nothing() {
    let bench = Bench::new();
    bench.device("eye:1", Others::Refuse).unwrap();
    let writes = bench.writes();
    let content = manifest("eye:2");
    let patience = bench.patience();
    let deployment = DeviceDeployment {
        hub: &bench.hub,
        device: "pi-1",
        content: &content,
        others: Others::Refuse,
        patience,
    };
    let text = block_on(&Quiet, deployment.preview()).unwrap();
    assert!(text.contains("eye:1 → eye:2"), "{text}");
    let fleet = FleetDeployment {
        hub: &bench.hub,
        name: "mynah",
        condition: "tags.room = 'hall'",
        priority: 10,
        content: &content,
        layered: false,
        patience,
    };
    let text = block_on(&Quiet, fleet.preview()).unwrap();
    assert!(
        text.starts_with("3 devices of 127.0.0.1") && text.contains("create the configuration `mynah-"),
        "{text}"
    );
    assert_eq!(bench.writes(), writes);
}
