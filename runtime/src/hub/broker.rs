//! Which broker, and how to sign in: Edge Hub as a module, IoT Hub as a device, or any MQTT broker.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;

use super::sas::{self, ConnectionString};
use super::topics::Speaker;
use super::workload::Workload;
use crate::secret::Secret;
use crate::web;

/// How long a password is valid, and when it is renewed.
const VALID: Duration = Duration::from_hours(1);
const RENEW: Duration = Duration::from_mins(48);
/// The version of the protocol's service.
const API: &str = "2021-04-12";
/// Without a password there is nothing to renew.
const FOR_EVER: Duration = Duration::from_hours(10 * 365 * 24);

/// A broker and who we are to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Broker {
    /// Edge Hub, as a module of an IoT Edge device.
    Edge {
        /// Where Edge Hub listens.
        gateway: String,
        /// The port, 8883 but in tests.
        port: u16,
        /// The IoT Hub's host name.
        hub: String,
        /// The device.
        device: String,
        /// Who signs.
        workload: Workload,
        /// The output telemetry goes to.
        output: String,
    },
    /// IoT Hub itself.
    Device {
        /// Who we are.
        connection: ConnectionString,
        /// Certificates to trust instead of the machine's.
        ca: Option<PathBuf>,
        /// The port, 8883 but in tests.
        port: u16,
    },
    /// Any MQTT 3.1.1 broker.
    Plain {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// Whether the connection is encrypted.
        tls: bool,
        /// Certificates to trust instead of the machine's.
        ca: Option<PathBuf>,
        /// User and password.
        credentials: Option<(String, Secret)>,
        /// What topics begin with.
        prefix: String,
        /// Whether Home Assistant is told of the device.
        home_assistant: bool,
    },
}

/// What a connection signs in with.
pub(super) struct Login {
    pub(super) credentials: Option<(String, Secret)>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// How long until it must be renewed.
    pub(super) valid: Duration,
}

impl Broker {
    /// For people.
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.host(), self.port())
    }

    pub(super) fn host(&self) -> &str {
        match self {
            Self::Edge { gateway, .. } => gateway,
            Self::Device { connection, .. } => &connection.host,
            Self::Plain { host, .. } => host,
        }
    }

    pub(super) fn port(&self) -> u16 {
        match self {
            Self::Edge { port, .. } | Self::Device { port, .. } | Self::Plain { port, .. } => *port,
        }
    }

    pub(super) fn client_id(&self) -> String {
        match self {
            Self::Edge { device, workload, .. } => format!("{device}/{}", workload.module),
            Self::Device { connection, .. } => match &connection.module {
                Some(module) => format!("{}/{module}", connection.device),
                None => connection.device.clone(),
            },
            Self::Plain { prefix, .. } => format!("mynah-{}", prefix.replace('/', "-")),
        }
    }

    pub(super) fn speaker(&self) -> Speaker {
        let module = |device: &str, module: &str, output: &str| Speaker::Module {
            device: device.to_owned(),
            module: module.to_owned(),
            output: output.to_owned(),
        };
        match self {
            Self::Edge { device, workload, output, .. } => module(device, &workload.module, output),
            Self::Device { connection, .. } => match &connection.module {
                Some(name) => module(&connection.device, name, "output1"),
                None => Speaker::Device { device: connection.device.clone() },
            },
            Self::Plain { prefix, .. } => Speaker::Plain { prefix: prefix.clone() },
        }
    }

    /// Signs in: asks for signatures and certificates. Blocks.
    ///
    /// # Errors
    /// The security daemon, a file or a key cannot be used.
    pub(super) fn login(&self) -> io::Result<Login> {
        let expiry = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)? + VALID;
        let expiry = expiry.as_secs();
        match self {
            Self::Edge { hub, device, workload, .. } => {
                let module = &workload.module;
                let resource = format!("{hub}/devices/{device}/modules/{module}");
                let signature = workload.sign(&sas::string_to_sign(&resource, expiry))?;
                let user = format!("{hub}/{device}/{module}/?api-version={API}");
                let tls = trusting(&workload.trust_bundle()?)?;
                let credentials = Some((user, sas::token(&resource, expiry, &signature)));
                Ok(Login { credentials, tls: Some(tls), valid: RENEW })
            }
            Self::Device { connection, ca, .. } => {
                let ConnectionString { host, device, module, key } = connection;
                let (resource, user) = match module {
                    Some(module) => (
                        format!("{host}/devices/{device}/modules/{module}"),
                        format!("{host}/{device}/{module}/?api-version={API}"),
                    ),
                    None => {
                        (format!("{host}/devices/{device}"), format!("{host}/{device}/?api-version={API}"))
                    }
                };
                let signature = sas::sign(key, &sas::string_to_sign(&resource, expiry))?;
                let credentials = Some((user, sas::token(&resource, expiry, &signature)));
                Ok(Login { credentials, tls: Some(certificates(ca.as_ref())?), valid: RENEW })
            }
            Self::Plain { tls, ca, credentials, .. } => Ok(Login {
                credentials: credentials.clone(),
                tls: if *tls { Some(certificates(ca.as_ref())?) } else { None },
                valid: FOR_EVER,
            }),
        }
    }

    /// What the broker tells others when the device is gone.
    pub(super) fn last_will(&self) -> Option<(String, &'static str)> {
        match self {
            Self::Plain { prefix, .. } => Some((format!("{prefix}/availability"), "offline")),
            Self::Edge { .. } | Self::Device { .. } => None,
        }
    }

    /// Where the state goes that hubs take as reported properties.
    pub(super) fn status_topic(&self) -> Option<String> {
        match self {
            Self::Plain { prefix, .. } => Some(format!("{prefix}/status")),
            Self::Edge { .. } | Self::Device { .. } => None,
        }
    }

    /// What is said once after each connection, to be kept by the broker.
    pub(super) fn announcements(&self) -> Vec<(String, String)> {
        let Self::Plain { prefix, home_assistant, .. } = self else { return Vec::new() };
        let availability = format!("{prefix}/availability");
        let mut all = vec![(availability.clone(), "online".to_owned())];
        if *home_assistant {
            let id = format!("mynah_{}", prefix.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
            let device = json!({
                "identifiers": [id],
                "name": format!("Mynah {prefix}"),
                "manufacturer": "Mynah",
                "sw_version": env!("CARGO_PKG_VERSION"),
            });
            let sensor = |name: &str, topic: &str, template: &str, more: serde_json::Value| {
                let mut config = json!({
                    "name": name,
                    "unique_id": format!("{id}_{}", name.to_lowercase()),
                    "state_topic": format!("{prefix}/{topic}"),
                    "value_template": template,
                    "availability_topic": availability,
                    "device": device,
                });
                if let (Some(config), serde_json::Value::Object(more)) = (config.as_object_mut(), more) {
                    config.extend(more);
                }
                (format!("homeassistant/sensor/{id}/{}/config", name.to_lowercase()), config.to_string())
            };
            all.push(sensor(
                "Sees",
                "sighting",
                "{{ value_json.label | default('unknown') }}",
                json!({ "icon": "mdi:bird" }),
            ));
            all.push(sensor(
                "Certainty",
                "sighting",
                "{{ (value_json.probability * 100) | round(1) }}",
                json!({ "unit_of_measurement": "%", "state_class": "measurement" }),
            ));
            all.push(sensor(
                "Problem",
                "status",
                "{{ value_json.problem | default('none', true) }}",
                json!({}),
            ));
        }
        all
    }
}

