//! The journey to a cluster: two models of the samples, deployed by the built programs against a strict double of the API.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mynah_contracts::{Artifact as _, DeploymentRecord, ModuleSet, Platform, Sha256Digest, from_json};
use mynah_testkit::kubernetes::{Behaviour, Cluster};

use crate::process::{built, cargo, run};
use crate::say;

/// How often the deployment is killed before it is let through.
const KILLS: u64 = 10;

/// The label of the nodes that are devices.
const DEVICES: (&str, &str) = ("mynah/device", "yes");

/// Rollout, failed rollout and going back, canary, prune.
pub(crate) fn cluster() -> Result<()> {
    let root = fs::canonicalize(crate::root())?;
    run(&root, cargo(), ["build", "--release", "--locked"], &[])?;
    let scratch = tempfile::tempdir()?;
    let bench = Bench::new(&root, built(&root, "release")?, scratch.path())?;

    say("journey cluster: two models of the samples, as objects");
    let (first, second) = (bench.objects("1")?, bench.objects("2")?);

    say(&format!("journey cluster: the first, on three devices, killed {KILLS} times"));
    for round in 0..KILLS {
        let mut child = bench.deploy(&first.file).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(Duration::from_millis(5 + 40 * round));
        // It may have ended by itself.
        let _ = child.kill();
        child.wait()?;
    }
    bench.succeeds(bench.deploy(&first.file))?;
    bench.runs(&first)?;
    let record: DeploymentRecord = from_json(&fs::read(bench.at("record").join(DeploymentRecord::FILE))?)?;
    let pods = record.cluster.context("the record says nothing of the cluster")?.pods;
    ensure!(pods.len() == 3, "{} pods run it", pods.len());
    ensure!(pods.iter().all(|pod| pod.model == Some(first.model)), "another model was reported: {pods:?}");

    say("journey cluster: the same again changes nothing");
    let said = bench.succeeds(bench.deploy(&first.file))?;
    ensure!(said.contains("unchanged at"), "something was changed:\n{said}");

    say("journey cluster: the second crashes on the canary; the others never see it, and the first is back");
    bench.double.behaves(&second.image, Behaviour::Crashes);
    let mut canary = bench.deploy(&second.file);
    canary.args(["--canary", "room=hall"]);
    let output = canary.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "it ended with {}:\n{said}", output.status);
    ensure!(said.contains("CrashLoopBackOff") && said.contains("is back and runs"), "it said:\n{said}");
    say(said.lines().find(|line| line.starts_with("error")).unwrap_or_default());
    bench.runs(&first)?;

    say("journey cluster: mended, by way of the canary");
    bench.double.behaves(&second.image, Behaviour::Runs);
    let mut canary = bench.deploy(&second.file);
    canary.args(["--canary", "room=hall"]);
    bench.succeeds(canary)?;
    bench.runs(&second)?;

    say("journey cluster: what left the manifest goes");
    let text = fs::read_to_string(&second.file)?;
    let extra = "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: extra\n  namespace: mynah\n  labels:\n    \
                 app.kubernetes.io/managed-by: mynah\n    app.kubernetes.io/part-of: mynah\ndata:\n  a: b\n";
    let more = bench.at("more.yaml");
    fs::write(&more, format!("{text}{extra}"))?;
    bench.succeeds(bench.deploy(&more))?;
    ensure!(bench.double.names("v1", "configmaps").contains(&"extra".to_owned()), "it was not made");
    bench.succeeds(bench.deploy(&second.file))?;
    ensure!(!bench.double.names("v1", "configmaps").contains(&"extra".to_owned()), "it stays");

    let violations = bench.double.wire.violations();
    ensure!(violations.is_empty(), "the API: {violations:?}");
    say("journey cluster: done");
    Ok(())
}

/// A manifest for Kubernetes.
struct Objects {
    file: PathBuf,
    image: String,
    model: Sha256Digest,
}

struct Bench {
    root: PathBuf,
    bin: PathBuf,
    out: PathBuf,
    double: Cluster,
    /// Listens as long as this is kept.
    _served: mynah_testkit::wire::Served,
}

impl Bench {
    fn new(root: &Path, bin: PathBuf, out: &Path) -> Result<Self> {
        let double = Cluster::default();
        // Whatever this machine is, the images of a walk are for it.
        let arch = match Platform::host() {
            Some(Platform::LinuxArm64) => "arm64",
            Some(Platform::LinuxArmV7) => "arm",
            _ => "amd64",
        };
        for (node, room) in [("pi-1", "hall"), ("pi-2", "attic"), ("pi-3", "attic")] {
            double.add_node(node, &[DEVICES, ("room", room), ("kubernetes.io/arch", arch)]);
            double.offer(node, "squat.ai/video", 1);
            double.offer(node, "squat.ai/sound", 1);
        }
        let served = double.start(0)?;
        fs::write(out.join("kubeconfig"), Cluster::kubeconfig(&served.url()))?;
        let overlay = r#"{"modulesContent": {"$edgeAgent": {"properties.desired": {"modules": {"mynah-runtime":
            {"env": {"MYNAH_HTTP": {"value": "0.0.0.0:8080"}}}}}}}}"#;
        fs::write(out.join("overlay.json"), overlay)?;
        Ok(Self { root: root.to_owned(), bin, out: out.to_owned(), double, _served: served })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// A model trained with this seed, its image, and the objects that run it on every device.
    fn objects(&self, seed: &str) -> Result<Objects> {
        let out = self.at(seed);
        let walk: [OsString; 6] = [
            "run".into(),
            "--quiet".into(),
            "--seed".into(),
            seed.into(),
            "--out".into(),
            out.clone().into(),
        ];
        run(&self.root, self.bin.join("mynah"), walk, &[])?;
        let images = out.join("images");
        let file = out.join("objects.yaml");
        let mut command = Command::new(self.bin.join("generate-manifest"));
        command.args(["--format", "kubernetes", "--probe", "mynah-runtime=8080/readyz"]);
        command.args(["--node-label", "mynah/device=yes"]).arg("--images").arg(&images);
        command.arg("--overlay").arg(self.at("overlay.json")).arg("--out").arg(&file);
        self.succeeds(command)?;
        let modules: ModuleSet = from_json(&fs::read(images.join(ModuleSet::FILE))?)?;
        let module = modules.modules.first().context("no module was built")?;
        let model = module.model.context("the module has no model")?;
        Ok(Objects { file, image: module.pinned(), model })
    }

    fn deploy(&self, objects: &Path) -> Command {
        let mut command = Command::new(self.bin.join("deploy-modules"));
        command.args(["--target", "kubernetes", "--wait", "60s"]);
        command.arg("--kubeconfig").arg(self.at("kubeconfig"));
        command.arg("--manifest").arg(objects).arg("--out").arg(self.at("record"));
        command
    }

    fn succeeds(&self, mut command: Command) -> Result<String> {
        let Output { status, stdout, stderr } = command.current_dir(&self.root).output()?;
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        ensure!(status.success(), "{command:?}: {status}\n{said}");
        Ok(said)
    }

    /// Fails unless each device runs this image, and nothing else.
    fn runs(&self, objects: &Objects) -> Result<()> {
        let images = self.double.images();
        let right = images.len() == 3 && images.iter().all(|(_, image)| *image == objects.image);
        ensure!(right, "the devices run {images:?}");
        Ok(())
    }
}
