//! The built binaries, run as a person and as an agent run them.

mod agent;
mod bad_input;
mod given;
mod interruption;
mod walk;
