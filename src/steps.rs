//! The six steps, one module each: options as typed → a validated plan → the work.

pub mod build_modules;
pub(crate) mod custom_vision;
pub mod deploy_modules;
pub mod export;
pub mod generate_manifest;
pub mod import;
mod shards;
pub mod train;
