//! Telling the service manager how it goes, by the protocol of `sd_notify(3)`: ready, alive, stopping.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

/// The service manager, if one listens.
#[derive(Debug)]
pub(crate) struct Supervisor {
    socket: Option<(UnixDatagram, Address)>,
    /// How often it wants to hear that the device is alive.
    interval: Option<Duration>,
    told: Duration,
}

#[derive(Debug)]
enum Address {
    Path(PathBuf),
    #[cfg(target_os = "linux")]
    Abstract(std::os::unix::net::SocketAddr),
}

impl Supervisor {
    /// Reads `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    pub(crate) fn of(environment: &BTreeMap<OsString, OsString>) -> Self {
        let address = environment.get(OsStr::new("NOTIFY_SOCKET")).and_then(|value| address(value));
        let socket = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        let interval = environment
            .get(OsStr::new("WATCHDOG_USEC"))
            .and_then(|value| value.to_str()?.parse().ok())
            // Twice within the time, so that a single late frame does not end the device.
            .map(|micros: u64| Duration::from_micros(micros) / 2);
        Self { socket, interval, told: Duration::ZERO }
    }

    fn tell(&self, message: &str) {
        if let Some((socket, address)) = &self.socket {
            let told = match address {
                Address::Path(path) => socket.send_to(message.as_bytes(), path),
                #[cfg(target_os = "linux")]
                Address::Abstract(address) => socket.send_to_addr(message.as_bytes(), address),
            };
            if let Err(error) = told {
                tracing::debug!("the service manager cannot be told: {error}");
            }
        }
    }

    /// The model is loaded and frames are looked at.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The frame loop is alive; `now` is the time since the start.
    pub(crate) fn alive(&mut self, now: Duration) {
        if let Some(interval) = self.interval
            && now.saturating_sub(self.told) >= interval
        {
            self.told = now;
            self.tell("WATCHDOG=1");
        }
    }

    /// The device ends in good order.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }
}

fn address(value: &OsStr) -> Option<Address> {
    #[cfg(target_os = "linux")]
    if let Some(name) = value.to_str()?.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt as _;
        return std::os::unix::net::SocketAddr::from_abstract_name(name).ok().map(Address::Abstract);
    }
    (!value.is_empty()).then(|| Address::Path(value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_hears_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let environment = BTreeMap::from([
            ("NOTIFY_SOCKET".into(), path.into_os_string()),
            ("WATCHDOG_USEC".into(), "10000000".into()),
        ]);
        let mut supervisor = Supervisor::of(&environment);
        supervisor.ready();
        for second in 0..12 {
            supervisor.alive(Duration::from_secs(second));
        }
        supervisor.stopping();
        let mut heard = Vec::new();
        manager.set_nonblocking(true).unwrap();
        let mut bytes = [0; 64];
        while let Ok(length) = manager.recv(&mut bytes) {
            heard.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
        }
        assert_eq!(heard, ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]);
        // Without a manager nothing happens.
        Supervisor::of(&BTreeMap::new()).ready();
    }
}
