//! `mynah-agent`: the entrypoint of the agent's image.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use mynah::agent::console::Severity;
use mynah::agent::local::LocalConsole;
use mynah::agent::{Console, Env};
use mynah::entry;
use mynah::http::{Client, Policy};
use mynah::secret::Masks;
use mynah_agent::credential::Credential;
use mynah_agent::handover;
use mynah_agent::life::{self, LifeError};
use mynah_agent::package::{self, PackageError};
use mynah_agent::settings::{Mode, Settings};
use mynah_agent::supervisor::Supervisor;
use mynah_contracts::{Diagnosis, Fault, FaultKind};

/// Set when someone asked this process to stop.
static STOP: AtomicBool = AtomicBool::new(false);

const ABOUT: &str = "Registers an agent of Azure Pipelines, runs it, and unregisters it";

const DETAILS: &str = "\
Variables:
  AZP_URL           the organisation: https://dev.azure.com/ORGANIZATION
  AZP_POOL          the pool (Default)
  AZP_AGENT_NAME    the agent's name (the host's)
  AZP_WORK          the folder for jobs (_work)
  AZP_TOKEN         a token with the scope Agent Pools (Read & manage), or
  AZP_TOKEN_FILE    a file with it, which is removed before the first job, or
  AZP_CLIENTID, AZP_CLIENTSECRET, AZP_TENANTID
                    a service principal, or workload identity: AZURE_FEDERATED_TOKEN_FILE, AZURE_CLIENT_ID,
                    AZURE_TENANT_ID
  MYNAH_AGENT_PACKAGE, MYNAH_AGENT_HOME
                    the agent as it was published (/opt/agent), and where it runs (/azp)
  MYNAH_AGENT_DRAIN_SECONDS
                    how long a job may go on after SIGTERM (3540)
  MYNAH_AGENT_NAME_SECONDS
                    how long an online agent of the same name is waited for (120)

SIGTERM keeps new jobs away, lets the running one end, and unregisters; a second signal cancels the job.";

fn main() -> ExitCode {
    let matches = match entry::parse(command(), std::env::args_os()) {
        Ok(matches) => matches,
        Err(code) => return code,
    };
    let mode = match (matches.get_flag("once"), matches.get_flag("placeholder"), matches.get_flag("remove")) {
        (true, ..) => Mode::Once,
        (_, true, _) => Mode::Placeholder,
        (_, _, true) => Mode::Remove,
        _ => Mode::Serve,
    };
    let least = match (matches.get_flag("verbose"), matches.get_flag("quiet")) {
        (true, _) => Severity::Debug,
        (_, true) => Severity::Warning,
        _ => Severity::Info,
    };
    let console = LocalConsole::new(least, Masks::process(), &STOP);
    entry::conclude(&console, || run(mode, &console))
}

fn run(mode: Mode, console: &(dyn Console + Sync)) -> Result<(), Fault> {
    let secrets = handover::take()?;
    handover::hide_memory().map_err(SystemError)?;
    let mut supervisor = Supervisor::start(&STOP).map_err(SystemError)?;
    let system = rustix::system::uname();
    package::check_processor(&system.machine().to_string_lossy())?;
    let env = Env::capture();
    if mode != Mode::Remove
        && rustix::process::getuid().is_root()
        && env.get("AGENT_ALLOW_RUNASROOT").is_none()
    {
        return Err(PackageError::Root.into());
    }
    let settings = Settings::read(&env, &system.nodename().to_string_lossy())?;
    // A container that cannot reach the service ends soon: whoever runs it starts it again, with waits.
    let client = Client::new(Policy { tries: 4, ..Policy::default() }).map_err(LifeError::from)?;
    let credential =
        Credential::discover(&env, secrets.get("AZP_TOKEN"), secrets.get("AZP_CLIENTSECRET"), &client)?;
    if env.get("AZURE_FEDERATED_TOKEN_FILE").is_some() && matches!(credential, Credential::Application(_)) {
        console.log(
            Severity::Warning,
            "workload identity: the pod's federated token stays where every job can read it; give the identity no more than this pool",
        );
    }
    match life::live(&settings, mode, &credential, &secrets, client, &mut supervisor, console) {
        // Stopped before anything was registered: all is as it was asked for.
        Err(error) if error.kind() == FaultKind::Cancelled => {
            console.log(Severity::Info, "asked to stop before anything was registered");
            Ok(())
        }
        other => Ok(other?),
    }
}

fn command() -> clap::Command {
    let flag = |name: &'static str, help: &'static str| {
        clap::Arg::new(name).long(name).action(clap::ArgAction::SetTrue).help(help)
    };
    entry::shell("mynah-agent", ABOUT, DETAILS)
        .arg(flag("once", "Take one job, then unregister and end"))
        .arg(
            flag(
                "placeholder",
                "Register, and leave the agent offline in its pool: KEDA needs one to copy from",
            )
            .conflicts_with("once"),
        )
        .arg(
            flag("remove", "Only unregister the agent of this name, such as a placeholder")
                .conflicts_with_all(["once", "placeholder"]),
        )
}

/// The kernel refuses what the first process of a container needs.
#[derive(Debug, thiserror::Error)]
#[error("cannot take care of this container's processes")]
struct SystemError(#[source] std::io::Error);

impl Diagnosis for SystemError {
    fn kind(&self) -> FaultKind {
        FaultKind::Failed
    }
}
