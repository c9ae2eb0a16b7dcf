//! `deploy-modules --target kubernetes` as an agent runs it, against a strict double of the API.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mynah_testkit::faults::Fault;
use mynah_testkit::kubernetes::{Behaviour, Cluster, TOKEN};
use mynah_testkit::wire::Served;
use serde_json::{Value, json};

use crate::given::{Ran, binary, root};

/// The label of the nodes that are devices.
const DEVICES: (&str, &str) = ("mynah/device", "yes");

/// What a Raspberry Pi's node says of itself.
const ARM: (&str, &str) = ("kubernetes.io/arch", "arm64");

struct Bench {
    folder: tempfile::TempDir,
    cluster: Cluster,
    served: Served,
}

/// What a manifest is to have.
#[derive(Clone, Copy)]
struct Wanted {
    /// The digit that fills the image's digest; the model follows it.
    version: char,
    /// Whether each device is to run it.
    everywhere: bool,
    /// Whether there is a second module.
    second: bool,
    /// The resource by which the camera is asked for, where it is not the device plugin's own.
    camera: Option<&'static str>,
}

const ONE: Wanted = Wanted { version: '1', everywhere: false, second: false, camera: None };

impl Bench {
    /// Three devices, of which the first is in the hall.
    fn new() -> Self {
        let cluster = Cluster::default();
        cluster.add_node("pi-1", &[ARM, DEVICES, ("room", "hall")]);
        cluster.add_node("pi-2", &[ARM, DEVICES]);
        cluster.add_node("pi-3", &[ARM, DEVICES]);
        for node in ["pi-1", "pi-2", "pi-3"] {
            cluster.offer(node, "squat.ai/video", 1);
            cluster.offer(node, "squat.ai/sound", 1);
        }
        let served = cluster.start(0).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("kubeconfig"), Cluster::kubeconfig(&served.url())).unwrap();
        Self { folder, cluster, served }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Objects for Kubernetes by the tool that makes them.
    fn manifest(&self, wanted: Wanted) -> PathBuf {
        let images = self.at("images");
        fs::create_dir_all(&images).unwrap();
        let digest = format!("sha256:{}", wanted.version.to_string().repeat(64));
        let descriptor = json!({
            "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": 1,
        });
        let modules = json!({"schemaVersion": "1.0", "tool": {"name": "mynah", "version": "0.0.0"}, "modules": [{
            "name": "mynah-runtime", "repository": "registry.example/eye", "tag": wanted.version.to_string(),
            "layout": "mynah-runtime", "model": digest, "index": descriptor,
            "platforms": [{"platform": "linux/arm64", "manifest": descriptor, "layers": []}],
        }]});
        fs::write(images.join("modules.json"), modules.to_string()).unwrap();
        let mut overlay = json!({"modulesContent": {"$edgeAgent": {"properties.desired": {"modules": {
            "mynah-runtime": {"env": {"MYNAH_HTTP": {"value": "0.0.0.0:8080"}}},
        }}}}});
        if wanted.second {
            overlay["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]["notes"] = json!({
                "version": "1.0", "type": "docker", "status": "running", "restartPolicy": "always",
                "env": {"LEVEL": {"value": "low"}},
                "settings": {"image": "registry.example/notes:1", "createOptions": {
                    "HostConfig": {"Mounts": [{"Type": "volume", "Source": "notes", "Target": "/notes"}]},
                }},
            });
        }
        fs::write(self.at("overlay.json"), overlay.to_string()).unwrap();
        let manifest = self.at(&format!("objects-{}.yaml", wanted.version));
        let mut command = binary("generate-manifest");
        command.args(["--format", "kubernetes", "--probe", "mynah-runtime=8080/readyz"]);
        command.arg("--images").arg(&images).arg("--overlay").arg(self.at("overlay.json"));
        command.arg("--out").arg(&manifest);
        if wanted.everywhere {
            command.args(["--node-label", "mynah/device=yes"]);
        }
        if let Some(resource) = wanted.camera {
            command.args(["--device-resource", &format!("/dev/video0={resource}")]);
        }
        Ran::from(command.output().unwrap()).well();
        manifest
    }

    /// The step as an agent starts it, signed in by a kubeconfig.
    fn deploy(&self, manifest: &Path) -> Command {
        let mut command = binary("deploy-modules");
        command
            .env("TF_BUILD", "True")
            .env("INPUT_TARGET", "kubernetes")
            .env("INPUT_KUBECONFIG", self.at("kubeconfig"))
            .env("INPUT_WAIT", "30s")
            .env("INPUT_MANIFEST", manifest)
            .env("INPUT_OUT", self.at("out"));
        command
    }

    fn record(&self) -> Value {
        serde_json::from_slice(&fs::read(self.at("out/deployment-record.json")).unwrap()).unwrap()
    }

    fn image(&self, plural: &str) -> String {
        let object = self.cluster.object("apps/v1", plural, "mynah", "mynah-runtime").unwrap();
        object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    }

    fn inventory(&self) -> Value {
        let object = self.cluster.object("v1", "configmaps", "mynah", "mynah-inventory-mynah").unwrap();
        serde_json::from_str(object["data"]["deployment.json"].as_str().unwrap()).unwrap()
    }

    fn is_sound(&self) {
        assert_eq!(self.cluster.wire.violations(), Vec::<String>::new());
        assert_eq!(self.cluster.wire.faults.left(), 0, "faults that were not met");
    }
}

