//! The `deploy-modules` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    mynah::entry::run(&mynah::steps::deploy_modules::DeployModules)
}
