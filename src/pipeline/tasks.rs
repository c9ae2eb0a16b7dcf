//! Our tasks, as a pipeline names them.

use crate::agent::OptionSpec;
use crate::nearest::nearest;
use crate::step::{OutputSpec, Step};
use crate::steps::build_modules::BuildModules;
use crate::steps::deploy_modules::DeployModules;
use crate::steps::export::ExportModel;
use crate::steps::generate_manifest::GenerateManifest;
use crate::steps::import::ImportImages;
use crate::steps::train::TrainModel;

/// A task of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    /// Its name.
    pub(super) name: &'static str,
    /// Its program.
    pub(super) program: &'static str,
    /// Its inputs.
    pub(super) options: &'static [OptionSpec],
    /// Its output variables.
    pub(super) outputs: &'static [OutputSpec],
}

const fn task<S: Step>() -> Task {
    Task { name: S::TASK, program: S::NAME, options: S::OPTIONS, outputs: S::OUTPUTS }
}

/// The tasks, in the order of the walk.
pub(super) const TASKS: [Task; 6] = [
    task::<ImportImages>(),
    task::<TrainModel>(),
    task::<ExportModel>(),
    task::<BuildModules>(),
    task::<GenerateManifest>(),
    task::<DeployModules>(),
];

impl Task {
    /// The task of a name such as `ImportImages`, `ImportImages-test` or `publisher.extension.id.ImportImages`.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        let last = name.rsplit('.').next().unwrap_or(name);
        let last = last.strip_suffix("-test").unwrap_or(last);
        TASKS.iter().find(|task| task.name.eq_ignore_ascii_case(last))
    }

    /// The input of a name, in any letter case.
    pub(super) fn option(&self, name: &str) -> Option<&'static OptionSpec> {
        self.options.iter().find(|option| option.name.eq_ignore_ascii_case(name))
    }
}

/// A hint with the name among `names` that was most likely meant by `word`, or else with all of them.
pub(super) fn meant(word: &str, names: impl IntoIterator<Item = String>) -> String {
    let names: Vec<String> = names.into_iter().collect();
    match nearest(word, names.clone()).first() {
        Some(name) => format!("was `{name}` meant?"),
        None => format!(
            "there are {}",
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        ),
    }
}

/// The major version that pipelines name, such as `0` in `ImportImages@0`.
pub(super) fn major() -> &'static str {
    let version = env!("CARGO_PKG_VERSION");
    version.split_once('.').map_or(version, |(major, _)| major)
}