fn image(version: char) -> String {
    format!("registry.example/eye@sha256:{}", version.to_string().repeat(64))
}

fn ran(mut command: Command) -> Ran {
    command.output().unwrap().into()
}

/// What an agent's issue says.
fn issue(ran: &Ran) -> &str {
    ran.stdout
        .lines()
        .find(|line| line.starts_with("##vso[task.logissue type=error]"))
        .unwrap_or_else(|| panic!("no error in:\n{}\n{}", ran.stdout, ran.stderr))
}

#[test]
fn an_agent_deploys_sees_the_model_and_changes_nothing_the_second_time() {
    let bench = Bench::new();
    let manifest = bench.manifest(ONE);
    let first = ran(bench.deploy(&manifest)).well();
    assert!(first.stdout.contains("1 pod runs it"), "{}", first.stdout);
    assert!(first.stdout.contains("variable=changed;isOutput=true]true"), "{}", first.stdout);
    let shown = first.stdout.lines().filter(|line| !line.starts_with("##vso[task.setsecret]"));
    assert!(shown.chain(first.stderr.lines()).all(|line| !line.contains(TOKEN)), "{}", first.stdout);
    let record = bench.record();
    assert_eq!(record["target"], "kubernetes");
    assert_eq!(record["modules"][0]["model"], format!("sha256:{}", "1".repeat(64)), "{record}");
    assert_eq!(record["cluster"]["pods"][0]["node"], "pi-1");
    assert_eq!(bench.inventory()["pending"], Value::Null);

    let writes = || {
        bench
            .cluster
            .wire
            .exchanges()
            .iter()
            .filter(|said| {
                said.method != "GET" && !said.query.contains("dryRun") && !said.path.ends_with("reviews")
            })
            .count()
    };
    let before = writes();
    let again = ran(bench.deploy(&manifest)).well();
    assert!(again.stdout.contains("unchanged at"), "{}", again.stdout);
    assert!(again.stdout.contains("variable=changed;isOutput=true]false"), "{}", again.stdout);
    assert_eq!(writes(), before);
    bench.is_sound();
}

