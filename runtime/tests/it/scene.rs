//! A folder with model, clips and frames, and the runtime run on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mynah_contracts::{DeviceStatus, Sighting, from_json};
use mynah_testkit::{solid_colour_jpeg, tiny_labels, tiny_model_package, tiny_speech};

pub(crate) struct Scene(tempfile::TempDir);

impl Scene {
    /// A model, clips for all its labels, and these frames: a name and its colour.
    pub(crate) fn new(frames: &[(&str, [u8; 3])]) -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        tiny_model_package(&scene.path("model")).unwrap();
        tiny_speech(&scene.path("speech"), &tiny_labels()).unwrap();
        std::fs::create_dir(scene.path("frames")).unwrap();
        for (seed, (name, colour)) in frames.iter().enumerate() {
            std::fs::write(scene.path("frames").join(name), solid_colour_jpeg(*colour, seed as u64)).unwrap();
        }
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The runtime with no settings at all, in the scene's folder.
    pub(crate) fn bare(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mynah-runtime"));
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(self.0.path());
        command
    }

    /// The runtime with everything in its place; `changes` come last and override.
    pub(crate) fn runtime(&self, changes: &[(&str, &str)]) -> Command {
        let mut settings = vec![
            ("model", "model"),
            ("source", "dir:frames"),
            ("speaker", "wav:heard"),
            ("speech", "speech"),
            // What is installed on a machine must not decide a test.
            ("speech-engine", "off"),
            ("sightings", "sightings.jsonl"),
            ("status", "status.json"),
        ];
        settings.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        let mut command = self.bare();
        for (name, value) in settings.iter().chain(changes) {
            command.arg(format!("--{name}={value}"));
        }
        command
    }

    pub(crate) fn run(&self, changes: &[(&str, &str)]) -> Run {
        Run::of(self.runtime(changes).output().unwrap())
    }

    pub(crate) fn sightings(&self) -> Vec<Sighting> {
        sightings(&std::fs::read_to_string(self.path("sightings.jsonl")).unwrap())
    }

    pub(crate) fn status(&self) -> DeviceStatus {
        from_json(&std::fs::read(self.path("status.json")).unwrap()).unwrap()
    }

    /// The names of the files of what was said, in order.
    pub(crate) fn heard(&self) -> Vec<String> {
        names(&self.path("heard"))
    }
}

pub(crate) fn sightings(text: &str) -> Vec<Sighting> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What a run left behind on its outputs.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Fails with the whole log unless the exit code is this and the log holds every one of these.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, says: &[&str]) {
        assert_eq!(self.code, code, "{}", self.stderr);
        for says in says {
            assert!(self.stderr.contains(says), "`{says}` is missing in:\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}
