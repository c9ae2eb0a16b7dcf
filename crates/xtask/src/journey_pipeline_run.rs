//! The shipped pipelines, run end to end on this machine by `mynah pipeline run`: with what is built in, with several
//! agents, and with doubles of Azure's services.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mynah_contracts::{Artifact as _, DeploymentRecord, ModelCard, TrainerKind, Training, from_json};
use mynah_testkit::customvision::{CustomVision, Settings};
use mynah_testkit::iothub::IotHub;
use serde_json::{Value, json};

use crate::say;

/// The repository as a user's, with the built programs.
pub(crate) struct Laptop<'a> {
    pub(crate) root: &'a Path,
    pub(crate) bin: PathBuf,
    pub(crate) scratch: &'a Path,
}

impl Laptop<'_> {
    /// Runs all of them.
    pub(crate) fn shipped(&self) -> Result<()> {
        self.embedded()?;
        self.shared()?;
        self.custom_vision()?;
        self.release()
    }

    fn out(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Runs a pipeline to its good end and gives what the run came to.
    fn run(&self, file: &str, out: &str, words: &[&str], env: &[(&str, &str)]) -> Result<Value> {
        let mut command = Command::new(self.bin.join("mynah"));
        command
            .args(["pipeline", "run"])
            .arg(Path::new("pipelines").join(file))
            .arg("--out")
            .arg(self.out(out));
        command.args(words).current_dir(self.root).envs(env.iter().copied());
        let output = command.output().context("cannot start mynah")?;
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{file}: {}\n{said}", output.status);
        for (name, value) in env {
            ensure!(!said.contains(value), "{file} shows the value of {name}");
        }
        let newest =
            (1..100).map(|number| self.folder(out, number)).take_while(|folder| folder.is_dir()).last();
        let record = newest.context("no run was written down")?.join("run.json");
        Ok(serde_json::from_slice(&fs::read(record)?)?)
    }

    fn folder(&self, out: &str, number: u32) -> PathBuf {
        self.out(out).join("runs").join(number.to_string())
    }

    fn artifact(&self, out: &str, name: &str) -> PathBuf {
        self.folder(out, 1).join("artifacts").join(name)
    }

    fn embedded(&self) -> Result<()> {
        let words = ["--parameter", "source=samples/photos"];
        let record = self.run("azure-pipelines.yml", "ci", &words, &[])?;
        ensure!(record["stages"]["modules"]["result"] == "Succeeded", "no modules were built: {record}");
        ensure!(self.artifact("ci", "deployment").join("deployment.json").is_file(), "there is no manifest");
        let again = self.run("azure-pipelines.yml", "ci", &words, &[])?;
        ensure!(
            again["stages"]["modules"]["result"] == "Skipped" && again["result"] == "Succeeded",
            "photos that did not change were trained on again: {again}"
        );
        say("azure-pipelines.yml: photos to a manifest; the second run skips what did not change");
        Ok(())
    }

    fn shared(&self) -> Result<()> {
        let words = ["--parameter", "source=samples/photos", "--parameter", "agents=3"];
        self.run("azure-pipelines.yml", "shared", &words, &[])?;
        for (artifact, file) in
            [("model", ModelCard::FILE), ("model", "model.onnx"), ("training", Training::FILE)]
        {
            let of = |out: &str| fs::read(self.artifact(out, artifact).join(file));
            ensure!(of("ci")? == of("shared")?, "{file} of three agents differs from that of one");
        }
        say("azure-pipelines.yml: three agents share the photos and make the same model, to the byte");
        Ok(())
    }

    fn custom_vision(&self) -> Result<()> {
        let settings = Settings::default();
        let key = settings.key.clone();
        let vision = CustomVision::start_on(0, settings)?;
        let endpoint = format!("visionEndpoint={}", vision.endpoint());
        let words = [
            "--parameter",
            "source=samples/photos",
            "--parameter",
            "minAccuracy=0",
            "--variable",
            &endpoint,
            "--variable",
            "visionProject=journey",
            "--secret",
            "customVisionKey",
        ];
        self.run("custom-vision.yml", "vision", &words, &[("CUSTOMVISIONKEY", &key)])?;
        let training: Training =
            from_json(&fs::read(self.artifact("vision", "training").join(Training::FILE))?)?;
        ensure!(training.trainer == TrainerKind::CustomVision, "Custom Vision did not train");
        ensure!(
            self.artifact("vision", "deployment").join("deployment.json").is_file(),
            "there is no manifest"
        );
        ensure!(vision.wire().violations().is_empty(), "Custom Vision: {:?}", vision.wire().violations());
        say("custom-vision.yml: photos to a manifest through Custom Vision, its key a secret variable");
        Ok(())
    }

    fn release(&self) -> Result<()> {
        let hub = IotHub::default();
        for (device, ring) in [("pi-1", "canary"), ("pi-2", "fleet"), ("pi-3", "fleet")] {
            hub.add_edge_device(device, json!({"ring": ring}));
        }
        let served = hub.start(0)?;
        let host = served.url().replace("http://", "");
        let string = IotHub::connection_string(&host);
        self.base(&string)?;
        let (variable, resource) = (format!("hub={host}"), format!("ci={}", self.out("ci").display()));
        let words = ["--variable", &variable, "--connection", "mynah-hub", "--resource", &resource];
        let record = self.run("release.yml", "release", &words, &[("IOTHUB_CONNECTION_STRING", &string)])?;
        for (stage, devices) in [("canary", vec!["pi-1"]), ("fleet", vec!["pi-2", "pi-3"])] {
            ensure!(record["stages"][stage]["result"] == "Succeeded", "the {stage} failed: {record}");
            let file =
                self.artifact("release", &format!("record-mynah-{stage}")).join(DeploymentRecord::FILE);
            let deployed: DeploymentRecord = from_json(&fs::read(file)?)?;
            let running = deployed.hub.context("the record says nothing of the hub")?.running;
            ensure!(running == devices, "of the {stage}, {running:?} run it");
        }
        ensure!(hub.wire.violations().is_empty(), "IoT Hub: {:?}", hub.wire.violations());
        ensure!(hub.gaps().is_empty(), "devices were left without a deployment: {:?}", hub.gaps());
        say("release.yml: a canary, then the fleet, through IoT Hub");
        Ok(())
    }

    /// The deployment that every device has from the beginning, over which the release puts its layers.
    fn base(&self, connection_string: &str) -> Result<()> {
        let output = Command::new(self.bin.join("deploy-modules"))
            .arg("--manifest")
            .arg(self.artifact("ci", "deployment").join("deployment.json"))
            .args([
                "--target",
                "iot-hub",
                "--target-condition",
                "tags.ring = 'canary' OR tags.ring = 'fleet'",
            ])
            .args(["--deployment", "base", "--priority", "1", "--out"])
            .arg(self.out("base"))
            .env("IOTHUB_CONNECTION_STRING", connection_string)
            .output()?;
        ensure!(output.status.success(), "base: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}