#[test]
fn a_dry_run_shows_the_difference_and_changes_nothing() {
    let bench = Bench::new();
    let mut command = bench.deploy(&bench.manifest(ONE));
    command.arg("--dry-run");
    let shown = ran(command).well().stdout;
    assert!(
        shown.contains("create Namespace mynah") && shown.contains("create Deployment mynah-runtime"),
        "{shown}"
    );
    assert_eq!(bench.cluster.names("apps/v1", "deployments"), Vec::<String>::new());

    ran(bench.deploy(&bench.manifest(ONE))).well();
    let objects = bench.cluster.objects();
    let mut command = bench.deploy(&bench.manifest(Wanted { version: '2', ..ONE }));
    command.arg("--dry-run");
    let shown = ran(command).well().stdout;
    assert!(shown.contains("change Deployment mynah-runtime"), "{shown}");
    assert!(shown.contains(&format!("/image: {}… → ", &image('1')[..70])), "{shown}");
    assert_eq!(bench.cluster.objects(), objects);
    bench.is_sound();
}

#[test]
fn a_deployment_that_does_not_run_is_taken_back() {
    let bench = Bench::new();
    ran(bench.deploy(&bench.manifest(ONE))).well();
    bench.cluster.behaves(&image('2'), Behaviour::Crashes);
    let failed = ran(bench.deploy(&bench.manifest(Wanted { version: '2', second: true, ..ONE })));
    assert_eq!(failed.code, Some(1), "{}", failed.stdout);
    for word in
        ["Deployment mynah-runtime failed", "CrashLoopBackOff", "ended with 1", "is back and runs", "Hint: "]
    {
        assert!(issue(&failed).contains(word), "`{word}` is not in {}", issue(&failed));
    }
    assert_eq!(bench.image("deployments"), image('1'));
    assert_eq!(bench.cluster.names("apps/v1", "deployments"), ["mynah-runtime"]);
    assert_eq!(bench.cluster.images(), [("pi-1".to_owned(), image('1'))]);
    // What may hold data is never deleted.
    assert_eq!(bench.cluster.names("v1", "persistentvolumeclaims"), ["mynah-state", "notes"]);
    assert!(!bench.at("out/deployment-record.json").exists());
    assert_eq!(bench.inventory()["pending"], Value::Null);
    bench.is_sound();
}

#[test]
fn a_pod_that_is_never_ready_or_cannot_be_pulled_is_given_up_in_time() {
    let bench = Bench::new();
    for (version, behaviour, says) in
        [('1', Behaviour::NoImage, "ImagePullBackOff"), ('2', Behaviour::NeverReady, "not ready")]
    {
        bench.cluster.behaves(&image(version), behaviour);
        let mut command = bench.deploy(&bench.manifest(Wanted { version, ..ONE }));
        command.env("INPUT_WAIT", "2s");
        let failed = ran(command);
        assert_eq!(failed.code, Some(1), "{}", failed.stdout);
        for word in [says, "within 2 s", "nothing to go back to"] {
            assert!(issue(&failed).contains(word), "`{word}` is not in {}", issue(&failed));
        }
    }
    // The next one that runs mends it.
    ran(bench.deploy(&bench.manifest(Wanted { version: '3', ..ONE }))).well();
    assert_eq!(bench.image("deployments"), image('3'));
    bench.is_sound();
}

#[test]
fn a_pod_that_runs_another_model_is_no_success() {
    let bench = Bench::new();
    ran(bench.deploy(&bench.manifest(ONE))).well();
    bench.cluster.behaves(&image('2'), Behaviour::OtherModel("9".repeat(64)));
    let failed = ran(bench.deploy(&bench.manifest(Wanted { version: '2', ..ONE })));
    assert_eq!(failed.code, Some(1), "{}", failed.stdout);
    assert!(
        issue(&failed).contains(&format!("runs the model sha256:{}", "9".repeat(64))),
        "{}",
        issue(&failed)
    );
    assert_eq!(bench.image("deployments"), image('1'));
    bench.is_sound();
}

