//! The built runtime, run as its users run it, on a model of a few kilobytes.

#![expect(clippy::unwrap_used, reason = "a scene that cannot be set must fail its test")]

mod cameras;
mod ending;
mod http;
mod hub;
mod hub_models;
mod reference;
mod refusing;
mod rough;
mod scene;
mod seeing;
mod settings;
mod sound;
