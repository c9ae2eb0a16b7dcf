//! The settings of the hub: which broker, how to sign in, what is sent.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::server_spec::secret_file;
use super::values::{count, path, seconds};
use super::{Given, Settings, SettingsError};
use crate::hub::{Batching, Broker, ConnectionString, Workload};
use crate::secret::Secret;

/// The port of MQTT over TLS, and without.
const TLS_PORT: u16 = 8883;
const PLAIN_PORT: u16 = 1883;

/// Which broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HubSpec {
    /// Edge Hub, as a module: the environment says the rest.
    Edge,
    /// IoT Hub, as a device: a connection string says the rest.
    Device,
    /// Any MQTT broker.
    Plain {
        /// Name or address.
        host: String,
        /// TCP port; absent = the usual one.
        port: Option<u16>,
        /// Whether the connection is encrypted.
        tls: bool,
    },
}

/// Which sightings are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Telemetry {
    /// Those at which a word was said.
    Said,
    /// Those that show something else than the one before.
    Changes,
    /// All.
    All,
}

/// Everything about the hub.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HubSettings {
    /// Which broker.
    pub spec: HubSpec,
    /// The port, where it is not the usual one.
    pub port: Option<u16>,
    /// The file with the connection string.
    pub connection_file: Option<PathBuf>,
    /// Certificates to trust instead of the machine's.
    pub ca_file: Option<PathBuf>,
    /// The output of a module.
    pub output: String,
    /// The user at a plain broker.
    pub user: Option<String>,
    /// The file with the user's password.
    pub password_file: Option<PathBuf>,
    /// What topics begin with at a plain broker.
    pub topic: String,
    /// Whether Home Assistant is told of the device.
    pub home_assistant: bool,
    /// Where messages wait.
    pub spool: PathBuf,
    /// How much may wait, in bytes.
    pub spool_bytes: u64,
    /// What is sent.
    pub telemetry: Telemetry,
    /// How much of it goes out at once.
    pub batching: Batching,
}

impl HubSettings {
    /// Reads what belongs to the hub; `None` where there is none.
    pub(super) fn parse(given: &Given) -> Result<Option<Self>, SettingsError> {
        let others = (
            given.optional("hub-port", |text| count(text, 1, u16::MAX))?,
            given.required("hub-output", topic_part)?,
            given.required("mqtt-topic", topic)?,
            given.required("home-assistant", yes_no)?,
            given.required("spool-megabytes", |text| count(text, 1, 100_000_u64))?,
            given.required("telemetry", |text| match text {
                "said" => Ok(Telemetry::Said),
                "changes" => Ok(Telemetry::Changes),
                "all" => Ok(Telemetry::All),
                _ => Err("`said`, `changes` or `all` is allowed".to_owned()),
            })?,
            Batching {
                most: given.required("telemetry-batch", |text| count(text, 1, 500_u16))?,
                wait: given.required("telemetry-batch-wait", |text| seconds(text, 3600.0))?,
            },
        );
        let Some(spec) = given.optional("hub", HubSpec::parse)? else { return Ok(None) };
        let (port, output, topic, home_assistant, megabytes, telemetry, batching) = others;
        if home_assistant && batching.most > 1 {
            let what =
                "`telemetry-batch` is to be 1 with `home-assistant`, which reads one sighting a message";
            return Err(SettingsError::Hub { what: what.into() });
        }
        Ok(Some(Self {
            spec,
            port,
            connection_file: given.optional("hub-connection-file", path)?,
            ca_file: given.optional("hub-ca-file", path)?,
            output,
            user: given.optional("mqtt-user", |text| Ok(text.to_owned()))?,
            password_file: given.optional("mqtt-password-file", path)?,
            topic,
            home_assistant,
            spool: given.required("spool", path)?,
            spool_bytes: megabytes << 20,
            telemetry,
            batching,
        }))
    }
}

impl HubSpec {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "edge" => return Ok(Self::Edge),
            "device" => return Ok(Self::Device),
            _ => {}
        }
        let (scheme, place) = text.split_once("://").ok_or(FORMS)?;
        let tls = match scheme {
            "mqtt" => false,
            "mqtts" => true,
            _ => return Err(FORMS.into()),
        };
        let (host, port) = match place.trim_end_matches('/').rsplit_once(':') {
            Some((host, port)) => (host, Some(count(port, 1, u16::MAX)?)),
            None => (place.trim_end_matches('/'), None),
        };
        if host.is_empty() || !host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        {
            return Err("the name of a host follows; user and password have settings of their own".into());
        }
        Ok(Self::Plain { host: host.to_owned(), port, tls })
    }
}

const FORMS: &str = "a hub is written `edge`, `device`, `mqtt://HOST` or `mqtts://HOST`";

fn yes_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("`yes` or `no` is allowed".into()),
    }
}

fn topic(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if text.len() <= 200 && text.chars().all(plain) && text.split('/').all(|part| !part.is_empty()) {
        Ok(text.to_owned())
    } else {
        Err("letters, digits, `-`, `_` and `.` are allowed, with `/` between".into())
    }
}