#[test]
fn what_left_the_manifest_goes_and_what_others_made_stays() {
    let bench = Bench::new();
    ran(bench.deploy(&bench.manifest(Wanted { second: true, ..ONE }))).well();
    assert_eq!(bench.cluster.names("apps/v1", "deployments"), ["mynah-runtime", "notes"]);
    // It looks like ours, but no deployment of this name made it.
    let foreign = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "foreign", "namespace": "mynah",
        "labels": {"app.kubernetes.io/managed-by": "mynah", "app.kubernetes.io/part-of": "mynah"}}, "data": {"a": "b"}});
    bench.cluster.apply_as("someone", &foreign).unwrap();
    let pruned = ran(bench.deploy(&bench.manifest(ONE))).well();
    assert_eq!(bench.cluster.names("apps/v1", "deployments"), ["mynah-runtime"]);
    let settings = bench.cluster.names("v1", "configmaps");
    assert!(
        settings.contains(&"foreign".to_owned()) && !settings.contains(&"notes-env".to_owned()),
        "{settings:?}"
    );
    assert_eq!(bench.cluster.names("v1", "persistentvolumeclaims"), ["mynah-state", "notes"]);
    assert!(pruned.stdout.contains("PersistentVolumeClaim notes stays"), "{}", pruned.stdout);
    assert!(bench.record()["cluster"]["pruned"].as_array().unwrap().contains(&json!("Deployment notes")));
    bench.is_sound();
}

#[test]
fn the_canary_runs_it_first_and_keeps_a_bad_one_from_the_others() {
    let bench = Bench::new();
    let everywhere = Wanted { everywhere: true, ..ONE };
    let with_canary = |version: char| {
        let mut command = bench.deploy(&bench.manifest(Wanted { version, ..everywhere }));
        command.env("INPUT_CANARY", "room=hall");
        command
    };
    ran(with_canary('1')).well();
    let on_all = |version: char| -> Vec<(String, String)> {
        ["pi-1", "pi-2", "pi-3"].map(|node| (node.to_owned(), image(version))).to_vec()
    };
    assert_eq!(bench.cluster.images(), on_all('1'));

    bench.cluster.behaves(&image('2'), Behaviour::Crashes);
    let failed = ran(with_canary('2'));
    assert_eq!(failed.code, Some(1), "{}", failed.stdout);
    assert!(
        issue(&failed).contains("on `pi-1`") && issue(&failed).contains("is back and runs"),
        "{}",
        issue(&failed)
    );
    assert_eq!(bench.cluster.images(), on_all('1'));
    let watched = bench.cluster.wire.exchanges();
    let bad_elsewhere = watched.iter().filter_map(|said| said.answer.as_ref()).any(|answer| {
        answer["items"].as_array().into_iter().flatten().any(|pod| {
            pod["spec"]["nodeName"] != "pi-1"
                && pod["spec"]["containers"][0]["image"] == image('2').as_str()
                && pod["spec"]["nodeName"].is_string()
        })
    });
    assert!(!bad_elsewhere, "a node beside the canary ran the bad one");

    let good = ran(with_canary('3')).well();
    assert!(good.stdout.contains("3 pods run it"), "{}", good.stdout);
    assert_eq!(bench.cluster.images(), on_all('3'));
    assert_eq!(bench.record()["cluster"]["canary"], "room=hall");

    let mut nowhere = bench.deploy(&bench.manifest(everywhere));
    nowhere.env("INPUT_CANARY", "room=attic");
    assert!(issue(&ran(nowhere)).contains("no node of the cluster has the label `room=attic`"));
    let mut single = bench.deploy(&bench.manifest(ONE));
    single.env("INPUT_CANARY", "room=hall");
    assert!(issue(&ran(single)).contains("every node"));
    bench.is_sound();
}

#[test]
fn a_field_of_someone_else_is_told_and_taken_only_by_force() {
    let bench = Bench::new();
    ran(bench.deploy(&bench.manifest(ONE))).well();
    let scaled = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "mynah-runtime", "namespace": "mynah"}, "spec": {"replicas": 0}});
    bench.cluster.apply_as("kubectl-scale", &scaled).unwrap();
    let before = bench.cluster.objects();
    let refused = ran(bench.deploy(&bench.manifest(Wanted { version: '2', ..ONE })));
    assert_eq!(refused.code, Some(3), "{}", refused.stdout);
    for word in ["Deployment mynah-runtime", ".spec.replicas by `kubectl-scale`", "--force"] {
        assert!(issue(&refused).contains(word), "`{word}` is not in {}", issue(&refused));
    }
    assert_eq!(bench.cluster.objects(), before, "something was changed before the conflict was seen");
    let mut command = bench.deploy(&bench.manifest(Wanted { version: '2', ..ONE }));
    command.env("INPUT_FORCE", "true");
    ran(command).well();
    assert_eq!(bench.image("deployments"), image('2'));
    bench.is_sound();
}

