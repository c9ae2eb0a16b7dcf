//! The first process of an agent's container: it registers the agent of Azure Pipelines, runs it, lets its job end when
//! the container is stopped, and unregisters it. No job sees the secret that registered the agent.

pub mod agent;
pub mod credential;
pub mod handover;
pub mod life;
pub mod memory;
pub mod organization;
pub mod package;
pub mod pools;
pub mod processes;
pub mod settings;
pub mod supervisor;
