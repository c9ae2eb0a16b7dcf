//! `deploy-modules --target iot-hub` as an agent runs it, against a strict double of the hub.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use mynah_testkit::iothub::{Behaviour, IotHub, KEY};
use mynah_testkit::tokens::{CLIENT_ID, CLIENT_SECRET, TENANT, TokenService};
use mynah_testkit::wire::Served;
use serde_json::{Value, json};

use crate::given::{Ran, binary, root};

struct Bench {
    folder: tempfile::TempDir,
    double: IotHub,
    served: Served,
}

impl Bench {
    /// Three devices in the hall.
    fn new() -> Self {
        let double = IotHub::default();
        for number in 1..=3 {
            double.add_edge_device(&format!("pi-{number}"), json!({"room": "hall"}));
        }
        let served = double.start(0).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), double, served }
    }

    /// A manifest whose only module has this image, by the tool that makes manifests.
    fn manifest(&self, image: &str) -> PathBuf {
        let template = fs::read_to_string(root().join("src/manifest/deployment.template.json")).unwrap();
        let images = self.folder.path().join("images");
        fs::create_dir_all(&images).unwrap();
        fs::write(
            images.join("modules.json"),
            r#"{"schemaVersion": "1.0", "tool": {"name": "mynah", "version": "0.0.0"}, "modules": []}"#,
        )
        .unwrap();
        let named = self.folder.path().join("template.json");
        fs::write(&named, template.replace("${MODULES.mynah-runtime}", image)).unwrap();
        let manifest = self.folder.path().join("deployment.json");
        let mut command = binary("generate-manifest");
        command.arg("--template").arg(&named).arg("--images").arg(&images).arg("--out").arg(&manifest);
        Ran::from(command.output().unwrap()).well();
        manifest
    }

    fn command(&self, manifest: &Path) -> Command {
        let mut command = binary("deploy-modules");
        let host = self.served.url().replace("http://", "");
        command
            .env("TF_BUILD", "True")
            .env("INPUT_TARGET", "iot-hub")
            .env("INPUT_MANIFEST", manifest)
            .env("INPUT_OUT", self.folder.path().join("out"))
            .env("SECRET_IOTHUB", IotHub::connection_string(&host))
            .env("IOTHUB_CONNECTION_STRING", IotHub::connection_string(&host));
        command
    }

    fn fleet(&self, manifest: &Path) -> Command {
        let mut command = self.command(manifest);
        command.env("INPUT_TARGETCONDITION", "tags.room = 'hall'");
        command
    }

    fn record(&self) -> Value {
        serde_json::from_slice(&fs::read(self.folder.path().join("out/deployment-record.json")).unwrap())
            .unwrap()
    }

    fn image(&self, device: &str) -> String {
        let desired = self.double.desired(device, "$edgeAgent").unwrap();
        desired["modules"]["mynah-runtime"]["settings"]["image"].as_str().unwrap_or_default().to_owned()
    }

    fn is_sound(&self) {
        assert_eq!(self.double.wire.violations(), Vec::<String>::new());
        assert_eq!(self.double.gaps(), Vec::<String>::new());
    }
}

fn ran(mut command: Command) -> Ran {
    command.output().unwrap().into()
}

#[test]
fn an_agent_deploys_to_a_fleet_and_the_key_is_never_shown() {
    let bench = Bench::new();
    let manifest = bench.manifest("registry.example/eye:1");
    let first = ran(bench.fleet(&manifest)).well();
    assert!(first.stdout.contains("3 devices run it"), "{}", first.stdout);
    assert!(
        first.stdout.contains("##vso[task.setvariable variable=changed;isOutput=true]true"),
        "{}",
        first.stdout
    );
    let shown = first.stdout.lines().filter(|line| !line.starts_with("##vso[task.setsecret]"));
    assert!(shown.chain(first.stderr.lines()).all(|line| !line.contains(KEY)), "{}", first.stdout);
    assert!(!bench.record().to_string().contains(KEY));
    assert_eq!(bench.record()["hub"]["running"], json!(["pi-1", "pi-2", "pi-3"]));

    let again = ran(bench.fleet(&manifest)).well();
    assert!(again.stdout.contains("unchanged at"), "{}", again.stdout);
    assert!(again.stdout.contains("variable=changed;isOutput=true]false"), "{}", again.stdout);
    assert_eq!(bench.double.wire.exchanges().iter().filter(|said| said.method == "PUT").count(), 1);
    assert_eq!(bench.record()["hub"]["changed"], false);
    bench.is_sound();
}

