//! The sizes of what ships. A light binary that grows past its budget most likely links the inference
//! engine by mistake (ARCHITECTURE.md, "Light and heavy binaries").

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::process::{built, cargo, run};

/// Binary and budget in bytes: what it has on x86-64 today and a tenth more. A light task that links HTTP and TLS is
/// above the 4 MB, a heavy one above the 14 MB that were aimed at (docs/performance.md).
const BUDGETS: [(&str, u64); 9] = [
    ("import-images", 5_700_000),
    ("build-modules", 5_500_000),
    ("generate-manifest", 1_900_000),
    ("deploy-modules", 5_800_000),
    ("train-model", 19_800_000),
    ("export-model", 19_200_000),
    ("mynah", 25_200_000),
    ("mynah-runtime", 19_300_000),
    ("mynah-agent", 3_700_000),
];

/// The programs of the build side, the entrypoint of its agents included.
pub(crate) fn tasks() -> impl Iterator<Item = &'static str> {
    BUDGETS.into_iter().map(|(name, _)| name).filter(|name| *name != "mynah-runtime")
}

/// Builds with the profile that ships and prints the sizes; with `check` a binary over its budget is an error.
pub(crate) fn measure(check: bool) -> Result<()> {
    let root = crate::root();
    run(&root, cargo(), ["build", "--profile", "dist", "--locked"], &[])?;
    let folder = built(&root, "dist")?;
    let mut over = Vec::new();
    for (name, budget) in BUDGETS {
        let bytes = fs::metadata(folder.join(name)).with_context(|| format!("{name} was not built"))?.len();
        crate::say(&format!("{name:18} {:>6.2} MB of {:>5.1} MB", bytes as f64 / 1e6, budget as f64 / 1e6));
        if bytes > budget {
            over.push(name);
        }
    }
    if check && !over.is_empty() {
        bail!("over budget: {}", over.join(", "));
    }
    Ok(())
}
