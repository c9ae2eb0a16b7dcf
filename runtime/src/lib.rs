//! What runs on the device: it sees, it decides, it speaks, it reports.
//!
//! One loop ([`device`]) takes frames from a [`source`], has the model classify them, lets [`decide`] turn
//! probabilities into words, hands the words to a [`speaker`] and leaves a line in [`sightings`] and a
//! [`status`]. Everything that differs between devices stands behind a trait: where frames come from
//! ([`source::FrameSource`]), how words are heard ([`speaker::Speaker`]), what time is ([`clock::Clock`]).

mod board;
pub mod clock;
pub mod decide;
pub mod device;
pub mod http;
pub mod hub;
mod program;
mod replace;
pub mod review;
pub mod secret;
pub mod settings;
pub mod sightings;
pub mod source;
pub mod speaker;
pub mod speech;
pub mod status;
pub mod stop;
mod supervisor;
mod update;
mod voice;
mod web;
