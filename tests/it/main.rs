//! The built binaries, run as a person and as an agent run them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;
mod bad_input;
mod dockerfiles;
mod given;
mod hub;
mod interruption;
mod walk;
