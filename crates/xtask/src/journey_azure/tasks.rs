//! The tasks of a walk, as an agent starts them: inputs as variables, no arguments, nothing else in the environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use walkdir::WalkDir;

use super::LEAST;
use super::cloud::Cloud;

/// One of the six steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Task {
    ImportImages,
    TrainModel,
    ExportModel,
    BuildModules,
    GenerateManifest,
    DeployModules,
}

impl Task {
    pub(super) fn binary(self) -> &'static str {
        match self {
            Self::ImportImages => "import-images",
            Self::TrainModel => "train-model",
            Self::ExportModel => "export-model",
            Self::BuildModules => "build-modules",
            Self::GenerateManifest => "generate-manifest",
            Self::DeployModules => "deploy-modules",
        }
    }

    /// Inputs that are places below the walk's folder.
    fn places(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::ImportImages => &[("OUT", "dataset")],
            Self::TrainModel => &[("DATASET", "dataset"), ("OUT", "training")],
            Self::ExportModel => &[("TRAINING", "training"), ("DATASET", "dataset"), ("OUT", "model")],
            Self::BuildModules => &[("MODEL", "model"), ("SPEECHMAP", "speech-map.json"), ("OUT", "images")],
            Self::GenerateManifest => &[("IMAGES", "images"), ("OUT", "deployment.json")],
            Self::DeployModules => &[("MANIFEST", "deployment.json"), ("OUT", "deployed")],
        }
    }
}

/// The folders and services of one walk.
pub(super) struct Walk<'a> {
    pub(super) root: &'a Path,
    pub(super) bin: &'a Path,
    pub(super) out: PathBuf,
    pub(super) cloud: &'a Cloud,
}

impl Walk<'_> {
    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    fn command(&self, task: Task) -> Result<Command> {
        if task == Task::BuildModules {
            let map = r#"{"voice": "de-DE-KatjaNeural", "language": "de-DE", "default": "Ich sehe {label}"}"#;
            fs::write(self.at("speech-map.json"), map)?;
        }
        let mut command = Command::new(self.bin.join(task.binary()));
        command.current_dir(&self.out).env_clear().env("TF_BUILD", "True").env("MYNAH_HOME", self.root);
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        for (input, place) in task.places() {
            command.env(format!("INPUT_{input}"), self.at(place));
        }
        command.envs(self.cloud.environment(task)).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a task to its good end and gives what it said.
    pub(super) fn run(&self, task: Task) -> Result<String> {
        let output =
            self.command(task)?.output().with_context(|| format!("cannot start {}", task.binary()))?;
        let said = String::from_utf8(output.stdout)?;
        let complained = String::from_utf8(output.stderr)?;
        ensure!(output.status.success(), "{} ended with {}:\n{said}", task.binary(), output.status);
        for line in said.lines().chain(complained.lines()) {
            let masks = line.starts_with("##vso[task.setsecret]");
            let told = Cloud::secrets().into_iter().find(|secret| !masks && line.contains(secret.as_str()));
            ensure!(told.is_none(), "{} told a secret:\n{line}", task.binary());
            ensure!(
                !line.contains("##vso[task.complete result=Failed"),
                "a blob spoke to the agent:\n{line}"
            );
        }
        Ok(said)
    }

    /// Starts a task and kills it (SIGKILL: it cannot tidy up); tells whether it still ran.
    pub(super) fn kill(&self, task: Task, after: Duration) -> Result<bool> {
        let mut child = self.command(task)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(after.max(LEAST));
        let ran = child.try_wait()?.is_none();
        // It may end in this very moment.
        let _ = child.kill();
        child.wait()?;
        Ok(ran)
    }
}

/// Every file below `folder` with its bytes, in order.
pub(super) fn files(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() {
            files.push((entry.path().strip_prefix(folder)?.to_owned(), fs::read(entry.path())?));
        }
    }
    Ok(files)
}

/// Numbers from a seed: SplitMix64 (Steele, Lea and Flood 2014).
pub(super) struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    /// From `MYNAH_JOURNEY_SEED`, or from the clock: a seed of its own for each journey, which is printed.
    pub(super) fn new() -> Result<Self> {
        let seed = match std::env::var_os("MYNAH_JOURNEY_SEED") {
            Some(given) => {
                let given = given.to_string_lossy();
                given.parse().with_context(|| format!("MYNAH_JOURNEY_SEED is `{given}`, not a number"))?
            }
            None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        };
        Ok(Self { seed, state: seed })
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// From 0 to 0.9: a task that is as fast as before is met before its end.
    pub(super) fn share(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        0.9 * (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}
