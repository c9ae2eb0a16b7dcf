//! A container's worth of folders, the service, and the entrypoint in them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mynah_testkit::agentpool::{self, AgentPools, Job, ORGANIZATION, Stage, TOKEN};
use mynah_testkit::wire::Served;
use rustix::process::{Pid, Signal};

/// How long anything may take on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// The folders and the service.
pub(crate) struct Pod {
    pub(crate) pools: AgentPools,
    served: Served,
    /// Accepted, and no other pod's: jobs look at the processes of all that runs at the same time.
    pub(crate) token: String,
    root: tempfile::TempDir,
}

/// A running entrypoint.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

/// How it ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
}

impl Pod {
    pub(crate) fn new() -> Self {
        let pools = AgentPools::default();
        let served = pools.start(0).unwrap();
        let root = tempfile::tempdir().unwrap();
        let stand_in = Path::new(env!("CARGO_BIN_EXE_stand-in-agent"));
        agentpool::package(&root.path().join("package"), stand_in).unwrap();
        fs::create_dir(root.path().join("tmp")).unwrap();
        let address = served.url();
        let token = format!("{TOKEN}-{:0>5}", address.rsplit(':').next().unwrap());
        Self { pools, served, token, root }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/{ORGANIZATION}", self.served.url())
    }

    /// The environment of a container, without a way to sign in.
    pub(crate) fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mynah-agent"));
        command.args(arguments).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.env("AGENT_ALLOW_RUNASROOT", "1").env("AZP_URL", self.url()).env("AZP_AGENT_NAME", "pod-1");
        command.env("MYNAH_AGENT_PACKAGE", self.at("package")).env("MYNAH_AGENT_HOME", self.at("home"));
        command.env("MYNAH_AGENT_NAME_SECONDS", "0").env("TMPDIR", self.at("tmp"));
        command
    }

    /// The same with the token that is accepted.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        command.env("AZP_TOKEN", &self.token);
        command
    }

    pub(crate) fn start(&self, command: &mut Command) -> Running {
        let log = self.at("log");
        let file = File::create(&log).unwrap();
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Running { child, log }
    }

    /// Queues a job that looks for the token in every form.
    pub(crate) fn job(&self, job: Job) -> u64 {
        let coded = STANDARD.encode(format!(":{}", self.token));
        let mut needles = vec![self.token.clone(), coded.trim_end_matches('=').to_owned()];
        needles.extend(job.needles);
        self.pools.queue(Job { needles, ..job })
    }

    pub(crate) fn wait(&self, what: &str, condition: impl Fn(&AgentPools) -> bool) {
        let log = || fs::read_to_string(self.at("log")).unwrap_or_default();
        assert!(self.pools.until(LIMIT, condition), "{what}: did not happen\n{}", log());
    }

    /// What a finished job reported.
    pub(crate) fn report(&self, job: u64) -> serde_json::Value {
        match self.pools.stage(job) {
            Some(Stage::Ended(result, report)) if result == "succeeded" => report,
            other => panic!("the job is {other:?}"),
        }
    }

    /// The job saw no secret, and looked.
    #[track_caller]
    pub(crate) fn clean(&self, job: u64) {
        let report = self.report(job);
        assert_eq!(report["found"], serde_json::json!([]), "{report}");
        assert!(report["looked"].as_u64().unwrap() > 10, "{report}");
    }

    /// No agent, no broken contract, no process of ours.
    #[track_caller]
    pub(crate) fn nothing_left(&self) {
        assert_eq!(self.pools.agents(), Vec::<String>::new());
        assert_eq!(self.pools.wire.violations(), Vec::<String>::new());
        assert!(!self.at("home/.agent").exists() && !self.at("home/.credentials").exists());
        assert_eq!(self.processes(""), Vec::<i32>::new());
    }

    /// Processes whose command line names this pod's home and `program`.
    pub(crate) fn processes(&self, program: &str) -> Vec<i32> {
        let home = self.at("home").display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            if line.contains(&home) && line.split('\0').any(|word| word.ends_with(program)) {
                found.push(pid);
            }
        }
        found
    }
}

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; its log never shows the token.
    pub(crate) fn end(mut self) -> Ended {
        let end = std::time::Instant::now() + LIMIT;
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            let log = || fs::read_to_string(&self.log).unwrap();
            assert!(std::time::Instant::now() < end, "it does not end:\n{}", log());
            std::thread::sleep(Duration::from_millis(10));
        };
        let log = fs::read_to_string(&self.log).unwrap();
        assert!(!log.contains(TOKEN), "{log}");
        Ended { code, log }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves nothing running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn well(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.log);
        self
    }

    #[track_caller]
    pub(crate) fn ill(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.log);
        for word in words {
            assert!(self.log.contains(word), "`{word}` is not in:\n{}", self.log);
        }
    }
}