/// TLS that trusts the certificates of a PEM file, or the machine's.
fn certificates(file: Option<&PathBuf>) -> io::Result<Arc<ClientConfig>> {
    if let Some(path) = file {
        let pem = std::fs::read(path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot read the certificates `{}`: {error}", path.display()),
            )
        })?;
        return trusting(&pem);
    }
    let found = rustls_native_certs::load_native_certs().certs;
    tls(found.into_iter(), "this machine trusts no certificates: name some with `hub-ca-file`")
}

/// TLS that trusts these certificates.
fn trusting(pem: &[u8]) -> io::Result<Arc<ClientConfig>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
    tls(certificates.into_iter(), "there is no certificate to trust")
}

fn tls(
    certificates: impl Iterator<Item = CertificateDer<'static>>,
    none: &'static str,
) -> io::Result<Arc<ClientConfig>> {
    web::install_provider();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(io::Error::other(none));
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(home_assistant: bool) -> Broker {
        Broker::Plain {
            host: "b".into(),
            port: 1883,
            tls: false,
            ca: None,
            credentials: None,
            prefix: "home/cam".into(),
            home_assistant,
        }
    }

    #[test]
    fn devices_sign_in_with_a_password_for_themselves_only() {
        let connection = ConnectionString::parse(
            "HostName=h.example;DeviceId=pi;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==",
        )
        .unwrap();
        let broker = Broker::Device { connection, ca: None, port: 8883 };
        assert_eq!((broker.client_id().as_str(), broker.name().as_str()), ("pi", "h.example:8883"));
        // This machine may trust nobody; the password does not depend on it.
        if let Ok(login) = broker.login() {
            let (user, password) = login.credentials.unwrap();
            assert_eq!(user, "h.example/pi/?api-version=2021-04-12");
            assert!(password.expose().starts_with("SharedAccessSignature sr=h.example%2Fdevices%2Fpi&sig="));
            assert!(login.valid < VALID);
        }
    }

    #[test]
    fn home_assistant_is_told_where_asked_for() {
        assert_eq!(plain(false).announcements(), [("home/cam/availability".into(), "online".into())]);
        let told = plain(true).announcements();
        assert_eq!(told.len(), 4);
        let config: serde_json::Value = serde_json::from_str(&told[1].1).unwrap();
        assert_eq!(told[1].0, "homeassistant/sensor/mynah_home_cam/sees/config");
        assert_eq!(
            (&config["state_topic"], &config["unique_id"]),
            (&"home/cam/sighting".into(), &"mynah_home_cam_sees".into())
        );
    }

    #[test]
    fn certificates_that_are_none_are_told() {
        assert_eq!(trusting(b"text").unwrap_err().to_string(), "there is no certificate to trust");
        let error = certificates(Some(&"/no/such.pem".into())).unwrap_err().to_string();
        assert!(error.contains("`/no/such.pem`"), "{error}");
    }
}
