//! The `generate-manifest` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    mynah::entry::run(&mynah::steps::generate_manifest::GenerateManifest)
}
