//! Mynah's build side: the six steps from a folder of labelled photos to a deployed device.
//!
//! A step is declared once ([`step::Step`]: its options, its outputs), runs by hand and under an Azure
//! Pipelines agent alike ([`entry`], [`agent`]), and reads and writes the artifacts of [`mynah_contracts`].
//! Nothing here names the crates that link an inference engine; the binaries that need one hand it in
//! (see ARCHITECTURE.md for why).

mod abridged;
pub mod agent;
pub mod artifact;
pub mod azure;
pub mod child;
pub mod cluster;
pub mod dataset;
pub mod device;
pub mod dockerfile;
pub mod doctor;
pub mod entry;
pub mod http;
pub mod install;
pub mod kubernetes;
pub mod manifest;
pub mod modules;
mod nearest;
pub mod oci;
pub mod pipeline;
pub mod provenance;
pub mod publish;
pub mod registry;
pub mod relay;
pub mod report;
pub mod secret;
pub mod speech;
pub mod staging;
pub mod step;
pub mod steps;
pub mod trace;
pub mod walk;
pub mod yaml;
