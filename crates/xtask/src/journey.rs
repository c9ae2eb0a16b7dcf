//! The journeys: what the issues' "Shows" sections say, done as a user would, failing where one fails.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use mynah_contracts::{Artifact as _, Dataset, ModelCard, ModuleSet, from_json};

use crate::process::{built, cargo, run};
use crate::{judges, say};

/// The walk with nothing but this machine.
pub(crate) fn embedded() -> Result<()> {
    let root = fs::canonicalize(crate::root())?;
    run(&root, cargo(), ["build", "--release", "--locked"], &[])?;
    run(&root, cargo(), ["build", "--release", "--locked", "--package", "mynah-model", "--examples"], &[])?;
    let bin = built(&root, "release")?;
    let scratch = tempfile::tempdir()?;

    say("journey: the samples");
    let out = scratch.path().join("samples");
    walk(&root, &bin, &[], &out)?;
    let spoken = fs::read_dir(out.join("device/spoken"))?.count();
    ensure!(spoken >= 3, "the device spoke {spoken} times, each of the samples' labels was expected");
    judge(&root, &bin, &out, scratch.path())?;

    say("journey: the same seed gives the same bytes");
    let again = scratch.path().join("again");
    walk(&root, &bin, &[], &again)?;
    for file in [
        "dataset/dataset.json",
        "training/training.json",
        "model/model.onnx",
        "model/model.json",
        "images/modules.json",
        "deployment.json",
    ] {
        let (first, second) = (fs::read(out.join(file))?, fs::read(again.join(file))?);
        ensure!(first == second, "{file} differs between two runs");
    }

    say("journey: flags and the agent's variables mean the same");
    flags_and_variables(&root, &bin, scratch.path())?;

    let sets = root.join("../shared/datasets/dev");
    if !sets.is_dir() {
        say("SKIPPED: ../shared/datasets/dev is not there");
        return Ok(());
    }
    let mut sets: Vec<PathBuf> =
        fs::read_dir(&sets)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    sets.sort();
    for set in sets.iter().filter(|set| set.is_dir()) {
        let name = set.file_name().unwrap_or_default().to_string_lossy().into_owned();
        say(&format!("journey: {name}"));
        let out = scratch.path().join(&name);
        walk(&root, &bin, &[set.display().to_string()], &out)?;
        judge(&root, &bin, &out, &out)?;
    }
    say("journey embedded: done");
    Ok(())
}

/// `mynah run`, with what a user would look at afterwards.
fn walk(root: &Path, bin: &Path, photos: &[String], out: &Path) -> Result<()> {
    let mut arguments =
        vec!["run".to_owned(), "--quiet".to_owned(), "--out".to_owned(), out.display().to_string()];
    arguments.extend_from_slice(photos);
    let output = run(root, bin.join("mynah"), &arguments, &[])?;
    let table = String::from_utf8(output.stdout)?;
    say(table.trim_end());
    for line in ["photos ", "accuracy ", "model ", "image ", "deployment ", "frame "] {
        ensure!(table.lines().any(|row| row.starts_with(line)), "the table has no line `{line}`");
    }
    for file in [
        "dataset/dataset.json",
        "training/report.html",
        "training/report.md",
        "training/confusion.png",
        "training/junit.xml",
        "model/labels.txt",
        "device/deployment-record.json",
        "device/sightings.jsonl",
    ] {
        ensure!(out.join(file).is_file(), "{file} was not written");
    }
    Ok(())
}

/// Hands a finished walk to programs of others.
fn judge(root: &Path, bin: &Path, out: &Path, scratch: &Path) -> Result<()> {
    let (model, dataset) = (out.join("model"), out.join("dataset"));
    let card: ModelCard = from_json(&fs::read(model.join(ModelCard::FILE))?)?;
    ensure!(card.labels.len() >= 2, "the model card has {} labels", card.labels.len());
    let classified = scratch.join("classified");
    run(
        root,
        bin.join("examples/classify"),
        [model.as_os_str(), dataset.as_os_str(), classified.as_os_str()],
        &[],
    )?;
    judges::onnxruntime(root, &model, &dataset, &classified)?;
    judges::iot_edge_schemas(root, &out.join("deployment.json"))?;
    let modules: ModuleSet = from_json(&fs::read(out.join("images").join(ModuleSet::FILE))?)?;
    let module = modules.modules.first().context("no module was built")?;
    judges::oci(root, &module.layout.below(&out.join("images")), &module.tag, scratch)
}

/// `import-images` by flags and by the agent's variables: the same bytes.
fn flags_and_variables(root: &Path, bin: &Path, scratch: &Path) -> Result<()> {
    let source = root.join("samples/photos").display().to_string();
    let (by_flags, by_variables) = (scratch.join("by-flags"), scratch.join("by-variables"));
    let (flags_out, variables_out) = (by_flags.display().to_string(), by_variables.display().to_string());
    let program = bin.join("import-images");
    run(root, &program, ["--source", &source, "--out", &flags_out], &[])?;
    let nothing: [&str; 0] = [];
    let env =
        [("TF_BUILD", "True"), ("INPUT_SOURCE", source.as_str()), ("INPUT_OUT", variables_out.as_str())];
    let output = run(root, &program, nothing, &env)?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(
        said.contains("##vso[task.setvariable variable=photos;isOutput=true]"),
        "no output variable was set:\n{said}"
    );
    let mut files = 0;
    for entry in walkdir::WalkDir::new(&by_flags) {
        let entry = entry?;
        if entry.file_type().is_file() {
            let below = entry.path().strip_prefix(&by_flags)?;
            ensure!(
                fs::read(entry.path())? == fs::read(by_variables.join(below))?,
                "{} differs",
                below.display()
            );
            files += 1;
        }
    }
    let dataset: Dataset = from_json(&fs::read(by_flags.join(Dataset::FILE))?)?;
    ensure!(files > dataset.photos.len(), "only {files} files were compared");
    Ok(())
}
