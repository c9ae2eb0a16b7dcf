//! The built entrypoint, run as a container runs it: environment in, a stand-in for the agent's package, a double of the
//! service.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod pod;
mod secrets;
mod stopping;
