//! What surrounds a module of Azure IoT Edge: a real broker over TLS, a security daemon that signs, and a hub that keeps
//! a twin, calls methods and takes telemetry.

mod daemon;
mod hub;
mod mosquitto;

pub use daemon::security_daemon;
pub use hub::{EdgeHub, is_telemetry, reported};
pub use mosquitto::Mosquitto;

use std::path::Path;

/// The device of the doubles.
pub const DEVICE: &str = "pi";
/// Its module.
pub const MODULE: &str = "cam";
/// Which start of the module it is.
const GENERATION: &str = "7";
/// The IoT Hub it belongs to.
const HUB: &str = "hub.example";

/// What the agent tells the module by its environment; `socket` is the security daemon's.
pub fn module_environment(socket: &Path) -> [(&'static str, String); 7] {
    [
        ("IOTEDGE_WORKLOADURI", format!("unix://{}", socket.display())),
        ("IOTEDGE_APIVERSION", "2022-08-03".into()),
        ("IOTEDGE_GATEWAYHOSTNAME", "localhost".into()),
        ("IOTEDGE_IOTHUBHOSTNAME", HUB.into()),
        ("IOTEDGE_DEVICEID", DEVICE.into()),
        ("IOTEDGE_MODULEID", MODULE.into()),
        ("IOTEDGE_MODULEGENERATIONID", GENERATION.into()),
    ]
}
