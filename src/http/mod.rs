//! HTTP to services: one client, one policy of time-outs and retries, one error, one way into asynchronous code.
//!
//! A [`Request`] can be sent again: its body is built anew for each try. [`Client::send`] repeats what may be
//! repeated, waits as long as the service asks for, and gives up at a deadline. Steps are synchronous; they enter
//! through [`block_on`], which also drops the work when someone asks to stop.

mod client;
mod error;
mod policy;
mod proxy;
mod redact;
mod request;
mod response;
mod runtime;
#[cfg(test)]
mod tests;

pub use client::{Client, Tls};
pub use error::{HttpError, Refusal};
pub use policy::Policy;
pub(crate) use redact::clean;
pub use redact::shown_url;
pub use request::{Body, Part, Repeat, Request};
pub use reqwest::{Method, StatusCode, Url};
pub use response::{Incoming, Response};
pub use runtime::block_on;