#[test]
fn a_camera_that_no_node_offers_is_told_and_a_pod_goes_where_there_is_one() {
    let bench = Bench::new();
    let by_akri = bench.manifest(Wanted { camera: Some("akri.sh/camera"), ..ONE });
    let mut command = bench.deploy(&by_akri);
    command.env("INPUT_WAIT", "1s");
    let failed = ran(command);
    assert_eq!(failed.code, Some(1), "{}", failed.stdout);
    let says = "has no node: Unschedulable: 0/3 nodes are available: 3 Insufficient akri.sh/camera";
    assert!(issue(&failed).contains(says), "{}", issue(&failed));
    bench.cluster.offer("pi-2", "akri.sh/camera", 1);
    ran(bench.deploy(&by_akri)).well();
    assert_eq!(bench.cluster.images(), [("pi-2".to_owned(), image('1'))]);
    let pod = &bench.cluster.object("apps/v1", "deployments", "mynah", "mynah-runtime").unwrap()["spec"]["template"];
    let rights = &pod["spec"]["containers"][0]["securityContext"];
    assert_eq!(rights["allowPrivilegeEscalation"], false);
    assert!(rights.get("privileged").is_none() && !pod.to_string().contains("hostPath"), "{pod}");
    bench.is_sound();
}

#[test]
fn a_deployment_that_was_overtaken_puts_nothing_back() {
    let bench = Bench::new();
    ran(bench.deploy(&bench.manifest(ONE))).well();
    bench.cluster.behaves(&image('2'), Behaviour::NeverReady);
    let mut slow = bench.deploy(&bench.manifest(Wanted { version: '2', ..ONE }));
    slow.env("INPUT_WAIT", "20s").env("INPUT_OUT", bench.at("slow"));
    let slow = slow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until(|| bench.cluster.images().contains(&("pi-1".to_owned(), image('2'))));
    ran(bench.deploy(&bench.manifest(Wanted { version: '3', ..ONE }))).well();
    let overtaken = Ran::from(slow.wait_with_output().unwrap());
    assert_eq!(overtaken.code, Some(1), "{}", overtaken.stdout);
    assert!(issue(&overtaken).contains("another deployment has taken over"), "{}", issue(&overtaken));
    assert_eq!(bench.cluster.images(), [("pi-1".to_owned(), image('3'))]);
    assert_eq!(bench.inventory()["pending"], Value::Null);
    bench.is_sound();
}

#[test]
fn two_that_begin_at_once_are_told_apart() {
    let bench = Bench::new();
    ran(bench.deploy(&bench.manifest(ONE))).well();
    let inventory = "/api/v1/namespaces/mynah/configmaps/mynah-inventory-mynah";
    bench.cluster.wire.faults.script("PUT", inventory, Fault::Refuse { status: 409, retry_after: None }, 1);
    let second = bench.manifest(Wanted { version: '2', ..ONE });
    let refused = ran(bench.deploy(&second));
    assert_eq!(refused.code, Some(3), "{}", refused.stdout);
    assert!(issue(&refused).contains("goes on at the same time"), "{}", issue(&refused));
    assert_eq!(bench.image("deployments"), image('1'));
    ran(bench.deploy(&second)).well();
    bench.is_sound();
}

