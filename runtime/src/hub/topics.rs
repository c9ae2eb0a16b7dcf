//! The topics of IoT Hub and Edge Hub (MQTT 3.1.1), and those of a plain broker. Pure.

use super::sas::quote;

/// Subscribed to for the twin and direct methods.
pub(super) const SUBSCRIPTIONS: [&str; 3] =
    ["$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#", "$iothub/methods/POST/#"];

/// Who publishes, and to what kind of broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Speaker {
    /// A module, to Edge Hub: telemetry goes to this output.
    Module { device: String, module: String, output: String },
    /// A device, to IoT Hub.
    Device { device: String },
    /// A plain broker: topics below this prefix.
    Plain { prefix: String },
}

impl Speaker {
    /// Where telemetry goes.
    pub(super) fn telemetry(&self) -> String {
        const JSON: &str = "%24.ct=application%2Fjson&%24.ce=utf-8";
        match self {
            Self::Module { device, module, output } => {
                format!("devices/{device}/modules/{module}/messages/events/%24.on={}&{JSON}", quote(output))
            }
            Self::Device { device } => format!("devices/{device}/messages/events/{JSON}"),
            Self::Plain { prefix } => format!("{prefix}/sighting"),
        }
    }

    /// Whether it has a twin and direct methods.
    pub(super) fn has_twin(&self) -> bool {
        !matches!(self, Self::Plain { .. })
    }
}

/// What came in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Incoming<'a> {
    /// The answer to a request about the twin.
    TwinAnswer { status: u16, request: &'a str },
    /// Desired properties changed.
    Desired,
    /// A direct method was called.
    Method { name: &'a str, request: &'a str },
    /// Something else.
    Other,
}

impl<'a> Incoming<'a> {
    /// What a topic says.
    pub(super) fn of(topic: &'a str) -> Self {
        let read = || {
            if let Some(rest) = topic.strip_prefix("$iothub/twin/res/") {
                let (status, bag) = rest.split_once('/')?;
                return Some(Self::TwinAnswer {
                    status: status.parse().ok()?,
                    request: property(bag, "$rid")?,
                });
            }
            if topic.starts_with("$iothub/twin/PATCH/properties/desired/") {
                return Some(Self::Desired);
            }
            let (name, bag) = topic.strip_prefix("$iothub/methods/POST/")?.split_once('/')?;
            Some(Self::Method { name, request: property(bag, "$rid")? })
        };
        read().unwrap_or(Self::Other)
    }
}

/// A property of the bag at a topic's end, such as `?$rid=1&$version=2`.
fn property<'a>(bag: &'a str, name: &str) -> Option<&'a str> {
    bag.trim_start_matches('?').split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Asks for the twin.
pub(super) fn twin_get(request: u64) -> String {
    format!("$iothub/twin/GET/?$rid={request}")
}

/// Reports properties.
pub(super) fn twin_report(request: u64) -> String {
    format!("$iothub/twin/PATCH/properties/reported/?$rid={request}")
}

/// Answers a direct method.
pub(super) fn method_answer(status: u16, request: &str) -> String {
    format!("$iothub/methods/res/{status}/?$rid={request}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn telemetry_goes_where_each_kind_of_broker_expects_it() {
        let module = Speaker::Module { device: "pi".into(), module: "cam".into(), output: "out 1".into() };
        assert_eq!(
            module.telemetry(),
            "devices/pi/modules/cam/messages/events/%24.on=out%201&%24.ct=application%2Fjson&%24.ce=utf-8"
        );
        let device = Speaker::Device { device: "pi".into() };
        assert_eq!(device.telemetry(), "devices/pi/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8");
        assert_eq!(Speaker::Plain { prefix: "home/cam".into() }.telemetry(), "home/cam/sighting");
    }

    #[test]
    fn topics_are_understood() {
        for (topic, meaning) in [
            ("$iothub/twin/res/200/?$rid=7", Incoming::TwinAnswer { status: 200, request: "7" }),
            ("$iothub/twin/res/204/?$rid=7&$version=3", Incoming::TwinAnswer { status: 204, request: "7" }),
            ("$iothub/twin/PATCH/properties/desired/?$version=4", Incoming::Desired),
            ("$iothub/methods/POST/say/?$rid=ab", Incoming::Method { name: "say", request: "ab" }),
            ("$iothub/methods/POST/say/", Incoming::Other),
            ("$iothub/twin/res/x/?$rid=7", Incoming::Other),
            ("a/b", Incoming::Other),
        ] {
            assert_eq!(Incoming::of(topic), meaning, "{topic}");
        }
    }

    proptest! {
        #[test]
        fn any_topic_is_understood_or_left_alone(topic in "(\\$iothub/)?(twin/res/|methods/POST/)?.{0,20}") {
            Incoming::of(&topic);
        }
    }
}
