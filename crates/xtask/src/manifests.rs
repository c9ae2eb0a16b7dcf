//! The journey of manifests: templates as people have them, judged by the schemas of those who read the result.

use std::fs;

use anyhow::Result;

use crate::judges;
use crate::process::{built, cargo, run};

/// Builds the program and hands it to the judge.
pub(crate) fn journey() -> Result<()> {
    let root = fs::canonicalize(crate::root())?;
    run(&root, cargo(), ["build", "--release", "--locked", "--bin", "generate-manifest"], &[])?;
    judges::manifest_examples(&root, &built(&root, "release")?.join("generate-manifest"))
}