#[test]
fn a_dry_run_shows_the_difference_to_the_hub_now() {
    let bench = Bench::new();
    ran(bench.fleet(&bench.manifest("registry.example/eye:1"))).well();
    let mut command = bench.fleet(&bench.manifest("registry.example/eye:2"));
    command.arg("--dry-run");
    let shown = ran(command).well().stdout;
    assert!(shown.contains("registry.example/eye:1 → registry.example/eye:2"), "{shown}");
    assert!(shown.contains("once it runs, delete the configuration `mynah-"), "{shown}");
    assert_eq!(bench.image("pi-1"), "registry.example/eye:1");
}

#[test]
fn a_device_that_fails_ends_in_an_error_that_names_it_and_the_earlier_deployment() {
    let bench = Bench::new();
    ran(bench.fleet(&bench.manifest("registry.example/eye:1"))).well();
    let description = "image ##vso[task.complete result=Succeeded;] not found".to_owned();
    bench.double.behaves("pi-2", "eye:2", Behaviour::Refuses { code: 400, description });
    let failed = ran(bench.fleet(&bench.manifest("registry.example/eye:2")));
    assert_eq!(failed.code, Some(1), "{}", failed.stdout);
    let issue =
        failed.stdout.lines().find(|line| line.starts_with("##vso[task.logissue type=error]")).unwrap();
    for word in ["device `pi-2`", "code 400: image", "is back and runs", "Hint: "] {
        assert!(issue.contains(word), "`{word}` is not in {issue}");
    }
    assert!(!failed.stdout.contains("##vso[task.complete result=Succeeded"), "{}", failed.stdout);
    assert_eq!(bench.image("pi-2"), "registry.example/eye:1");
    assert!(!bench.folder.path().join("out/deployment-record.json").exists());
    bench.is_sound();
}

#[test]
fn an_identity_signs_in_with_a_token_for_hubs_and_for_nothing_else() {
    let bench = Bench::new();
    let tokens = TokenService::start(0).unwrap();
    let manifest = bench.manifest("registry.example/eye:1");
    let signed_in = |secret: &str| {
        let mut command = bench.command(&manifest);
        command
            .env_remove("IOTHUB_CONNECTION_STRING")
            .env("INPUT_HUB", bench.served.url().replace("http://", ""))
            .env("INPUT_DEVICE", "pi-1")
            .env("AZURE_AUTHORITY_HOST", tokens.url())
            .env("AZURE_TENANT_ID", TENANT)
            .env("AZURE_CLIENT_ID", CLIENT_ID)
            .env("AZURE_CLIENT_SECRET", secret);
        ran(command)
    };
    signed_in(CLIENT_SECRET).well();
    let shown = bench.double.bearers();
    assert_eq!(shown.len(), 1);
    assert!(tokens.gave(&shown[0], "https://iothubs.azure.net/.default"));
    let refused = signed_in("wrong~client.secret");
    assert_eq!(refused.code, Some(3), "{}", refused.stdout);
    let secret = "wrong~client.secret";
    let shown = refused.stdout.lines().filter(|line| !line.starts_with("##vso[task.setsecret]"));
    assert!(shown.chain(refused.stderr.lines()).all(|line| !line.contains(secret)), "{}", refused.stdout);
}

#[test]
fn a_wrong_device_is_bad_input_and_a_wrong_key_a_refusal() {
    let bench = Bench::new();
    let manifest = bench.manifest("registry.example/eye:1");
    let mut command = bench.command(&manifest);
    command.env("INPUT_DEVICE", "pi-7");
    let unknown = ran(command);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stdout);
    assert!(unknown.stdout.contains("has no device `pi-7`"), "{}", unknown.stdout);
    let mut command = bench.fleet(&manifest);
    let string = IotHub::connection_string(&bench.served.url().replace("http://", ""));
    command.env("IOTHUB_CONNECTION_STRING", string.replace(KEY, "d3Jvbmcta2V5LTk0MTE="));
    let refused = ran(command);
    assert_eq!(refused.code, Some(3), "{}", refused.stdout);
    assert!(refused.stdout.contains("does not accept the policy `service`"), "{}", refused.stdout);
    assert!(!refused.stderr.contains("d3Jvbmcta2V5LTk0MTE="), "{}", refused.stderr);
}

