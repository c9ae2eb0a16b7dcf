//! The built binaries, run as a person and as an agent run them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a test that skips itself says so")]

mod agent;
mod azurite;
mod bad_input;
mod blob;
mod builders;
mod callers;
mod custom_vision;
mod dockerfiles;
mod doctor;
mod given;
mod guides;
mod hub;
mod interruption;
mod kubernetes;
mod manifest;
mod pipeline;
mod registry;
mod relay;
mod shards;
mod shared_agent;
mod trigger;
mod walk;
