//! `mynah pipeline check`: what is wrong with pipelines, told with file, line and hint.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mynah_contracts::{Diagnosis, Fault, FaultKind};

use super::check::check;
use crate::agent::Console;
use crate::entry;

const DETAILS: &str = "\
Looks at how pipelines use the tasks of Mynah: unknown and missing inputs, values that are refused, service
connections that are missing, artifacts and output variables that nothing sets, agents that lack the program.
Templates in the same folder tree are followed. Nothing is sent anywhere.

Ends with 0 when there is nothing to mend, 1 when there is, 2 when a file cannot be read.

Example:
  mynah pipeline check azure-pipelines.yml release.yml";

#[derive(Debug, thiserror::Error)]
#[error("cannot read the pipeline `{path}`", path = path.display())]
struct ReadError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Diagnosis for ReadError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some("name the YAML file of a pipeline".into())
    }
}

/// The subcommand `check`.
pub fn check_command() -> clap::Command {
    entry::shell("check", "Tell what is wrong with pipelines before they are pushed", DETAILS).arg(
        clap::Arg::new("FILE")
            .value_name("FILE")
            .required(true)
            .num_args(1..)
            .help("The YAML files of pipelines")
            .value_parser(clap::value_parser!(PathBuf)),
    )
}

/// Looks at the files, tells the findings and says whether there are any.
///
/// # Errors
/// When a file cannot be read.
pub fn run_check(matches: &clap::ArgMatches, console: &dyn Console) -> Result<bool, Fault> {
    let files: Vec<&PathBuf> = matches.get_many("FILE").into_iter().flatten().collect();
    let mut findings = Vec::new();
    for path in &files {
        let found = check(path, |file: &Path| fs::read_to_string(file));
        findings.extend(found.map_err(|source| ReadError { path: (*path).clone(), source })?);
    }
    findings.sort();
    findings.dedup();
    for finding in &findings {
        console.result(&finding.to_string());
    }
    if findings.is_empty() {
        console.result(&format!("{} looked at, nothing to mend", counted(files.len())));
    }
    Ok(!findings.is_empty())
}

fn counted(pipelines: usize) -> String {
    if pipelines == 1 { "1 pipeline".into() } else { format!("{pipelines} pipelines") }
}
