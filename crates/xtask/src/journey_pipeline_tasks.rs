//! The journey of a pipeline author, the tasks: unpacked as an agent does it, started by Node in an agent's environment
//! from the samples to a device, and each of them cancelled in the middle of its work.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mynah_contracts::{Artifact as _, DeploymentRecord, from_json};

use crate::process::{built, run};
use crate::say;
use crate::vsix::{Vsix, node};

/// How often each task is cancelled, at moments spread over its work.
const CANCELS: u32 = 6;

/// A task's inputs, what it says when it did its work, and what stands when it did.
struct Work {
    task: &'static str,
    inputs: Vec<(&'static str, String)>,
    says: &'static str,
    makes: &'static str,
}

/// The six tasks, one after the other; with `cancel` each is started again and cancelled.
pub(crate) fn walk(root: &Path, vsix: &Vsix, work: &Path, cancel: bool) -> Result<()> {
    let sources = work.join("1/s");
    fs::create_dir_all(&sources)?;
    symlink(root.join("samples"), sources.join("samples"))?;
    let agent = Agent { tasks: vsix.install(work)?, sources, work: work.to_owned() };
    let runtime = built(root, "release")?.join("mynah-runtime").display().to_string();
    let mut cancelled = 0;
    for work in six(&runtime) {
        let took = agent.finish(&work)?;
        if cancel {
            cancelled += agent.cancel(&work, took)?;
        }
    }
    let record = fs::read(agent.sources.join("device").join(DeploymentRecord::FILE))?;
    from_json::<DeploymentRecord>(&record)?;
    say("six tasks under Node: from photos to a device");
    if cancel {
        ensure!(cancelled > 0, "no task was cancelled in the middle of its work");
        say(&format!(
            "each cancelled {CANCELS} times, {cancelled} of all in their work: nothing whole, no orphan"
        ));
    }
    Ok(())
}

fn six(runtime: &str) -> Vec<Work> {
    let work = |task, inputs: &[(&'static str, &str)], says, makes| {
        let inputs = inputs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Work { task, inputs, says, makes }
    };
    let training = [("dataset", "dataset"), ("out", "training")];
    let export = [("training", "training"), ("dataset", "dataset"), ("out", "model")];
    let build = [("model", "model"), ("out", "images"), ("runtime", runtime)];
    let deploy = [
        ("manifest", "deployment.json"),
        ("images", "images"),
        ("frames", "samples/frames"),
        ("target", "local"),
        ("out", "device"),
    ];
    vec![
        work(
            "ImportImages",
            &[("source", "samples/photos"), ("out", "dataset")],
            "variable=photos;",
            "dataset/dataset.json",
        ),
        work("TrainModel", &training, "##vso[task.uploadsummary]", "training/training.json"),
        work("ExportModel", &export, "variable=modelDigest;", "model/model.json"),
        work("BuildModules", &build, "variable=imageDigest;", "images/modules.json"),
        work(
            "GenerateManifest",
            &[("images", "images"), ("out", "deployment.json")],
            "variable=manifestDigest;",
            "deployment.json",
        ),
        work("DeployModules", &deploy, "variable=record;", "device/deployment-record.json"),
    ]
}

/// What an agent gives a task.
struct Agent {
    tasks: Vec<(&'static str, PathBuf)>,
    sources: PathBuf,
    work: PathBuf,
}

impl Agent {
    fn command(&self, work: &Work, out: Option<&str>) -> Result<Command> {
        let (_, folder) = self.tasks.iter().find(|(task, _)| *task == work.task).context("no such task")?;
        let mut command = Command::new(node());
        command.arg(folder.join("index.js")).current_dir(&self.sources).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("TF_BUILD", "True");
        command.env("SYSTEM_DEFAULTWORKINGDIRECTORY", &self.sources);
        command.env("AGENT_TEMPDIRECTORY", self.work.join("_temp"));
        command.env("AGENT_TOOLSDIRECTORY", self.work.join("_tool"));
        for (input, value) in &work.inputs {
            let value = out.filter(|_| *input == "out").unwrap_or(value);
            command.env(format!("INPUT_{}", input.to_uppercase()), value);
        }
        Ok(command)
    }

    /// Lets a task end, which must be well; gives how long it took.
    fn finish(&self, work: &Work) -> Result<Duration> {
        let start = Instant::now();
        let output =
            self.command(work, None)?.output().with_context(|| format!("cannot start {}", work.task))?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success() && said.contains(work.says),
            "{}: {}\n{said}{}",
            work.task,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        ensure!(self.sources.join(work.makes).is_file(), "{} did not make {}", work.task, work.makes);
        Ok(start.elapsed())
    }

    /// Cancels the task at moments of its work as an agent does, SIGINT to Node alone, with an output folder of its own.
    /// Gives how often it was in the middle.
    fn cancel(&self, work: &Work, took: Duration) -> Result<u32> {
        let mut cancelled = 0;
        for at in 1..=CANCELS {
            let place = format!("cancelled-{}-{at}", work.task);
            fs::create_dir(self.sources.join(&place))?;
            let Some((_, made)) = work.inputs.iter().find(|(name, _)| *name == "out") else { continue };
            let mut command = self.command(work, Some(&format!("{place}/{made}")))?;
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
            std::thread::sleep(took * at / (CANCELS + 1));
            run(&self.sources, "kill", ["-INT", &child.id().to_string()], &[])?;
            let ended = self.ended(&mut child, work.task)?;
            let whole = self.sources.join(&place).join(work.makes).exists();
            match ended.code() {
                // It was done before the signal came.
                Some(0) => ensure!(whole, "{} ended well and made nothing", work.task),
                // Cancelled, or Node had not begun yet.
                Some(130) | None => {
                    cancelled += u32::from(ended.code().is_some());
                    ensure!(!whole, "{} was cancelled and left what looks whole", work.task);
                }
                code => anyhow::bail!("{} was cancelled and ended with {code:?}", work.task),
            }
            let left: Vec<_> = walkdir::WalkDir::new(self.sources.join(&place))
                .into_iter()
                .filter_map(Result::ok)
                .filter(|entry| entry.file_name().to_string_lossy().contains("partial"))
                .collect();
            ensure!(left.is_empty(), "{} left {}", work.task, left[0].path().display());
        }
        Ok(cancelled)
    }

    /// Waits for Node; then no program from below the work folder may be left: no task, no device.
    fn ended(&self, child: &mut Child, task: &str) -> Result<std::process::ExitStatus> {
        let status = child.wait()?;
        for process in fs::read_dir("/proc")? {
            // Processes end while they are looked at.
            let Ok(program) = fs::read_link(process?.path().join("exe")) else { continue };
            ensure!(!program.starts_with(&self.work), "{task} left {} running", program.display());
        }
        Ok(status)
    }
}
