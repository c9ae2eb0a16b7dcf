//! The journey through Azure: the task binaries with an agent's environment only, against strict doubles.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mynah_contracts::{Artifact as _, DeploymentRecord, ModuleSet, Speech, from_json};
use mynah_testkit::iothub::IotHub;
use mynah_testkit::speech::SpeechService;
use serde_json::json;

use crate::process::{built, cargo, run};
use crate::{judges, say};

/// Which devices are deployed to.
const CONDITION: &str = "tags.room = 'hall'";

/// How often the deployment is killed before it is let through.
const KILLS: u32 = 10;

/// Speech and deployment, with a model of the samples.
pub(crate) fn azure() -> Result<()> {
    let root = fs::canonicalize(crate::root())?;
    run(&root, cargo(), ["build", "--release", "--locked"], &[])?;
    let scratch = tempfile::tempdir()?;
    let walk = Walk { bin: built(&root, "release")?, root, out: scratch.path().to_owned() };

    say("journey azure: a model of the samples");
    walk.step(
        "import-images",
        &[("source", &walk.root.join("samples/photos")), ("out", &walk.at("dataset"))],
        &[],
    )?;
    walk.step("train-model", &[("dataset", &walk.at("dataset")), ("out", &walk.at("training"))], &[])?;
    let export =
        [("training", walk.at("training")), ("dataset", walk.at("dataset")), ("out", walk.at("model"))];
    walk.step("export-model", &export.each_ref().map(|(name, path)| (*name, path.as_path())), &[])?;

    say("journey azure: words spoken by Azure Speech, once");
    let speech = SpeechService::default();
    let served = speech.start(0)?;
    let map = walk.at("speech-map.json");
    fs::write(&map, r#"{"voice": "en-AU-NatashaNeural", "default": "I see a {label}"}"#)?;
    let url = served.url();
    let env = [("SPEECH_KEY", SpeechService::KEY), ("INPUT_AZURESPEECH", url.as_str())];
    let build = [("model", walk.at("model")), ("speechMap", map), ("out", walk.at("images"))];
    let build = build.each_ref().map(|(name, path)| (*name, path.as_path()));
    walk.step("build-modules", &build, &env)?;
    let clips: Speech = from_json(&fs::read(walk.at("images/speech").join(Speech::FILE))?)?;
    ensure!(speech.spoken().len() == clips.clips.len(), "{} clips were spoken", speech.spoken().len());
    walk.step("build-modules", &build, &env)?;
    ensure!(speech.spoken().len() == clips.clips.len(), "a second build spoke again");
    ensure!(speech.wire.violations().is_empty(), "Azure Speech: {:?}", speech.wire.violations());
    walk.step(
        "generate-manifest",
        &[("images", &walk.at("images")), ("out", &walk.at("deployment.json"))],
        &[],
    )?;

    say(&format!("journey azure: a fleet through IoT Hub, killed {KILLS} times"));
    let hub = IotHub::default();
    // A person does not start it again ten times a minute.
    hub.allow_calls_a_minute(1000);
    for number in 1..=3 {
        hub.add_edge_device(&format!("pi-{number}"), json!({"room": "hall"}));
    }
    let served = hub.start(0)?;
    let string = IotHub::connection_string(&served.url().replace("http://", ""));
    let deploy = [("manifest", walk.at("deployment.json")), ("out", walk.at("deployed"))];
    let deploy = deploy.each_ref().map(|(name, path)| (*name, path.as_path()));
    let env = [
        ("IOTHUB_CONNECTION_STRING", string.as_str()),
        ("INPUT_TARGET", "iot-hub"),
        ("INPUT_TARGETCONDITION", CONDITION),
    ];
    for round in 0..KILLS {
        let mut child = walk
            .command("deploy-modules", &deploy, &env)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_millis(u64::from(5 + 90 * round)));
        // It may have ended by itself.
        let _ = child.kill();
        child.wait()?;
    }
    walk.step("deploy-modules", &deploy, &env)?;
    let record: DeploymentRecord = from_json(&fs::read(walk.at("deployed").join(DeploymentRecord::FILE))?)?;
    let modules: ModuleSet = from_json(&fs::read(walk.at("images").join(ModuleSet::FILE))?)?;
    let module = modules.modules.first().context("no module was built")?;
    ensure!(
        record.modules.iter().any(|deployed| deployed.image == module.pinned()),
        "another image was deployed"
    );
    let done = record.hub.context("the record says nothing of the hub")?;
    ensure!(done.running.len() == 3, "only {:?} run it", done.running);
    ensure!(hub.priorities().len() == 1, "configurations are left: {:?}", hub.priorities());

    say("journey azure: the same again changes nothing");
    let said = walk.step("deploy-modules", &deploy, &env)?;
    ensure!(said.contains("variable=changed;isOutput=true]false"), "something was changed:\n{said}");
    ensure!(hub.gaps().is_empty(), "devices were left without a deployment: {:?}", hub.gaps());
    ensure!(hub.wire.violations().is_empty(), "IoT Hub: {:?}", hub.wire.violations());
    let exchanges = walk.at("hub.jsonl");
    fs::write(&exchanges, hub.wire.record()?)?;
    judges::iot_hub(&walk.root, &exchanges)?;
    say("journey azure: done");
    Ok(())
}

/// The folders of one walk.
struct Walk {
    root: PathBuf,
    bin: PathBuf,
    out: PathBuf,
}

impl Walk {
    fn at(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// A task as an agent starts it: inputs as variables, no arguments.
    fn command(&self, task: &str, inputs: &[(&str, &Path)], env: &[(&str, &str)]) -> Command {
        let mut command = Command::new(self.bin.join(task));
        command.current_dir(&self.out).env_clear().env("TF_BUILD", "True").env("MYNAH_HOME", &self.root);
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path))).envs(env.iter().copied());
        for (name, value) in inputs {
            command.env(format!("INPUT_{}", name.to_uppercase()), value);
        }
        command
    }

    /// Runs a task to its good end and gives what it said.
    fn step(&self, task: &str, inputs: &[(&str, &Path)], env: &[(&str, &str)]) -> Result<String> {
        let output =
            self.command(task, inputs, env).output().with_context(|| format!("cannot start {task}"))?;
        let said = String::from_utf8(output.stdout)?;
        ensure!(output.status.success(), "{task} ended with {}:\n{said}", output.status);
        Ok(said)
    }
}
