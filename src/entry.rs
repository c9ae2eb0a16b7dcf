//! How a binary runs a step: flags and environment in, exit code out.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mynah_contracts::{Diagnosis, Fault, FaultKind};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::agent::azure::AzureConsole;
use crate::agent::console::{ConsoleLayer, Severity};
use crate::agent::local::LocalConsole;
use crate::agent::{Console, Env, Inputs};
use crate::secret::Masks;
use crate::step::{Context, Step};

/// Set when someone asked this process to stop.
static CANCELLED: AtomicBool = AtomicBool::new(false);

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 bad input, 3 a service refused, 130 cancelled.";

/// Runs a step as the whole program: reads the command line and the environment, speaks to the agent or
/// the terminal, and gives the exit code of [`FaultKind::exit_code`].
pub fn run<S: Step>(step: &S) -> ExitCode {
    let env = Env::capture();
    let command = Inputs::arguments(shell(S::NAME, S::ABOUT, S::DETAILS), S::OPTIONS).arg(
        clap::Arg::new("dry-run")
            .long("dry-run")
            .action(clap::ArgAction::SetTrue)
            .help("Show what would be done, and do nothing"),
    );
    let matches = match parse(command, std::env::args_os()) {
        Ok(matches) => matches,
        Err(code) => return code,
    };
    let console = console(&env, &matches);
    let inputs = Inputs::collect(S::OPTIONS, &matches, &env);
    conclude(&*console, || {
        let plan = S::plan(&inputs)?;
        if matches.get_flag("dry-run") {
            console.result(step.preview(&plan, &context(&*console, &env)?)?.trim_end());
            return Ok(());
        }
        let outcome = step.run(&plan, &context(&*console, &env)?)?;
        console.finished(&outcome);
        outcome.missed.map_or(Ok(()), Err)
    })
}

/// Whether this process was started by the name `program`, whatever its file is called.
pub fn started_as(program: &str) -> bool {
    std::env::args_os().next().is_some_and(|first| Path::new(&first).file_name() == Some(program.as_ref()))
}

/// A command with the flags every one of ours has.
pub fn shell(name: &'static str, about: &'static str, details: &'static str) -> clap::Command {
    clap::Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .after_help(format!("{details}\n\n{EXIT_CODES}"))
        .max_term_width(100)
        .arg(
            clap::Arg::new("verbose")
                .long("verbose")
                .short('v')
                .action(clap::ArgAction::SetTrue)
                .help("Say more about what is being done"),
        )
        .arg(
            clap::Arg::new("quiet")
                .long("quiet")
                .short('q')
                .action(clap::ArgAction::SetTrue)
                .conflicts_with("verbose")
                .help("Say nothing but warnings, errors and the result"),
        )
}

/// Parses a command line; help and version end the program well, a mistake ends it with exit code 2.
pub fn parse(
    command: clap::Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<clap::ArgMatches, ExitCode> {
    command.try_get_matches_from(arguments).map_err(|error| {
        // A closed standard output leaves nobody to tell.
        let _ = error.print();
        if error.use_stderr() { ExitCode::from(FaultKind::BadInput.exit_code()) } else { ExitCode::SUCCESS }
    })
}

/// The console for whoever started this process; from here on `tracing` events go to it, and SIGINT,
/// SIGTERM and SIGHUP ask the work to stop.
pub fn console(env: &Env, matches: &clap::ArgMatches) -> Arc<dyn Console + Sync> {
    let masks = Masks::process();
    for secret in env.secrets() {
        masks.add(&secret);
    }
    let console: Arc<dyn Console + Sync> = if env.is_agent() {
        Arc::new(AzureConsole::stdout(masks, &CANCELLED))
    } else {
        let least = match (matches.get_flag("verbose"), matches.get_flag("quiet")) {
            (true, _) => Severity::Debug,
            (_, true) => Severity::Warning,
            _ => Severity::Info,
        };
        Arc::new(LocalConsole::new(least, masks, &CANCELLED))
    };
    // Debug events of our own crates only: an inference engine's would drown them.
    let ours = |metadata: &tracing::Metadata<'_>| {
        *metadata.level() <= tracing::Level::WARN
            || (metadata.target().starts_with("mynah") && *metadata.level() <= tracing::Level::DEBUG)
    };
    let layer = ConsoleLayer(Arc::clone(&console));
    let filtered = tracing_subscriber::Layer::with_filter(layer, tracing_subscriber::filter::filter_fn(ours));
    // Both fail only where this was called before in the process, as a test may.
    let _ = tracing_subscriber::registry().with(filtered).try_init();
    let _ = ctrlc::set_handler(|| CANCELLED.store(true, Ordering::Relaxed));
    console
}

/// The context of a step in this process.
pub fn context<'a>(console: &'a (dyn Console + Sync), env: &'a Env) -> Result<Context<'a>, Fault> {
    Ok(Context { monitor: console, env, created: source_date(env)?, now: jiff::Timestamp::now })
}

/// Runs `work`, tells its fault to the console and gives the exit code.
pub fn conclude(console: &dyn Console, work: impl FnOnce() -> Result<(), Fault>) -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            console.failed(&fault);
            ExitCode::from(fault.kind().exit_code())
        }
    }
}

/// `SOURCE_DATE_EPOCH` is not a time (reproducible-builds.org: whole seconds since 1970).
#[derive(Debug, thiserror::Error)]
#[error("`SOURCE_DATE_EPOCH` is `{0}`, whole seconds since 1970 are expected")]
struct SourceDateError(String);

impl Diagnosis for SourceDateError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }
}

fn source_date(env: &Env) -> Result<Option<String>, Fault> {
    let Some(text) = env.get("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let time = text.parse().ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    Ok(Some(time.ok_or_else(|| SourceDateError(text.escape_debug().to_string()))?.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_date_is_written_as_rfc_3339_or_refused() {
        let date = |text| source_date(&Env::from_iter([("SOURCE_DATE_EPOCH", text)]));
        assert_eq!(date("1700000000").unwrap().unwrap(), "2023-11-14T22:13:20Z");
        assert_eq!(date("").unwrap(), None);
        assert_eq!(date("yesterday").unwrap_err().kind(), FaultKind::BadInput);
    }
}
