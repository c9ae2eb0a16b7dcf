//! The agent's package: checked against this machine, and laid out where the agent can write.
//!
//! An agent keeps its registration and its logs beside its programs. Where the image's root is read-only, the programs
//! are copied to a folder that can be written; `externals` (the Nodes, most of the package) is linked.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use mynah_contracts::{Diagnosis, FaultKind};
use walkdir::WalkDir;

/// Written last: a copy without it was interrupted.
const WHOLE: &str = ".package-is-whole";

/// What `config.sh` leaves in the agent's folder (agent source, `WellKnownConfigFile`).
const REGISTRATION: [&str; 5] =
    [".agent", ".credentials", ".credentials_rsaparams", ".service", ".setup_info"];

/// Why the agent cannot be started here.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// No agent is published for the processor.
    #[error("there is no agent for the processor `{0}` of this machine")]
    Processor(String),
    /// The agent refuses to run as root.
    #[error("the agent does not run as root")]
    Root,
    /// There is no agent.
    #[error("there is no agent in `{0}`: `config.sh` is missing")]
    Missing(PathBuf),
    /// A folder that must be writable is not.
    #[error("cannot write in `{path}`")]
    ReadOnly {
        /// The folder.
        path: PathBuf,
        /// What it is for.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The package cannot be copied.
    #[error("cannot copy the agent to `{path}`")]
    Copy {
        /// Where to.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Diagnosis for PackageError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Copy { .. } => FaultKind::Failed,
            _ => FaultKind::BadInput,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Processor(name) if name.starts_with("armv6") => "a Raspberry Pi Zero or 1 (ARMv6) cannot run an agent: deploy to it, but build on a Pi 2 or later, or on a PC".into(),
            Self::Processor(_) => "agents exist for x86_64, aarch64 and armv7l".into(),
            Self::Root => "run the container as another user (`runAsUser: 10001`), or set `AGENT_ALLOW_RUNASROOT=1` and accept that jobs are root".into(),
            Self::Missing(_) => "unpack the agent there, or name its folder in `MYNAH_AGENT_PACKAGE`".into(),
            Self::ReadOnly { what, .. } => format!("mount a volume (emptyDir) there for {what}, writable for the user of the container (`fsGroup`)"),
            Self::Copy { .. } => "check that the volume has room for the agent".into(),
        })
    }
}

/// Refuses a machine for which no agent is published. `machine` is the kernel's name of the processor.
///
/// # Errors
/// [`PackageError::Processor`].
pub fn check_processor(machine: &str) -> Result<(), PackageError> {
    match machine {
        "x86_64" | "aarch64" | "armv7l" | "armv8l" => Ok(()),
        other => Err(PackageError::Processor(other.to_owned())),
    }
}

/// Lays `package` out in `home` and removes the registration that an earlier life left there.
///
/// # Errors
/// No package, or a folder that cannot be written.
pub fn lay_out(package: &Path, home: &Path) -> Result<(), PackageError> {
    let source = if package == home { home } else { package };
    if !source.join("config.sh").is_file() {
        return Err(PackageError::Missing(source.to_owned()));
    }
    writable(home, "the agent's programs, registration and logs")?;
    if package != home && !home.join(WHOLE).is_file() {
        copy(package, home).map_err(|source| PackageError::Copy { path: home.to_owned(), source })?;
    }
    for name in REGISTRATION {
        match fs::remove_file(home.join(name)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(PackageError::ReadOnly {
                    path: home.join(name),
                    what: "the agent's registration",
                    source,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Makes `folder` where it is missing, and proves that files can be written there.
///
/// # Errors
/// They cannot.
pub fn writable(folder: &Path, what: &'static str) -> Result<(), PackageError> {
    let probe = folder.join(format!(".writable-{}", std::process::id()));
    fs::create_dir_all(folder)
        .and_then(|()| File::create(&probe))
        .and_then(|_| fs::remove_file(&probe))
        .map_err(|source| PackageError::ReadOnly { path: folder.to_owned(), what, source })
}

fn copy(package: &Path, home: &Path) -> io::Result<()> {
    for entry in WalkDir::new(package).min_depth(1) {
        let entry = entry?;
        let Ok(below) = entry.path().strip_prefix(package) else { continue };
        if below.starts_with("externals") {
            continue;
        }
        let to = home.join(below);
        if entry.file_type().is_dir() {
            fs::create_dir_all(&to)?;
        } else if entry.path_is_symlink() {
            replace_link(&fs::read_link(entry.path())?, &to)?;
        } else {
            fs::copy(entry.path(), &to)?;
        }
    }
    let externals = package.join("externals");
    if externals.is_dir() {
        replace_link(&externals, &home.join("externals"))?;
    }
    File::create(home.join(WHOLE))?.sync_all()
}

fn replace_link(target: &Path, link: &Path) -> io::Result<()> {
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, link)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn processors_without_an_agent_are_named() {
        for machine in ["x86_64", "aarch64", "armv7l", "armv8l"] {
            check_processor(machine).unwrap();
        }
        let error = check_processor("armv6l").unwrap_err();
        assert_eq!(error.to_string(), "there is no agent for the processor `armv6l` of this machine");
        assert!(error.hint().unwrap().contains("Raspberry Pi Zero"));
        assert!(check_processor("riscv64").unwrap_err().hint().unwrap().contains("aarch64"));
    }

    #[test]
    fn a_package_is_copied_once_and_an_old_registration_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let (package, home) = (root.path().join("package"), root.path().join("home"));
        assert!(matches!(lay_out(&package, &home), Err(PackageError::Missing(_))));
        fs::create_dir_all(package.join("bin")).unwrap();
        fs::create_dir_all(package.join("externals/node20_1/bin")).unwrap();
        fs::write(package.join("externals/node20_1/bin/node"), "node").unwrap();
        fs::write(package.join("config.sh"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(package.join("config.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(package.join("bin/Agent.Listener"), "listener").unwrap();
        lay_out(&package, &home).unwrap();
        assert_eq!(fs::read(home.join("bin/Agent.Listener")).unwrap(), b"listener");
        assert_eq!(fs::metadata(home.join("config.sh")).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read_link(home.join("externals")).unwrap(), package.join("externals"));
        // The agent brought itself up to date, and was killed.
        fs::write(home.join("bin/Agent.Listener"), "newer").unwrap();
        fs::write(home.join(".agent"), "{}").unwrap();
        lay_out(&package, &home).unwrap();
        assert_eq!(fs::read(home.join("bin/Agent.Listener")).unwrap(), b"newer");
        assert!(!home.join(".agent").exists());
    }

    #[test]
    fn a_folder_that_is_a_file_cannot_be_written() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let error = writable(&file.join("work"), "jobs").unwrap_err();
        assert!(error.hint().unwrap().contains("emptyDir"), "{error}");
    }
}
