//! A package like the agent's: the same scripts by name and contract, with a stand-in for its programs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// As the agent's: it refuses root, and starts the listener with the arguments it got.
const CONFIG: &str = r#"#!/bin/bash
if [ "$(id -u)" -eq 0 ] && [ -z "$AGENT_ALLOW_RUNASROOT" ]; then echo "Must not run with sudo"; exit 1; fi
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
if [ "$1" = remove ]; then ./bin/Agent.Listener "$@"; else ./bin/Agent.Listener configure "$@"; fi
"#;

const RUN: &str = r#"#!/bin/bash
if [ "$(id -u)" -eq 0 ] && [ -z "$AGENT_ALLOW_RUNASROOT" ]; then echo "Must not run interactively with sudo"; exit 1; fi
"$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"/bin/Agent.Listener run "$@"
exit $?
"#;

/// Lays such a package out in `folder`; `stand_in` is the built stand-in agent.
///
/// # Errors
/// The folder cannot be written, or the stand-in is not there.
pub fn package(folder: &Path, stand_in: &Path) -> Result<()> {
    for below in ["bin", "externals/node20_1/bin"] {
        fs::create_dir_all(folder.join(below))?;
    }
    for name in ["bin/Agent.Listener", "bin/Agent.Worker"] {
        fs::copy(stand_in, folder.join(name)).with_context(|| format!("no {}", stand_in.display()))?;
    }
    for (name, text) in [("config.sh", CONFIG), ("run.sh", RUN), ("env.sh", "#!/bin/bash\n")] {
        fs::write(folder.join(name), text)?;
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755))?;
    }
    fs::write(folder.join("externals/node20_1/bin/node"), "stands in for Node\n")?;
    Ok(())
}
