//! The journey through Azure: six task binaries with an agent's environment only, against Azurite and strict doubles,
//! killed on the way and run again.

mod cloud;
mod tasks;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mynah_contracts::{Artifact as _, DeploymentRecord, ModelCard, ModuleSet, Training, from_json};
use mynah_testkit::azurite::Azurite;
use serde_json::Value;

use crate::journey_azure::cloud::{Cloud, LABELS, PHOTOS};
use crate::journey_azure::tasks::{Dice, Task, Walk};
use crate::process::{built, cargo, run};
use crate::{judges, say};

/// In which step how many kills strike; each at a moment of its own.
const KILLS: [(Task, usize); 6] = [
    (Task::ImportImages, 2),
    (Task::TrainModel, 3),
    (Task::ExportModel, 1),
    (Task::BuildModules, 2),
    (Task::GenerateManifest, 0),
    (Task::DeployModules, 2),
];

/// The least time before a kill: a task that was not started was not killed.
const LEAST: Duration = Duration::from_millis(2);

/// How many downloads are under way at a time: no more are lost by a kill.
const AT_ONCE: usize = 16;

/// From a container of photos to a fleet that says what it sees.
pub(crate) fn azure() -> Result<()> {
    let root = fs::canonicalize(crate::root())?;
    run(&root, cargo(), ["build", "--release", "--locked"], &[])?;
    let bin = built(&root, "release")?;
    if !judges::present("azurite", std::process::Command::new(Azurite::program()).arg("--version"))? {
        return Ok(());
    }
    let azurite = Azurite::start()?.context("azurite is installed and was not found")?;
    cloud::upload_photos(&azurite)?;
    let scratch = tempfile::tempdir()?;
    let folder = |name: &str| {
        let folder = scratch.path().join(name);
        fs::create_dir(&folder).map(|()| folder)
    };

    say("journey azure: the walk, undisturbed");
    let calm_cloud = Cloud::start(&azurite)?;
    let calm = Walk { root: &root, bin: &bin, out: folder("calm")?, cloud: &calm_cloud };
    let mut took = Vec::new();
    for (task, _) in KILLS {
        let start = Instant::now();
        calm.run(task)?;
        took.push(start.elapsed());
        say(&format!("  {} {:.1} s", task.binary(), start.elapsed().as_secs_f64()));
    }
    let once = azurite.downloads()?;
    ensure!(once == PHOTOS, "{once} downloads were made for {PHOTOS} photos");
    arrived(&calm)?;
    calm_cloud.nothing_twice(0)?;

    let mut dice = Dice::new()?;
    let ten: usize = KILLS.iter().map(|(_, kills)| kills).sum();
    say(&format!("journey azure: killed at {ten} moments (MYNAH_JOURNEY_SEED={})", dice.seed()));
    let disturbed_cloud = Cloud::start(&azurite)?;
    let disturbed = Walk { root: &root, bin: &bin, out: folder("disturbed")?, cloud: &disturbed_cloud };
    let mut struck = 0;
    for ((task, kills), took) in KILLS.into_iter().zip(&took) {
        let mut left = *took;
        for _ in 0..kills {
            let moment = left.mul_f64(dice.share());
            // What was done stays done: the next one is killed on the rest of the way.
            left -= moment;
            let hit = disturbed.kill(task, moment)?;
            struck += usize::from(hit);
            let end = if hit { "killed" } else { "had ended" };
            say(&format!("  {} {end} after {} ms", task.binary(), moment.as_millis()));
        }
        disturbed.run(task)?;
    }
    let of_import =
        KILLS.iter().filter(|(task, _)| *task == Task::ImportImages).map(|(_, kills)| kills).sum::<usize>();
    ensure!(struck >= 5, "only {struck} of {ten} kills met a running task: too few to show anything");
    arrived(&disturbed)?;
    same_end(&calm, &disturbed)?;
    disturbed_cloud.nothing_twice(struck)?;
    let more = azurite.downloads()? - once - PHOTOS;
    ensure!(more <= AT_ONCE * of_import, "{more} photos were fetched twice");
    say(&format!("  {struck} kills, {more} downloads broken off; the same end, nothing twice"));

    say("journey azure: the same again");
    let (before, downloads) = (disturbed_cloud.writes(), azurite.downloads()?);
    let state = disturbed_cloud.vision.snapshot();
    let start = Instant::now();
    for (task, _) in KILLS {
        let said = disturbed.run(task)?;
        for (of, expected) in [(Task::ImportImages, "changed"), (Task::DeployModules, "changed")] {
            let line = format!("##vso[task.setvariable variable={expected};isOutput=true]false");
            ensure!(task != of || said.contains(&line), "{} changed something:\n{said}", task.binary());
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    ensure!(azurite.downloads()? == downloads, "photos were fetched again");
    ensure!(disturbed_cloud.vision.snapshot() == state, "something was trained or sent again");
    let after = disturbed_cloud.writes();
    ensure!(before == after, "services were written to again: {before:?}, then {after:?}");
    say(&format!("  {seconds:.1} s: no download, no upload, no training, no push, no deployment"));

    say("journey azure: what was said with the services");
    for (name, cloud) in [("calm", &calm_cloud), ("disturbed", &disturbed_cloud)] {
        cloud.is_sound()?;
        let record = |service: &str| scratch.path().join(format!("{name}-{service}.jsonl"));
        fs::write(record("hub"), cloud.hub.wire.record()?)?;
        judges::iot_hub(&root, &record("hub"))?;
        fs::write(record("vision"), cloud.vision.wire().record()?)?;
        judges::custom_vision(&root, &record("vision"))?;
    }
    judges::foreign_package(&root, &disturbed.at("model"))?;
    judges::iot_edge_schemas(&root, &disturbed.at("deployment.json"))?;
    say("journey azure: done");
    Ok(())
}

/// What a finished walk must have left: a model that knows the photos, its image on every device of the fleet.
fn arrived(walk: &Walk<'_>) -> Result<()> {
    let training: Training = read(&walk.at("training").join(Training::FILE))?;
    let accuracy = training.cross_validation.summary.accuracy;
    ensure!(accuracy >= 0.9, "the accuracy is {accuracy}");
    let card: ModelCard = read(&walk.at("model").join(ModelCard::FILE))?;
    let labels: Vec<&str> = card.labels.iter().map(mynah_contracts::Label::as_str).collect();
    ensure!(labels == LABELS, "the labels are {labels:?}");
    let modules: ModuleSet = read(&walk.at("images").join(ModuleSet::FILE))?;
    let module = modules.modules.first().context("no module was built")?;
    let image = module.pinned();
    let record: DeploymentRecord = read(&walk.at("deployed").join(DeploymentRecord::FILE))?;
    ensure!(record.modules.iter().any(|deployed| deployed.image == image), "another image was deployed");
    let done = record.hub.context("the record says nothing of the hub")?;
    ensure!(done.running == cloud::DEVICES, "only {:?} run it", done.running);
    walk.cloud.runs(&image)
}

fn read<A: mynah_contracts::Artifact>(path: &Path) -> Result<A> {
    from_json(&fs::read(path)?).with_context(|| path.display().to_string())
}

/// Two walks ended the same, but for the addresses of the doubles and the numbers that the service gave.
fn same_end(calm: &Walk<'_>, disturbed: &Walk<'_>) -> Result<()> {
    for folder in ["dataset", "images/speech"] {
        let (one, other) = (tasks::files(&calm.at(folder))?, tasks::files(&disturbed.at(folder))?);
        ensure!(!one.is_empty() && one == other, "`{folder}` differs");
    }
    let training = |walk: &Walk<'_>| -> Result<[Value; 2]> {
        let told: Value = serde_json::from_slice(&fs::read(walk.at("training").join(Training::FILE))?)?;
        Ok([told["crossValidation"].clone(), told["probes"].clone()])
    };
    ensure!(training(calm)? == training(disturbed)?, "the trainings differ");
    for file in ["labels.txt", "probes"] {
        let (one, other) = (tasks::files(&calm.at("model"))?, tasks::files(&disturbed.at("model"))?);
        let of = |files: &[(std::path::PathBuf, Vec<u8>)]| -> Vec<_> {
            files.iter().filter(|(path, _)| path.starts_with(file)).cloned().collect()
        };
        ensure!(!of(&one).is_empty() && of(&one) == of(&other), "`{file}` of the models differs");
    }
    ensure!(calm.cloud.vision.snapshot() == disturbed.cloud.vision.snapshot(), "the projects differ");
    for path in [calm, disturbed] {
        let left = tasks::files(&path.out)?;
        let partial = left.iter().find(|(file, _)| file.to_string_lossy().contains("partial"));
        ensure!(partial.is_none(), "{:?} was left behind", partial.map(|(file, _)| file));
    }
    Ok(())
}
