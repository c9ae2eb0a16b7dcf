//! The six steps, one module each: options as typed → a validated plan → the work.

pub mod build_modules;
pub mod deploy_modules;
pub mod generate_manifest;
