//! How a step meets whoever started it: an Azure Pipelines agent, or a person at a terminal.
//!
//! Inputs come from flags or from `INPUT_*` variables ([`Inputs`]); output goes through one of two
//! adapters of [`Console`]: [`azure`] writes logging commands, [`local`] writes for people.

pub mod azure;
pub mod command;
mod connection;
pub mod console;
mod env;
mod inputs;
pub mod local;

pub use connection::{Connection, ConnectionError};
pub use console::Console;
pub use env::Env;
pub use inputs::{InputError, Inputs, OptionKind, OptionSpec};
