//! The `import-images` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    mynah::entry::run(&mynah::steps::import::ImportImages)
}
