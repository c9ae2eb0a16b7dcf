//! The built runtime, run as its users run it, on a model of a few kilobytes.

#![expect(clippy::unwrap_used, reason = "a scene that cannot be set must fail its test")]

mod ending;
mod refusing;
mod scene;
mod seeing;
mod settings;