#[test]
fn killed_at_many_moments_and_run_again_it_ends_the_same() {
    let bench = Bench::new();
    bench.double.allow_calls_a_minute(1000);
    ran(bench.fleet(&bench.manifest("registry.example/eye:1"))).well();
    for round in 0..10_u64 {
        let manifest = bench.manifest(&format!("registry.example/eye:{}", 2 + round % 3));
        let mut child = bench.fleet(&manifest).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(Duration::from_millis(10 + 70 * round));
        // It may have ended by itself.
        let _ = child.kill();
        child.wait().unwrap();
    }
    ran(bench.fleet(&bench.manifest("registry.example/eye:9"))).well();
    let priorities: Vec<i64> = bench.double.priorities().into_values().collect();
    assert_eq!(priorities, [10]);
    for device in ["pi-1", "pi-2", "pi-3"] {
        assert_eq!(bench.image(device), "registry.example/eye:9");
    }
    bench.is_sound();
}

#[test]
fn one_device_has_its_former_content_to_go_back_to_whenever_the_run_is_killed() {
    let bench = Bench::new();
    bench.double.allow_calls_a_minute(1000);
    let deploy = |image: &str, wait: &str| {
        let mut command = bench.command(&bench.manifest(image));
        command.env("INPUT_DEVICE", "pi-1").env("INPUT_WAIT", wait);
        command
    };
    ran(deploy("registry.example/eye:1", "1m")).well();
    for silent in ["eye:2", "eye:3"] {
        bench.double.behaves("pi-1", silent, Behaviour::NeverReports);
    }
    let killed_while_it_waits = |image: &str| {
        let mut child = deploy(image, "10m").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while bench.image("pi-1") != image {
            assert_eq!(child.try_wait().unwrap(), None, "it ended before it deployed");
            sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    };

    // The same command again: it waits on, and goes back to what the first one found.
    killed_while_it_waits("registry.example/eye:2");
    let failed = ran(deploy("registry.example/eye:2", "1s"));
    assert_eq!(failed.code, Some(1), "{}", failed.stdout);
    assert!(failed.stdout.contains("the earlier deployment is back and runs"), "{}", failed.stdout);
    assert_eq!(bench.image("pi-1"), "registry.example/eye:1");
    assert!(bench.double.priorities().is_empty(), "{:?}", bench.double.priorities());

    // Other content, killed again: what never ran is not what one goes back to.
    killed_while_it_waits("registry.example/eye:2");
    killed_while_it_waits("registry.example/eye:3");
    let failed = ran(deploy("registry.example/eye:3", "1s"));
    assert!(failed.stdout.contains("the earlier deployment is back and runs"), "{}", failed.stdout);
    assert_eq!(bench.image("pi-1"), "registry.example/eye:1");

    // Content that runs: nothing is left of it.
    killed_while_it_waits("registry.example/eye:2");
    ran(deploy("registry.example/eye:4", "1m")).well();
    assert_eq!(bench.image("pi-1"), "registry.example/eye:4");
    assert!(bench.double.priorities().is_empty(), "{:?}", bench.double.priorities());
    assert!(!ran(deploy("registry.example/eye:4", "1m")).well().stdout.contains("isOutput=true]true"));
    bench.is_sound();
}

#[test]
fn what_is_said_with_the_hub_agrees_with_its_published_contract() {
    let contracts =
        std::env::var_os("MYNAH_CONTRACTS").map_or_else(|| root().join("../shared/contracts"), PathBuf::from);
    let contract = contracts.join("iothub/iothub-service-2021-04-12.json");
    let python = std::env::var_os("MYNAH_PYTHON").unwrap_or_else(|| "python3".into());
    let probe = Command::new(&python).args(["-c", "import jsonschema"]).output();
    if !contract.is_file() || !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: the published contract or Python's jsonschema is not here");
        return;
    }
    let bench = Bench::new();
    ran(bench.fleet(&bench.manifest("registry.example/eye:1"))).well();
    ran(bench.fleet(&bench.manifest("registry.example/eye:2"))).well();
    bench.double.add_edge_device("pi-9", json!({"room": "cellar"}));
    let mut command = bench.command(&bench.manifest("registry.example/eye:1"));
    command.env("INPUT_DEVICE", "pi-9");
    ran(command).well();
    let record = bench.folder.path().join("record.jsonl");
    fs::write(&record, bench.double.wire.record().unwrap()).unwrap();
    let judge = root().join("tests/judges/exchanges_agree.py");
    let judged = Command::new(python).arg(judge).arg(contract).arg(record).output().unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
}
