//! `mynah manifest diff`: what differs between two manifests, for people and for programs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mynah_contracts::{Diagnosis, Fault, FaultKind};

use super::ManifestError;
use super::diff::Difference;
use crate::agent::Console;
use crate::entry;

const DETAILS: &str = "\
Compares what two manifests say, by module, route, twin and registry; options for containers are compared
as what they say, layered deployments by the paths their keys spell out. Secrets are told to differ and
never shown.

Ends as diff does: 0 the same, 1 they differ, 2 one of them cannot be read.

Example:
  mynah manifest diff live.json work/deployment.json";

/// Why a manifest was not compared.
#[derive(Debug, thiserror::Error)]
enum DiffError {
    #[error("cannot read the manifest `{path}`", path = path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot use the manifest `{path}`", path = path.display())]
    Content {
        path: PathBuf,
        #[source]
        source: ManifestError,
    },
    #[error("cannot write the difference as JSON")]
    Json(#[source] serde_json::Error),
}

impl Diagnosis for DiffError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Io { .. } | Self::Content { .. } => FaultKind::BadInput,
            Self::Json(_) => FaultKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } | Self::Json(_) => None,
            Self::Content { source, .. } => source.hint(),
        }
    }
}

/// The subcommand `diff`.
pub fn diff_command() -> clap::Command {
    let file = |name: &'static str, help: &'static str| {
        clap::Arg::new(name)
            .value_name(name)
            .required(true)
            .help(help)
            .value_parser(clap::value_parser!(PathBuf))
    };
    entry::shell("diff", "Tell what differs between two deployment manifests", DETAILS)
        .arg(file("OLD", "The manifest that was"))
        .arg(file("NEW", "The manifest that is to be"))
        .arg(
            clap::Arg::new("json")
                .long("json")
                .action(clap::ArgAction::SetTrue)
                .help("Tell it as JSON: {\"changes\": [{part, name, path, old, new}]}"),
        )
}

/// Compares, tells the result and says whether the two differ.
///
/// # Errors
/// When one of them cannot be read.
pub fn diff(matches: &clap::ArgMatches, console: &dyn Console) -> Result<bool, Fault> {
    let read = |name: &str| -> Result<serde_json::Value, DiffError> {
        let path = matches.get_one::<PathBuf>(name).map_or(Path::new(""), PathBuf::as_path);
        let bytes = fs::read(path).map_err(|source| DiffError::Io { path: path.to_owned(), source })?;
        Difference::read(&bytes).map_err(|source| DiffError::Content { path: path.to_owned(), source })
    };
    let difference = Difference::between(&read("OLD")?, &read("NEW")?);
    if matches.get_flag("json") {
        console.result(&serde_json::to_string_pretty(&difference).map_err(DiffError::Json)?);
    } else {
        console.result(&difference.to_string());
    }
    Ok(!difference.changes.is_empty())
}