fn topic_part(text: &str) -> Result<String, String> {
    if text.contains('/') { Err("one name without `/` is allowed".into()) } else { topic(text) }
}

impl Settings {
    /// The broker, if there is to be one. The environment says who a module of IoT Edge is.
    ///
    /// # Errors
    /// Something that is needed is missing or cannot be read.
    pub fn broker(
        &self,
        environment: &BTreeMap<OsString, OsString>,
    ) -> Result<Option<Broker>, SettingsError> {
        let Some(hub) = &self.hub else { return Ok(None) };
        let broker = match &hub.spec {
            HubSpec::Edge => edge(hub, environment)?,
            HubSpec::Device => {
                let Some(file) = &hub.connection_file else {
                    return Err(SettingsError::Hub { what: "`hub-connection-file` is missing".into() });
                };
                let text = secret_file("hub-connection-file", file)?;
                let connection =
                    ConnectionString::parse(text.expose()).map_err(|what| SettingsError::Hub {
                        what: format!("`{}` is no connection string: {what}", file.display()),
                    })?;
                Broker::Device { connection, ca: hub.ca_file.clone(), port: hub.port.unwrap_or(TLS_PORT) }
            }
            HubSpec::Plain { host, port, tls } => Broker::Plain {
                host: host.clone(),
                port: port.or(hub.port).unwrap_or(if *tls { TLS_PORT } else { PLAIN_PORT }),
                tls: *tls,
                ca: hub.ca_file.clone(),
                credentials: match &hub.user {
                    Some(user) => {
                        let password = match &hub.password_file {
                            Some(file) => secret_file("mqtt-password-file", file)?,
                            None => Secret::new(""),
                        };
                        Some((user.clone(), password))
                    }
                    None => None,
                },
                prefix: hub.topic.clone(),
                home_assistant: hub.home_assistant,
            },
        };
        Ok(Some(broker))
    }
}

/// What the agent of IoT Edge tells a module by its environment.
fn edge(hub: &HubSettings, environment: &BTreeMap<OsString, OsString>) -> Result<Broker, SettingsError> {
    let variable = |name: &'static str| {
        environment
            .get(OsStr::new(name))
            .and_then(|value| value.to_str())
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
            .ok_or_else(|| SettingsError::Hub {
                what: format!("the environment variable `{name}` is missing: is this a module of IoT Edge?"),
            })
    };
    let socket = variable("IOTEDGE_WORKLOADURI")?;
    let socket = socket.strip_prefix("unix://").ok_or_else(|| SettingsError::Hub {
        what: "`IOTEDGE_WORKLOADURI` does not begin with `unix://`".into(),
    })?;
    Ok(Broker::Edge {
        gateway: variable("IOTEDGE_GATEWAYHOSTNAME")?,
        port: hub.port.unwrap_or(TLS_PORT),
        hub: variable("IOTEDGE_IOTHUBHOSTNAME")?,
        device: variable("IOTEDGE_DEVICEID")?,
        workload: Workload {
            socket: socket.into(),
            api_version: variable("IOTEDGE_APIVERSION")?,
            module: variable("IOTEDGE_MODULEID")?,
            generation: variable("IOTEDGE_MODULEGENERATIONID")?,
        },
        output: hub.output.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_read() {
        let plain = |host: &str, port, tls| HubSpec::Plain { host: host.into(), port, tls };
        for (text, spec) in [
            ("edge", HubSpec::Edge),
            ("device", HubSpec::Device),
            ("mqtt://broker.local", plain("broker.local", None, false)),
            ("mqtts://10.0.0.1:8884/", plain("10.0.0.1", Some(8884), true)),
        ] {
            assert_eq!(HubSpec::parse(text).unwrap(), spec);
        }
        for bad in ["", "http://x", "mqtt://", "mqtt://u:p@host", "mqtt://h:0"] {
            assert!(HubSpec::parse(bad).is_err(), "{bad}");
        }
        assert!(
            topic("a/b").is_ok() && topic("a//b").is_err() && topic("a+").is_err() && topic("/a").is_err()
        );
    }

    #[test]
    fn home_assistant_is_told_one_sighting_a_message() {
        let parse = |batch: &str| {
            let flags = [
                ("model", "m"),
                ("source", "dir:f"),
                ("hub", "mqtt://here"),
                ("home-assistant", "yes"),
                ("telemetry-batch", batch),
            ];
            let flags = flags.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            Settings::parse(&Given::collect(&flags, &BTreeMap::new()).unwrap())
        };
        assert!(parse("1").is_ok());
        assert!(parse("9").unwrap_err().to_string().contains("is to be 1 with `home-assistant`"));
    }

    #[test]
    fn a_module_without_its_environment_is_told_what_is_missing() {
        let flags = [("model", "m"), ("source", "dir:f"), ("hub", "edge")];
        let flags = flags.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let settings = Settings::parse(&Given::collect(&flags, &BTreeMap::new()).unwrap()).unwrap();
        let error = settings.broker(&BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("`IOTEDGE_WORKLOADURI` is missing"), "{error}");
    }
}
