//! `mynah pipeline run`: an agent on this machine, so that a pipeline is tried before it is pushed.
//!
//! [`expand`] does what the service does with templates, [`read`] makes a [`plan`] of what comes out and names what
//! cannot be done here, [`runner`] and [`job`] carry it out with the task programs under the agent's environment.

mod actions;
mod command;
mod commands;
mod environment;
mod error;
mod expand;
mod expression;
mod functions;
mod job;
mod node_value;
mod plan;
mod process;
mod read;
mod read_job;
mod runner;
mod status;
mod store;
mod templates;
mod test_results;
mod value;
mod variables;

pub use command::{run_command, run_pipeline};
