//! The journey of uploads: ten thousand of them in a burst, the relay killed on the way, and at most two runs.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mynah_testkit::caller::Caller;
use mynah_testkit::pipelines::{PIPELINE, PROJECT, Pipelines, TOKEN};
use serde_json::json;

use crate::process::{built, cargo, run};
use crate::{judges, say};

const KEY: &str = "key-of-the-journey-9411";
/// How many uploads, and by how many callers at once.
const UPLOADS: usize = 10_000;
const CALLERS: usize = 20;
/// How often the relay is killed before all is delivered.
const KILLS: usize = 5;
/// What is waited for at most: a loaded machine is slow.
const PATIENCE: Duration = Duration::from_mins(2);

/// Delivers, kills, counts the runs; judges what is deployed.
pub(crate) fn relay() -> Result<()> {
    let root = fs::canonicalize(crate::root())?;
    run(&root, cargo(), ["build", "--release", "--locked", "--bin", "mynah"], &[])?;
    let program = built(&root, "release")?.join("mynah");
    let state = tempfile::tempdir()?;
    let pipelines = Pipelines::start(0)?;
    // An agent is free: a run that is queued starts and is not there to be joined.
    pipelines.start_at_once(true);

    say(&format!("journey relay: {UPLOADS} uploads in a burst, the relay killed {KILLS} times"));
    let start = Instant::now();
    let mut relay = Relay::start(&program, &pipelines, state.path())?;
    let mut acknowledged = 0;
    for round in 0..=KILLS {
        let share = UPLOADS / (KILLS + 1) + usize::from(round < UPLOADS % (KILLS + 1));
        acknowledged += relay.burst(round, share)?;
        if round < KILLS {
            relay.kill()?;
            relay = Relay::start(&program, &pipelines, state.path())?;
        }
    }
    say(&format!("{acknowledged} were acknowledged in {:.1} s", start.elapsed().as_secs_f32()));
    ensure!(acknowledged == UPLOADS, "{acknowledged} of {UPLOADS} were acknowledged");
    let waiting = relay.figure("mynah_relay_pending")?;
    ensure!(
        waiting == UPLOADS as u64 || !pipelines.runs().is_empty(),
        "{waiting} of {UPLOADS} acknowledged uploads wait after the kills, and no run was queued"
    );
    let deadline = Instant::now() + PATIENCE;
    while relay.figure("mynah_relay_pending")? > 0 {
        ensure!(Instant::now() < deadline, "uploads still wait for a run");
        std::thread::sleep(Duration::from_millis(50));
    }
    let runs = pipelines.runs().len();
    ensure!((1..=2).contains(&runs), "{runs} runs were queued");
    say(&format!("{UPLOADS} uploads became {runs} run(s), none was lost"));

    say("journey relay: all of them again start nothing");
    for round in 0..=KILLS {
        let share = UPLOADS / (KILLS + 1) + usize::from(round < UPLOADS % (KILLS + 1));
        relay.burst(round, share)?;
    }
    let (new, known) = (relay.figure("mynah_relay_pending")?, relay.figure("mynah_relay_duplicates_total")?);
    ensure!(new == 0 && known == UPLOADS as u64, "{new} of them count as new, {known} as known");
    ensure!(pipelines.runs().len() == runs, "replays queued a run");
    ensure!(pipelines.wire.violations().is_empty(), "Azure Pipelines: {:?}", pipelines.wire.violations());

    say("journey relay: what is deployed, judged by the models of its makers");
    let deployed: Vec<PathBuf> =
        ["infra/azuredeploy.json", "trigger/logic-app.json", "trigger/relay.json", "trigger/relay.yaml"]
            .iter()
            .map(|file| root.join("pipelines").join(file))
            .collect();
    judges::templates(&root, &deployed)?;
    say("journey relay: done");
    Ok(())
}

/// A relay at work; it is killed when it is dropped.
struct Relay {
    child: Child,
    address: String,
}

impl Relay {
    fn start(program: &Path, pipelines: &Pipelines, state: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.env_clear().env("MYNAH_RELAY_KEY", KEY).env("AZURE_DEVOPS_EXT_PAT", TOKEN);
        command
            .args(["relay", "--listen", "127.0.0.1:0", "--quiet-for", "10"])
            .args(["--source", "https://photos.blob.core.windows.net/in", "--project", PROJECT])
            .args(["--organization", &pipelines.organization(), "--pipeline", &PIPELINE.to_string()])
            .arg("--state")
            .arg(state);
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start the relay")?;
        let mut line = String::new();
        let out = child.stdout.take().context("the relay has no output")?;
        BufReader::new(out).read_line(&mut line)?;
        let address =
            line.trim().strip_prefix("listening on http://").and_then(|rest| rest.strip_suffix("/events"));
        let Some(address) = address.map(str::to_owned) else { bail!("the relay said `{line}`") };
        Ok(Self { child, address })
    }

    fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Delivers uploads one by one, on connections that are kept; gives how many were acknowledged.
    fn burst(&self, round: usize, count: usize) -> Result<usize> {
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..CALLERS)
                .map(|caller| {
                    scope.spawn(move || -> Result<usize> {
                        let mut line = Caller::connect(&self.address)?;
                        let mut done = 0;
                        for number in (caller..count).step_by(CALLERS) {
                            let event = json!({
                                "specversion": "1.0", "type": "Microsoft.Storage.BlobCreated",
                                "source": "/x/storageAccounts/photos", "id": format!("{round}-{number}"),
                                "subject": format!("/blobServices/default/containers/in/blobs/cat/{number}.jpg"),
                            });
                            let (status, said) = line.ask("POST", "/events", &[("x-mynah-key", KEY)], &event.to_string())?;
                            ensure!(status == 200, "an upload was answered with {status}: {said}");
                            done += 1;
                        }
                        Ok(done)
                    })
                })
                .collect();
            let ended = callers
                .into_iter()
                .map(|caller| caller.join().unwrap_or_else(|_| bail!("a caller panicked")));
            ended.sum()
        })
    }

    fn figure(&self, name: &str) -> Result<u64> {
        let (_, text) =
            Caller::connect(&self.address)?.ask("GET", "/metrics", &[("x-mynah-key", KEY)], "")?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("no {name} in {text}"))?.parse()?)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