#[test]
fn a_token_that_expires_in_the_middle_is_told_and_the_next_run_finishes() {
    let bench = Bench::new();
    ran(bench.deploy(&bench.manifest(ONE))).well();
    bench.cluster.behaves(&image('2'), Behaviour::NeverReady);
    let second = bench.manifest(Wanted { version: '2', ..ONE });
    let child = bench.deploy(&second).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until(|| bench.cluster.images().contains(&("pi-1".to_owned(), image('2'))));
    bench.cluster.accept("a-later-token-5522");
    // What is open goes on; the next request is refused.
    bench.cluster.forget_versions();
    let ended = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(3), "{}", ended.stdout);
    assert!(issue(&ended).contains("does not accept the token"), "{}", issue(&ended));
    assert_ne!(bench.inventory()["pending"], Value::Null);
    bench.cluster.accept(TOKEN);
    bench.cluster.behaves(&image('2'), Behaviour::Runs);
    bench.cluster.settle();
    ran(bench.deploy(&second)).well();
    assert_eq!((bench.image("deployments"), &bench.inventory()["pending"]), (image('2'), &Value::Null));
    bench.is_sound();
}

#[test]
fn missing_rights_are_told_before_anything_changes() {
    for (verb, resource, says) in [
        ("patch", "deployments", "cannot patch resource \"deployments\""),
        ("get", "pods/proxy", "`get` of `pods/proxy` in the namespace `mynah`"),
        ("watch", "pods", "`watch` of `pods`"),
    ] {
        let bench = Bench::new();
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mynah"}});
        bench.cluster.apply_as("admin", &namespace).unwrap();
        bench.cluster.deny(verb, resource);
        let before = bench.cluster.objects();
        let refused = ran(bench.deploy(&bench.manifest(ONE)));
        assert_eq!(refused.code, Some(3), "{}", refused.stdout);
        for word in [says, "Role"] {
            assert!(issue(&refused).contains(word), "`{word}` is not in {}", issue(&refused));
        }
        assert_eq!(bench.cluster.objects(), before);
        bench.is_sound();
    }
}

