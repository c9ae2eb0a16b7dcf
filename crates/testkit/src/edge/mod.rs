//! What surrounds a module of Azure IoT Edge: a real broker over TLS, a security daemon that signs, and a hub that keeps
//! a twin, calls methods and takes telemetry.

mod daemon;
mod hub;
mod mosquitto;

pub use daemon::security_daemon;
pub use hub::{EdgeHub, is_telemetry, reported};
pub use mosquitto::Mosquitto;

/// The device of the doubles.
pub const DEVICE: &str = "pi";
/// Its module.
pub const MODULE: &str = "cam";
/// Which start of the module it is.
pub const GENERATION: &str = "7";
/// The IoT Hub it belongs to.
pub const HUB: &str = "hub.example";
