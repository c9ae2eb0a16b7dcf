//! The command line of the device's runtime: settings in, exit code out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mynah_contracts::{Fault, FaultKind};
use mynah_runtime::clock::SystemClock;
use mynah_runtime::device::{self, Ending, Launch};
use mynah_runtime::settings::{Action, Given, Request, Settings, SettingsError, request};
use mynah_runtime::stop::{SignalError, Stop, StopReason};

fn main() -> ExitCode {
    let request = match request(std::env::args_os()) {
        Ok(request) => request,
        Err(answer) => {
            // Whoever closed the output does not want the answer.
            let _ = answer.print();
            return ExitCode::from(if answer.use_stderr() { FaultKind::BadInput.exit_code() } else { 0 });
        }
    };
    match run(&request, std::env::vars_os().collect()) {
        Ok(code) => code,
        Err(fault) => {
            let mut stderr = io::stderr().lock();
            // There is nowhere left to tell that standard error is closed.
            let _ = writeln!(stderr, "error: {}", fault.chain());
            if let Some(hint) = fault.hint() {
                let _ = writeln!(stderr, "hint: {hint}");
            }
            ExitCode::from(fault.kind().exit_code())
        }
    }
}

fn run(request: &Request, environment: BTreeMap<OsString, OsString>) -> Result<ExitCode, Fault> {
    let reload = Arc::new(AtomicBool::new(false));
    let launch = Launch { flags: request.flags.clone(), environment, reload: reload.clone() };
    let given = launch.given()?;
    match request.action {
        Action::Run => {}
        Action::ShowSettings => return show(&given),
        Action::Reference => return Ok(print(&Given::reference())),
        Action::ListDevices => {
            let devices = mynah_runtime::source::v4l2::devices();
            return Ok(print(if devices.is_empty() { "this machine has no camera\n" } else { &devices }));
        }
    }
    let settings = Settings::parse(&given)?;
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(settings.log)
        .with_ansi(false)
        .with_target(false)
        // Whatever collects a device's log stamps its lines.
        .without_time()
        .init();
    let stop = Stop::on_signals()?;
    let clock = Rc::new(SystemClock::new(stop.clone()));
    signal_hook::flag::register(signal_hook::consts::SIGHUP, reload).map_err(SignalError::from)?;
    Ok(match device::run(&launch, given, clock, &stop)? {
        Ending::SourceEnded | Ending::Stopped(StopReason::Terminated) => ExitCode::SUCCESS,
        Ending::Stopped(StopReason::Interrupted) => ExitCode::from(FaultKind::Cancelled.exit_code()),
    })
}

/// Prints an answer.
fn print(text: &str) -> ExitCode {
    // Whoever closed the output has read enough.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Prints the table of settings, then what is wrong with them, if anything but that they are not complete.
fn show(given: &Given) -> Result<ExitCode, Fault> {
    let shown = print(&given.table());
    match Settings::parse(given) {
        Ok(_) | Err(SettingsError::Missing { .. }) => Ok(shown),
        Err(error) => Err(error.into()),
    }
}