#[test]
fn a_token_that_is_none_a_missing_kind_and_a_foreign_manifest_are_told() {
    let bench = Bench::new();
    let manifest = bench.manifest(ONE);
    let mut text = fs::read_to_string(&manifest).unwrap();
    text.push_str("---\napiVersion: akri.sh/v0\nkind: Configuration\nmetadata:\n  name: camera\n  namespace: mynah\nspec:\n  capacity: 1\n");
    let with_custom = bench.at("custom.yaml");
    fs::write(&with_custom, text).unwrap();
    let missing = ran(bench.deploy(&with_custom));
    assert_eq!(missing.code, Some(3), "{}", missing.stdout);
    assert!(issue(&missing).contains("does not know `Configuration` of `akri.sh/v0`"), "{}", issue(&missing));
    assert!(issue(&missing).contains("custom resource definition"), "{}", issue(&missing));
    bench.cluster.define("akri.sh/v0", "Configuration", "configurations");
    ran(bench.deploy(&with_custom)).well();
    assert_eq!(bench.cluster.names("akri.sh/v0", "configurations"), ["camera"]);

    bench.cluster.accept("another-token-9417");
    let refused = ran(bench.deploy(&manifest));
    assert_eq!(refused.code, Some(3), "{}", refused.stdout);
    assert!(issue(&refused).contains("does not accept the token"), "{}", issue(&refused));
    let edge = bench.at("edge.json");
    fs::write(&edge, r#"{"modulesContent": {}}"#).unwrap();
    let refused = ran(bench.deploy(&edge));
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(issue(&refused).contains("a manifest for IoT Edge"), "{}", issue(&refused));
    bench.is_sound();
}

#[test]
fn a_busy_cluster_and_lost_watches_are_borne() {
    let bench = Bench::new();
    let faults = &bench.cluster.wire.faults;
    faults.script(
        "PATCH",
        "/apis/apps/v1/namespaces/mynah/deployments/*",
        Fault::Refuse { status: 429, retry_after: Some(1) },
        1,
    );
    faults.script(
        "GET",
        "/api/v1/namespaces/mynah/pods",
        Fault::Refuse { status: 503, retry_after: None },
        1,
    );
    faults.script("PATCH", "/api/v1/namespaces/mynah/configmaps/*", Fault::Lose { status: 500 }, 1);
    faults.script("POST", "/api/v1/namespaces/mynah/configmaps", Fault::Lose { status: 500 }, 1);
    bench.cluster.cut_watches(4);
    ran(bench.deploy(&bench.manifest(ONE))).well();
    bench.is_sound();
}

#[test]
fn versions_that_the_cluster_forgot_are_read_anew() {
    let bench = Bench::new();
    bench.cluster.behaves(&image('1'), Behaviour::NeverReady);
    let mut child =
        bench.deploy(&bench.manifest(ONE)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until(|| !bench.cluster.images().is_empty());
    for _ in 0..3 {
        bench.cluster.forget_versions();
        sleep(Duration::from_millis(50));
    }
    bench.cluster.behaves(&image('1'), Behaviour::Runs);
    bench.cluster.settle();
    assert!(child.wait().unwrap().success());
    bench.is_sound();
}

/// Waits for a condition, as long as a loaded machine may need.
fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < deadline, "what was waited for did not happen");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_run_that_was_killed_is_finished_or_taken_back_by_the_next() {
    let bench = Bench::new();
    ran(bench.deploy(&bench.manifest(ONE))).well();
    bench.cluster.behaves(&image('2'), Behaviour::NeverReady);
    let second = bench.manifest(Wanted { version: '2', second: true, ..ONE });
    let mut child = bench.deploy(&second).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until(|| bench.cluster.images().contains(&("pi-1".to_owned(), image('2'))));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ne!(bench.inventory()["pending"], Value::Null);

    // The next one fails too: what ran before both is back, and what the first had made is gone.
    bench.cluster.behaves(&image('3'), Behaviour::Crashes);
    let failed = ran(bench.deploy(&bench.manifest(Wanted { version: '3', ..ONE })));
    assert_eq!(failed.code, Some(1), "{}", failed.stdout);
    assert!(failed.stdout.contains("was interrupted"), "{}", failed.stdout);
    assert!(issue(&failed).contains("is back and runs"), "{}", issue(&failed));
    assert_eq!(bench.image("deployments"), image('1'));
    assert_eq!(bench.cluster.names("apps/v1", "deployments"), ["mynah-runtime"]);

    // Killed anywhere, run again: it arrives.
    for round in 0..8_u64 {
        let version = if round % 2 == 0 { '4' } else { '5' };
        let mut child = bench.deploy(&bench.manifest(Wanted { version, second: round % 3 == 0, ..ONE }));
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(Duration::from_millis(15 + 40 * round));
        // It may have ended by itself.
        let _ = child.kill();
        child.wait().unwrap();
    }
    ran(bench.deploy(&bench.manifest(Wanted { version: '6', ..ONE }))).well();
    assert_eq!(bench.image("deployments"), image('6'));
    assert_eq!(bench.cluster.names("apps/v1", "deployments"), ["mynah-runtime"]);
    assert_eq!(bench.inventory()["pending"], Value::Null);
    bench.is_sound();
}

#[test]
fn a_cancelled_run_ends_as_such_and_is_finished_later() {
    let bench = Bench::new();
    bench.cluster.behaves(&image('1'), Behaviour::NeverReady);
    let manifest = bench.manifest(ONE);
    let child = bench.deploy(&manifest).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until(|| !bench.cluster.images().is_empty());
    let killed = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success());
    let ended = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(130), "{}", ended.stdout);
    bench.cluster.behaves(&image('1'), Behaviour::Runs);
    bench.cluster.settle();
    ran(bench.deploy(&manifest)).well();
    assert_eq!(bench.inventory()["pending"], Value::Null);
    bench.is_sound();
}

