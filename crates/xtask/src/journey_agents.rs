//! The journey of an agent: it registers, has a job that looks for its secret, and is stopped at random moments; no
//! agent stays in its pool, no job is torn apart, no job sees the secret. Then the manifests are judged.

use std::fs::{self, File, Permissions};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mynah_testkit::agentpool::{self, AgentPools, Job, ORGANIZATION, Stage, TOKEN};
use mynah_testkit::wire::Served;

use crate::process::{built, cargo, run};
use crate::say;

/// How many random moments.
const STOPS: u32 = 10;

/// How long anything may take on a loaded machine.
const LIMIT: Duration = Duration::from_mins(1);

/// The image's user.
const USER: &str = "10001";

/// Registers, works, stops; then the manifests.
pub(crate) fn agents() -> Result<()> {
    let root = fs::canonicalize(crate::root())?;
    run(&root, cargo(), ["build", "--release", "--locked"], &[])?;
    let pod = Pod::new(&built(&root, "release")?)?;

    say(&format!(
        "journey agents: one job, as {}",
        if pod.other_user { "the image's user" } else { "this user" }
    ));
    let (first, _) = pod.one_job(true)?;
    let (_, took) = pod.one_job(false)?;
    say(&format!(
        "registered, ran a job, unregistered in {} ms; the job looked in {first} places",
        took.as_millis()
    ));

    let seed = match std::env::var_os("MYNAH_SEED") {
        Some(text) => {
            text.to_str().and_then(|text| text.parse().ok()).context("`MYNAH_SEED` takes a whole number")?
        }
        None => RandomState::new().build_hasher().finish(),
    };
    say(&format!("journey agents: SIGTERM at {STOPS} random moments of such a life (MYNAH_SEED={seed})"));
    let mut random = Random(seed);
    // Longer than a life, so that some find the agent idle after its job.
    let span = took + took / 4;
    for number in 1..=STOPS {
        let moment = span.mul_f64(random.fraction());
        let found = pod.stopped_after(moment).with_context(|| format!("stop {number} of seed {seed}"))?;
        say(&format!("stop {number:2} after {:4} ms: {found}", moment.as_millis()));
    }

    say("journey agents: SIGTERM in the middle of a job");
    pod.stopped_in_mid_job()?;
    say("the job ended first, no other began, the agent is unregistered");

    say("journey agents: the manifests");
    crate::chart::check()?;
    say("journey agents: done");
    Ok(())
}

