//! Running other programs, with their output in the error when they fail.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};

/// Runs `program` in `folder` and gives its output; anything but success is an error that shows both streams.
pub(crate) fn run<I, A>(
    folder: &Path,
    program: impl AsRef<OsStr>,
    arguments: I,
    env: &[(&str, &str)],
) -> Result<Output>
where
    I: IntoIterator<Item = A>,
    A: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.current_dir(folder).args(arguments).envs(env.iter().copied());
    forget_this_package(&mut command);
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot start {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// What cargo told this program of its own package is not for a cargo that this program starts: build scripts that
/// look at it would run again, and half of the crates be compiled anew, each time it is another's.
fn forget_this_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let own = name.to_str().is_some_and(|name| {
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"]
                .iter()
                .any(|start| name.starts_with(start))
        });
        if own {
            command.env_remove(name);
        }
    }
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Where cargo puts what it builds with `profile`'s folder name.
pub(crate) fn built(root: &Path, profile: &str) -> Result<PathBuf> {
    let output = run(root, cargo(), ["metadata", "--format-version", "1", "--no-deps", "--locked"], &[])?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(Path::new(target).join(profile))
}