#[test]
fn each_way_to_sign_in_reaches_the_cluster() {
    use std::os::unix::fs::PermissionsExt as _;
    const ID: &str = "0f0e0d0c-1111-2222-3333-444455556666";
    let bench = Bench::new();
    let manifest = bench.manifest(ONE);
    let url = bench.served.url();
    let connected = |kind: &str| {
        let mut command = bench.deploy(&manifest);
        command
            .env_remove("INPUT_KUBECONFIG")
            .env("INPUT_CLUSTERCONNECTION", ID)
            .env(format!("ENDPOINT_DATA_{ID}_AUTHORIZATIONTYPE"), kind);
        command
    };
    let mut account = connected("ServiceAccount");
    account
        .env(format!("ENDPOINT_URL_{ID}"), &url)
        .env(format!("ENDPOINT_AUTH_PARAMETER_{ID}_APITOKEN"), STANDARD.encode(TOKEN));
    ran(account).well();
    let mut file = connected("Kubeconfig");
    file.env(format!("ENDPOINT_AUTH_PARAMETER_{ID}_KUBECONFIG"), Cluster::kubeconfig(&url))
        .env(format!("ENDPOINT_AUTH_PARAMETER_{ID}_CLUSTERCONTEXT"), "test");
    let by_file = ran(file).well();
    assert!(
        by_file.stdout.lines().filter(|line| !line.contains("setsecret")).all(|line| !line.contains(TOKEN))
    );

    // A program whose first token has expired.
    let program = bench.at("sign-in");
    let script = format!(
        "#!/bin/sh\ncase \"$KUBERNETES_EXEC_INFO\" in *ExecCredential*) ;; *) exit 3 ;; esac\n\
         if [ -e \"$0.again\" ]; then token={TOKEN}; else token=expired-9417; fi\n: > \"$0.again\"\n\
         echo '{{\"kind\": \"ExecCredential\", \"status\": {{\"token\": \"'$token'\"}}}}'\n"
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let config = Cluster::kubeconfig(&url).replace(
        &format!("token: {TOKEN}"),
        "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./sign-in, interactiveMode: Never}",
    );
    fs::write(bench.at("by-program"), &config).unwrap();
    let mut by_program = bench.deploy(&manifest);
    by_program.env("INPUT_KUBECONFIG", bench.at("by-program"));
    ran(by_program).well();

    fs::write(&program, "#!/bin/sh\necho 'no such profile' >&2\nexit 7\n").unwrap();
    let mut broken = bench.deploy(&manifest);
    broken.env_remove("INPUT_KUBECONFIG").env("KUBECONFIG", bench.at("by-program"));
    let failed = ran(broken);
    assert!(issue(&failed).contains("no such profile"), "{}", issue(&failed));
    let mut nothing = bench.deploy(&manifest);
    nothing.env_remove("INPUT_KUBECONFIG");
    let failed = ran(nothing);
    assert_eq!(failed.code, Some(2));
    assert!(issue(&failed).contains("no cluster is named"), "{}", issue(&failed));
    bench.is_sound();
}

#[test]
fn what_is_applied_and_answered_agrees_with_the_published_schemas() {
    let python = std::env::var_os("MYNAH_PYTHON").unwrap_or_else(|| "python3".into());
    let probe = Command::new(&python).args(["-c", "import kubernetes_validate"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: Python's kubernetes-validate is not here");
        return;
    }
    let bench = Bench::new();
    ran(bench.deploy(&bench.manifest(Wanted { second: true, everywhere: true, ..ONE }))).well();
    ran(bench.deploy(&bench.manifest(Wanted { version: '2', ..ONE }))).well();
    let objects = bench.at("objects.jsonl");
    let applied = bench.cluster.wire.exchanges();
    let applied = applied.iter().filter(|said| said.method == "PATCH").filter_map(|said| said.body.clone());
    let all: Vec<String> = applied.chain(bench.cluster.objects()).map(|object| object.to_string()).collect();
    assert!(all.len() > 20, "only {} objects", all.len());
    fs::write(&objects, all.join("\n")).unwrap();
    let judge = root().join("tests/judges/objects_validate.py");
    let judged = Command::new(python).arg(judge).arg(&objects).output().unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
}
