//! The `build-modules` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    mynah::entry::run(&mynah::steps::build_modules::BuildModules)
}
