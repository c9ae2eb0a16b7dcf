//! A container of an image, made out of what Linux has, or by runc; and an agent's life in it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use mynah_contracts::Platform;
use mynah_testkit::agentpool::{AgentPools, Job, ORGANIZATION, Stage, TOKEN};
use serde_json::{Value, json};

use crate::{judges, say};

/// The image's user.
pub(super) const USER: u32 = 10001;

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

/// An unpacked image.
pub(super) struct Container<'a> {
    /// The repository.
    pub(super) root: &'a Path,
    /// The OCI bundle: `rootfs` and `config.json`.
    pub(super) bundle: &'a Path,
    pub(super) platform: Platform,
}

impl Container<'_> {
    /// Its programs start.
    pub(super) fn programs(&self) -> Result<()> {
        for program in PROGRAMS {
            let output = self.contained(program, &[]).output()?;
            ensure!(output.status.success(), "{program:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// One job in the container, and one more in runc's, which does what the image itself says.
    pub(super) fn live(&self) -> Result<()> {
        life(|env| Ok(self.contained(&["/opt/mynah/bin/mynah-agent", "--once"], env).output()?))?;
        say(
            "agent-image: as process 1 on a read-only root: registered, ran a job that found no secret, unregistered",
        );
        let foreign = Platform::host() != Some(self.platform);
        if foreign || !judges::present("runc", Command::new("runc").arg("--version"))? {
            return Ok(());
        }
        life(|env| self.by_runc(env))?;
        say("agent-image: and once more as runc runs what the image says, without capabilities");
        Ok(())
    }

    fn contained(&self, program: &[&str], env: &[(&str, &str)]) -> Command {
        let mut words =
            vec!["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", CONTAINER, "sh"];
        let rootfs = self.bundle.join("rootfs").display().to_string();
        words.push(&rootfs);
        words.extend(program);
        let mut command = if Platform::host() == Some(self.platform) {
            Command::new(words[0])
        } else {
            let mut command = Command::new(self.root.join("agent-image/emulated"));
            command.arg(self.platform.as_str()).arg(words[0]);
            command
        };
        command.args(&words[1..]).env_clear().stdin(Stdio::null());
        // As the image says.
        command.env("PATH", "/opt/mynah/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("MYNAH_HOME", "/opt/mynah").env("HOME", "/azp").env("XDG_CACHE_HOME", "/cache");
        command.envs(env.iter().copied());
        command
    }

    /// The image as its own settings have it, on the machine's network.
    fn by_runc(&self, env: &[(&str, &str)]) -> Result<Output> {
        let file = self.bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
        let process = &mut config["process"];
        ensure!(process["user"]["uid"] == USER, "runc would run it as {}", process["user"]);
        process["terminal"] = false.into();
        process["noNewPrivileges"] = true.into();
        process["capabilities"] = json!({});
        process["args"].as_array_mut().context("the bundle starts nothing")?.push("--once".into());
        let variables = process["env"].as_array_mut().context("the bundle has no environment")?;
        variables.extend(env.iter().map(|(name, value)| Value::from(format!("{name}={value}"))));
        config["root"]["readonly"] = true.into();
        let mounts = config["mounts"].as_array_mut().context("the bundle mounts nothing")?;
        let own = ["/tmp", "/azp", "/cache"];
        mounts.retain(|mount| !own.iter().any(|place| mount["destination"] == *place));
        mounts.extend(own.map(|place| {
            let options = [format!("uid={USER}"), format!("gid={USER}"), "mode=0755".into()];
            json!({"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options})
        }));
        let namespaces =
            config["linux"]["namespaces"].as_array_mut().context("the bundle has no namespaces")?;
        namespaces.retain(|namespace| namespace["type"] != "network");
        fs::write(&file, config.to_string())?;
        let name = format!("mynah-agent-{}", std::process::id());
        let output = Command::new("runc")
            .args(["run", "--bundle"])
            .arg(self.bundle)
            .arg(name)
            .stdin(Stdio::null())
            .output();
        output.context("cannot start runc")
    }
}

/// One agent's life: it registers, runs a job that finds no secret, and unregisters.
fn life(run: impl Fn(&[(&str, &str)]) -> Result<Output>) -> Result<()> {
    let pools = AgentPools::default();
    let served = pools.start(0)?;
    let job = pools.queue(Job { needles: vec![TOKEN.into()], leaves: true, ..Job::default() });
    let url = format!("{}/{ORGANIZATION}", served.url());
    let output = run(&[("AZP_URL", &url), ("AZP_TOKEN", TOKEN), ("AZP_AGENT_NAME", "pod-1")])?;
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the agent ended with {}:\n{log}", output.status);
    let Some(Stage::Ended(result, report)) = pools.stage(job) else { bail!("no job was done:\n{log}") };
    let clean = report["found"] == json!([]) && report["memory"] == json!([]);
    ensure!(result == "succeeded" && clean, "the job is {result}: {report}");
    ensure!(report["uid"] == USER, "the job ran as user {}", report["uid"]);
    ensure!(pools.agents().is_empty(), "an agent stayed in the pool:\n{log}");
    Ok(())
}