/// A reproducible series of numbers (Marsaglia's xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    /// The next number from 0 to below 1.
    fn fraction(&mut self) -> f64 {
        self.0 = (self.0 | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A container's folders and the service.
struct Pod {
    pools: AgentPools,
    served: Served,
    scratch: tempfile::TempDir,
    other_user: bool,
}

impl Pod {
    fn new(bin: &Path) -> Result<Self> {
        let pools = AgentPools::default();
        let served = pools.start(0)?;
        let scratch = tempfile::tempdir()?;
        let at = scratch.path();
        fs::set_permissions(at, Permissions::from_mode(0o755))?;
        fs::copy(bin.join("mynah-agent"), at.join("mynah-agent")).context("mynah-agent was not built")?;
        agentpool::package(&at.join("package"), &bin.join("stand-in-agent"))?;
        for folder in ["home", "tmp"] {
            fs::create_dir(at.join(folder))?;
        }
        let id = run(at, "id", ["-u"], &[])?;
        let other_user = id.stdout.trim_ascii() == b"0" && run(at, "setpriv", ["--version"], &[]).is_ok();
        if other_user {
            run(at, "chown", [USER, "home", "tmp"], &[])?;
        }
        Ok(Self { pools, served, scratch, other_user })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Starts the entrypoint as a container does.
    fn start(&self, arguments: &[&str]) -> Result<Running> {
        let program = self.at("mynah-agent");
        let mut command = if self.other_user {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let log = self.at("log");
        let out = File::create(&log)?;
        command.args(arguments).env_clear().stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("AZP_URL", format!("{}/{ORGANIZATION}", self.served.url())).env("AZP_TOKEN", TOKEN);
        command.env("AZP_AGENT_NAME", "pod-1").env("TMPDIR", self.at("tmp"));
        command.env("MYNAH_AGENT_PACKAGE", self.at("package")).env("MYNAH_AGENT_HOME", self.at("home"));
        if !self.other_user {
            command.env("AGENT_ALLOW_RUNASROOT", "1");
        }
        Ok(Running { child: command.spawn()?, log })
    }

    fn queue(&self, held: bool, leaves: bool) -> u64 {
        self.pools.queue(Job { needles: vec![TOKEN.to_owned()], held, leaves })
    }

    /// A job from registering to unregistering, which may leave a stubborn process behind: in how many places it
    /// looked, and how long all took.
    fn one_job(&self, leaves: bool) -> Result<(u64, Duration)> {
        let job = self.queue(false, leaves);
        let started = Instant::now();
        let mut running = self.start(&["--once"])?;
        let status = running.end()?;
        let took = started.elapsed();
        ensure!(status.success(), "it ended with {status}:\n{}", running.log());
        let looked = self.clean(job)?;
        self.nothing_left(&running)?;
        Ok((looked, took))
    }

    /// A life that is stopped after `moment`; in which state that found it.
    fn stopped_after(&self, moment: Duration) -> Result<&'static str> {
        let job = self.queue(false, false);
        let mut running = self.start(&[])?;
        std::thread::sleep(moment);
        let found = match (self.pools.agents().is_empty(), self.pools.stage(job)) {
            (true, _) => "before it was registered",
            (false, Some(Stage::Queued)) => "registered, without a job",
            (false, Some(Stage::Ended(..))) => "after its job",
            (false, _) => "in its job",
        };
        running.stop()?;
        let status = running.end()?;
        // Process 1 of a container does not die of a signal it has not asked for yet; here it may, with nothing done.
        let too_early = status.code().is_none() && running.log().is_empty();
        ensure!(status.success() || too_early, "it ended with {status}:\n{}", running.log());
        self.nothing_left(&running)?;
        match self.pools.stage(job) {
            Some(Stage::Queued) => self.pools.withdraw(job),
            Some(Stage::Ended(..)) => drop(self.clean(job)?),
            other => bail!("the job is {other:?}"),
        }
        Ok(found)
    }

    fn stopped_in_mid_job(&self) -> Result<()> {
        let job = self.queue(true, false);
        let mut running = self.start(&[])?;
        let begun = self.pools.until(LIMIT, |pools| pools.stage(job) == Some(Stage::Running));
        ensure!(begun, "the job did not begin:\n{}", running.log());
        running.stop()?;
        let drained = |pools: &AgentPools| {
            pools.wire.exchanges().iter().any(|said| said.method == "PATCH" && said.path.contains("/agents/"))
        };
        ensure!(self.pools.until(LIMIT, drained), "new jobs are not kept away:\n{}", running.log());
        let next = self.queue(false, false);
        self.pools.finish(job);
        let status = running.end()?;
        ensure!(status.success(), "it ended with {status}:\n{}", running.log());
        self.clean(job)?;
        ensure!(self.pools.stage(next) == Some(Stage::Queued), "another job began");
        self.nothing_left(&running)
    }

    /// The job ended well and found no secret; in how many places it looked.
    fn clean(&self, job: u64) -> Result<u64> {
        let Some(Stage::Ended(result, report)) = self.pools.stage(job) else { bail!("the job did not end") };
        ensure!(result == "succeeded", "the job is {result}");
        ensure!(report["found"] == serde_json::json!([]), "the job found the secret: {}", report["found"]);
        let looked = report["looked"].as_u64().unwrap_or_default();
        ensure!(looked > 10, "the job looked in {looked} places only");
        if self.other_user {
            ensure!(report["uid"] != 0, "the job ran as root");
            ensure!(report["memory"] == serde_json::json!([]), "the job can read the entrypoint's memory");
        }
        Ok(looked)
    }

    fn nothing_left(&self, running: &Running) -> Result<()> {
        let agents = self.pools.agents();
        ensure!(agents.is_empty(), "{agents:?} stayed in the pool:\n{}", running.log());
        let violations = self.pools.wire.violations();
        ensure!(violations.is_empty(), "broken contracts: {violations:?}");
        ensure!(!self.at("home/.agent").exists(), "the registration stayed on the disk");
        ensure!(!running.log().contains(TOKEN), "the log shows the token");
        let home = self.at("home").display().to_string();
        for entry in fs::read_dir("/proc")? {
            let line = fs::read(entry?.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            ensure!(!line.contains(&home), "a process stayed: {line}");
        }
        Ok(())
    }
}

/// A running entrypoint.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn stop(&self) -> Result<()> {
        run(Path::new("/"), "kill", ["-TERM", &self.child.id().to_string()], &[]).map(drop)
    }

    fn end(&mut self) -> Result<ExitStatus> {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < end, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing is left running where the journey fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
