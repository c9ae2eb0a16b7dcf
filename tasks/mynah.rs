//! The `mynah` binary: the whole walk on one machine.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;

use mynah::agent::{Console, Env, Inputs};
use mynah::doctor;
use mynah::entry;
use mynah::manifest::command;
use mynah::pipeline;
use mynah::relay;
use mynah::trace;
use mynah::walk::{self, Plan, Walk};
use mynah_contracts::Fault;
use mynah_trainer::{Embedded, Foreign, heap};

/// The image `trace` begins with.
const IMAGE: &str = "image";

fn main() -> ExitCode {
    heap::share_between_threads();
    let run = Inputs::arguments(
        entry::shell("run", "Walk the six steps on this machine: photos in, spoken words out", walk::DETAILS),
        walk::OPTIONS,
    )
    .arg(
        clap::Arg::new(walk::PHOTOS)
            .value_name("PHOTOS")
            .value_parser(clap::value_parser!(PathBuf))
            .help("A folder with one folder of photos per label"),
    )
    .arg(
        clap::Arg::new("dry-run")
            .long("dry-run")
            .action(clap::ArgAction::SetTrue)
            .help("Show what would be done, and do nothing"),
    );
    let tracing = Inputs::arguments(
        entry::shell("trace", "From an image back to the model, the dataset and the photos", trace::DETAILS),
        trace::OPTIONS,
    )
    .arg(clap::Arg::new(IMAGE).value_name("IMAGE").required(true).help("The image, best with its digest"));
    let relaying = Inputs::arguments(
        entry::shell("relay", "Uploads to Blob Storage become runs of a pipeline", relay::DETAILS),
        relay::OPTIONS,
    )
    .arg(
        clap::Arg::new("dry-run")
            .long("dry-run")
            .action(clap::ArgAction::SetTrue)
            .help("Show what would be done, and do nothing"),
    );
    let command = clap::Command::new("mynah")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Turns a folder of labelled photos into a device that says what it sees")
        .after_help(
            "The six steps are programs of their own: import-images, train-model, export-model, build-modules,\n\
             generate-manifest, deploy-modules. Each explains itself with --help.",
        )
        .max_term_width(100)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(run)
        .subcommand(tracing)
        .subcommand(relaying)
        .subcommand(doctor::command())
        .subcommand(
            clap::Command::new("manifest")
                .about("Work with deployment manifests")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(command::diff_command()),
        )
        .subcommand(
            clap::Command::new("pipeline")
                .about("Work with pipelines that use the tasks")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(pipeline::check_command())
                .subcommand(pipeline::run_command()),
        );
    let matches = match entry::parse(command, std::env::args_os()) {
        Ok(matches) => matches,
        Err(code) => return code,
    };
    match matches.subcommand() {
        Some(("run", matches)) => walk(matches),
        Some(("trace", matches)) => trace_image(matches),
        Some(("relay", matches)) => relay_uploads(matches),
        Some(("doctor", matches)) => {
            let env = Env::capture();
            compare(matches, |matches, console| doctor::run(matches, &env, console))
        }
        Some(("manifest", matches)) => matches
            .subcommand_matches("diff")
            .map_or(ExitCode::FAILURE, |matches| compare(matches, command::diff)),
        Some(("pipeline", matches)) => match matches.subcommand() {
            Some(("check", matches)) => compare(matches, pipeline::run_check),
            Some(("run", matches)) => run_pipeline(matches),
            _ => ExitCode::FAILURE,
        },
        _ => ExitCode::FAILURE,
    }
}

/// A command that ends as diff does: 0 nothing to tell, 1 something, 2 it could not be told.
fn compare(
    matches: &clap::ArgMatches,
    tell: impl FnOnce(&clap::ArgMatches, &dyn Console) -> Result<bool, Fault>,
) -> ExitCode {
    let env = Env::capture();
    let console = entry::console(&env, matches);
    let told = Cell::new(false);
    let code = entry::conclude(&*console, || {
        told.set(tell(matches, &*console)?);
        Ok(())
    });
    if told.get() { ExitCode::FAILURE } else { code }
}

/// `mynah run`.
fn walk(matches: &clap::ArgMatches) -> ExitCode {
    let env = Env::capture();
    let console = entry::console(&env, matches);
    entry::conclude(&*console, || {
        let inputs = Inputs::collect(walk::OPTIONS, matches, &env);
        let plan = Plan::new(matches.get_one(walk::PHOTOS).cloned(), &inputs)?;
        if matches.get_flag("dry-run") {
            console.result(&plan.to_string());
            return Ok(());
        }
        let walk = Walk {
            trainer: |backbone| Box::new(Embedded::new(backbone)),
            exporter: |backbone| Box::new(Embedded::new(backbone)),
            adopter: &Foreign,
        };
        console.result(walk.run(&plan, &entry::context(&*console, &env)?)?.trim_end());
        Ok(())
    })
}

/// `mynah pipeline run FILE`.
fn run_pipeline(matches: &clap::ArgMatches) -> ExitCode {
    let env = Env::capture();
    let console = entry::console(&env, matches);
    entry::conclude(&*console, || pipeline::run_pipeline(matches, &*console, &env))
}

/// `mynah trace IMAGE`.
fn trace_image(matches: &clap::ArgMatches) -> ExitCode {
    let env = Env::capture();
    let console = entry::console(&env, matches);
    entry::conclude(&*console, || {
        let inputs = Inputs::collect(trace::OPTIONS, matches, &env);
        let image = matches.get_one::<String>(IMAGE).map_or("", String::as_str);
        console.result(trace::Plan::new(image, &inputs)?.run(&env, &*console)?.trim_end());
        Ok(())
    })
}

/// `mynah relay`.
fn relay_uploads(matches: &clap::ArgMatches) -> ExitCode {
    let env = Env::capture();
    let console = entry::console(&env, matches);
    entry::conclude(&*console, || {
        let plan = relay::Plan::new(&Inputs::collect(relay::OPTIONS, matches, &env), &env)?;
        if matches.get_flag("dry-run") {
            console.result(&plan.to_string());
            return Ok(());
        }
        plan.run(&env, &*console)
    })
}
