//! The journey of a pipeline author: the extension is packed by tfx, its tasks are started by Node as an agent starts
//! them, from photos to a deployed device; the language service reads every pipeline there is.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mynah_contracts::Platform;

use crate::journey_pipeline_run::Laptop;
use crate::journey_pipeline_tasks;
use crate::process::{built, cargo, run};
use crate::say;
use crate::tasks::Channel;
use crate::vsix::{Vsix, node, packages, tool};

/// The least number of pipelines that must be found broken.
const BROKEN: usize = 10;

/// Packs, installs, walks, validates.
pub(crate) fn pipeline() -> Result<()> {
    let root = fs::canonicalize(crate::root())?;
    crate::tasks::check()?;
    say("journey pipeline: the shim");
    if crate::judges::present("node", Command::new(node()).arg("--version"))? {
        run(&root, node(), ["--test", "tasks/_shim/index.test.js"], &[])?;
        say("the shim's tests pass");
    }
    say("journey pipeline: every pipeline, read by the language service");
    language_service(&root)?;
    say("journey pipeline: the shipped pipelines on this machine");
    run(&root, cargo(), ["build", "--release", "--locked"], &[])?;
    let scratch = tempfile::tempdir()?;
    let laptop = Laptop { root: &root, bin: built(&root, "release")?, scratch: scratch.path() };
    laptop.shipped()?;
    say("journey pipeline: the extension, packed by tfx and started by Node");
    if !crate::judges::present("tfx", Command::new(tool("tfx")).arg("version"))? {
        return Ok(());
    }
    let programs = scratch.path().join("programs");
    let platform = Platform::host().context("this machine is no platform of ours")?;
    ensure!(platform == Platform::LinuxAmd64, "the whole walk is in the extension for linux/amd64 only");
    fs::create_dir_all(&programs)?;
    symlink(built(&root, "release")?, programs.join(crate::dist::folder_name(platform)))?;
    for channel in [Channel::Public, Channel::Test] {
        let vsix = Vsix {
            channel,
            platforms: vec![platform],
            programs: programs.clone(),
            quick: true,
            out: scratch.path().join(format!("{channel:?}.vsix")),
        };
        vsix.build()?;
        let work = scratch.path().join(format!("{channel:?}"));
        journey_pipeline_tasks::walk(&root, &vsix, &work, channel == Channel::Public)?;
    }
    say("journey pipeline: done");
    Ok(())
}

/// Nothing is found in our pipelines, something in each broken one.
fn language_service(root: &Path) -> Result<()> {
    let published = std::env::var_os("MYNAH_PIPELINES_SCHEMA")
        .map_or_else(|| root.join("../shared/contracts/azdo/service-schema.json"), PathBuf::from);
    if !published.is_file() {
        say("SKIPPED: the published schema of pipelines is not there (MYNAH_PIPELINES_SCHEMA names it)");
        return Ok(());
    }
    let modules = packages();
    let mut probe = Command::new(node());
    probe.args(["-e", "require('azure-pipelines-language-service')"]).env("NODE_PATH", &modules);
    if !crate::judges::present("azure-pipelines-language-service", &mut probe)? {
        return Ok(());
    }
    let scratch = tempfile::tempdir()?;
    let schema = scratch.path().join("schema.json");
    crate::tasks::write_pipeline_schema(&published, &schema)?;
    let judge = |files: &[PathBuf]| {
        let mut command = Command::new(node());
        command.arg(root.join("tests/judges/pipelines_validate.js")).arg(&schema).args(files);
        command.env("NODE_PATH", &modules).output()
    };
    let ours = with_pipelines(root)?;
    let output = judge(&ours)?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    say(said.trim_end());
    let broken = files(&root.join("tests/judges/broken"), "yml")?;
    ensure!(broken.len() >= BROKEN, "only {} broken pipelines are there", broken.len());
    for file in &broken {
        let output = judge(std::slice::from_ref(file))?;
        ensure!(output.status.code() == Some(1), "nothing was found wrong with {}", file.display());
    }
    say(&format!("language service: findings in each of {} broken pipelines", broken.len()));
    Ok(())
}

/// Every pipeline of the repository, and every page that shows one.
fn with_pipelines(root: &Path) -> Result<Vec<PathBuf>> {
    let mut all = vec![root.join("README.md"), root.join("tasks/overview.md")];
    all.extend(files(&root.join("pipelines"), "yml")?);
    all.extend(files(&root.join("pipelines"), "md")?);
    for task in crate::tasks::Task::all()? {
        all.push(root.join("tasks").join(task.task()).join("README.md"));
    }
    Ok(all)
}

/// The files below `folder` with this extension, in order.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let path = entry?.into_path();
        if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    Ok(found)
}
