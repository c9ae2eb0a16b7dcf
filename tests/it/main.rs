//! The built binaries, run as a person and as an agent run them.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says aloud what it skips"
)]

mod agent;
mod bad_input;
mod given;
mod interruption;
mod walk;
