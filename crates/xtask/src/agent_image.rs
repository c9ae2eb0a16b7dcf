//! Builds the agent's image for this machine and lives an agent's life in it: as process 1, on a read-only root, as the
//! image's user. Where the agent's own package cannot be had, a stand-in is packed in its place.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use mynah_contracts::Platform;
use mynah_testkit::agentpool::{self, AgentPools, Job, ORGANIZATION, Stage, TOKEN};

use crate::process::{built, cargo, run};
use crate::say;

/// Makes a container of the folder `$1` out of what Linux has, and runs the rest in it.
const CONTAINER: &str = r#"
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
for folder in tmp azp cache; do mount -t tmpfs -o mode=0755,uid=10001,gid=10001 tmpfs "$1/$folder"; done
mount -o remount,bind,ro "$1"
root=$1; shift
exec chroot --userspec=10001:10001 "$root" "$@"
"#;

/// What the image must be able to run, beside the agent.
const PROGRAMS: [&[&str]; 5] = [
    &["/opt/mynah/bin/mynah", "--version"],
    &["/opt/mynah/bin/build-modules", "--version"],
    &["/opt/mynah/bin/mynah-agent", "--version"],
    &["git", "--version"],
    &["espeak-ng", "--version"],
];

/// What is tried.
pub(crate) enum Image {
    /// The image built of what `dist` put into this folder, for all platforms.
    Built(PathBuf),
    /// An image with a stand-in for the agent that is there already, as an OCI layout.
    Layout(PathBuf),
}

impl Image {
    /// Reads `[--programs DIR | --layout DIR]`.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        match words {
            [] => Ok(Self::Built(crate::root().join("target/dist-all"))),
            ["--programs", folder] => Ok(Self::Built(folder.into())),
            ["--layout", folder] => Ok(Self::Layout(folder.into())),
            other => bail!("`{}` is not understood: [--programs DIR | --layout DIR]", other.join(" ")),
        }
    }

    /// Builds where needed, says the sizes, and lives.
    pub(crate) fn check(&self) -> Result<()> {
        let root = fs::canonicalize(crate::root())?;
        let scratch = tempfile::tempdir()?;
        let layout = match self {
            Self::Built(programs) => build(&root, programs, scratch.path())?,
            Self::Layout(layout) => fs::canonicalize(layout)?,
        };
        let bundle = scratch.path().join("bundle").display().to_string();
        run(&root, "umoci", ["unpack", "--image", &format!("{}:latest", layout.display()), &bundle], &[])?;
        let rootfs = scratch.path().join("bundle/rootfs");
        say(&format!(
            "agent-image: {:.0} MB compressed, {:.0} MB on disk, with a stand-in of {:.0} MB for the agent's package",
            size(&layout)? as f64 / 1e6,
            size(&rootfs)? as f64 / 1e6,
            size(&rootfs.join("opt/agent"))? as f64 / 1e6,
        ));
        for program in PROGRAMS {
            let output = contained(&rootfs, program).output()?;
            ensure!(output.status.success(), "{program:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        live(&rootfs)
    }
}

/// Builds the image for this machine with a stand-in for the agent, and gives its layout.
fn build(root: &Path, programs: &Path, scratch: &Path) -> Result<PathBuf> {
    let platform = Platform::host().context("this machine is no platform of ours")?;
    run(root, cargo(), ["build", "--release", "--locked"], &[])?;
    let package = scratch.join("package");
    agentpool::package(&package, &built(root, "release")?.join("stand-in-agent"))?;
    let archive = scratch.join("agent.tar.gz");
    let (from, to) = (package.display().to_string(), archive.display().to_string());
    run(root, "tar", ["--create", "--gzip", "--sort=name", "--file", &to, "--directory", &from, "."], &[])?;
    let digest = String::from_utf8(run(root, "sha256sum", [&archive], &[])?.stdout)?;
    let digest = digest.split(' ').next().unwrap_or_default();
    say(&format!("agent-image: building for {platform} on Debian's packages"));
    let layout = scratch.join("layout");
    let programs = fs::canonicalize(programs)
        .with_context(|| format!("no {}: run `cargo xtask dist`", programs.display()))?;
    let (programs, out) = (programs.display().to_string(), layout.display().to_string());
    let arguments = ["--debian", "--platform", platform.as_str(), "--programs", &programs];
    let more = ["--agent", &to, "--sha256", digest, "--layout", &out];
    run(root, root.join("agent-image/build"), arguments.iter().chain(&more), &[])?;
    Ok(layout)
}

/// One job in the container.
fn live(rootfs: &Path) -> Result<()> {
    let pools = AgentPools::default();
    let served = pools.start(0)?;
    let job = pools.queue(Job { needles: vec![TOKEN.into()], leaves: true, ..Job::default() });
    let mut command = contained(rootfs, &["/opt/mynah/bin/mynah-agent", "--once"]);
    command.env("AZP_URL", format!("{}/{ORGANIZATION}", served.url())).env("AZP_TOKEN", TOKEN);
    let output = command.env("AZP_AGENT_NAME", "pod-1").output()?;
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the agent ended with {}:\n{log}", output.status);
    let Some(Stage::Ended(result, report)) = pools.stage(job) else { bail!("no job was done:\n{log}") };
    let clean = report["found"] == serde_json::json!([]) && report["memory"] == serde_json::json!([]);
    ensure!(result == "succeeded" && clean, "the job is {result}: {report}");
    ensure!(report["uid"] == 10001, "the job ran as user {}", report["uid"]);
    ensure!(pools.agents().is_empty(), "an agent stayed in the pool:\n{log}");
    say(
        "agent-image: as process 1 on a read-only root: registered, ran a job that found no secret, unregistered",
    );
    Ok(())
}

fn contained(rootfs: &Path, program: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", CONTAINER, "sh"])
        .arg(rootfs)
        .args(program);
    command.env_clear().stdin(Stdio::null());
    // As the image says.
    command.env("PATH", "/opt/mynah/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("MYNAH_HOME", "/opt/mynah").env("HOME", "/azp").env("XDG_CACHE_HOME", "/cache");
    command
}

/// The bytes of all files below `folder`.
fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry?;
        if entry.file_type().is_file() {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}
