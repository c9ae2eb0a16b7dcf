//! Devices a deployment goes to. So far one: this machine.
//!
//! The local device does with a manifest what an IoT Edge device would: finds the module's image by its
//! digest, verifies and unpacks it, starts it, and believes nothing but what it reports.

mod error;
mod local;

pub use error::DeviceError;
pub use local::{Deployed, LocalDevice};
