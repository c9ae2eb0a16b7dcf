//! `build-modules --push`, `--output-archive` and `mynah trace`: against a strict registry that goes wrong on demand,
//! and against Debian's own, read back by skopeo and umoci.

mod debian;
mod peers;
mod publishing;
mod tracing;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::given::{Ran, binary, runtime};

/// A model package, and a folder to build into.
pub(super) struct Workplace {
    pub(super) root: tempfile::TempDir,
}

impl Workplace {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        mynah_testkit::tiny_model_package(&root.path().join("model")).unwrap();
        Self { root }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Runs `build-modules` with further arguments and variables.
    pub(super) fn build(&self, arguments: &[&str], env: &[(&str, &str)]) -> Ran {
        let mut command = binary("build-modules");
        // Nothing of what this machine's user has signed in to.
        command.env("HOME", self.root.path()).current_dir(self.root.path());
        command.args(["--model", "model", "--out", "images", "--runtime"]).arg(runtime()).args(arguments);
        command.envs(env.iter().copied()).output().unwrap().into()
    }

    /// Another model: its card and its weights differ.
    pub(super) fn retrain(&self) {
        let model = self.path("model/model.onnx");
        let mut bytes = std::fs::read(&model).unwrap();
        // A field that no reader knows, at the end of the file (protocol buffers, field 1000, varint).
        bytes.extend([0xc0, 0x3e, 0x07]);
        std::fs::write(&model, &bytes).unwrap();
        mynah_testkit::edit_card(&self.path("model"), |card| {
            card.model.sha256 = mynah_contracts::Sha256Digest::of(&bytes);
            card.model.bytes = bytes.len() as u64;
        })
        .unwrap();
    }

    /// The first module of `modules.json`.
    pub(super) fn module(&self) -> Value {
        json(&self.path("images/modules.json"))["modules"][0].clone()
    }
}

pub(super) fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The user every registry here knows.
pub(super) const ENV: [(&str, &str); 2] =
    [("MYNAH_REGISTRY_USER", "ada"), ("MYNAH_REGISTRY_PASSWORD", "pass-word-1815")];
