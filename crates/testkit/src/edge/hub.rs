//! The hub, played by a client of the broker: keeps a twin, calls methods, and hands on everything that is published.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};
use serde_json::{Map, Value, json};

use super::{DEVICE, MODULE, Mosquitto};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// How many hubs there have been: a broker has one client of a name.
static HUBS: AtomicUsize = AtomicUsize::new(0);

type Message = (String, Vec<u8>);
/// The desired properties; `None` = there is no twin to give.
type Twin = Arc<Mutex<Option<Map<String, Value>>>>;

/// The hub. What is published while it is away from the broker waits for it there.
pub struct EdgeHub {
    client: Client,
    seen: Receiver<Message>,
    twin: Twin,
}

impl EdgeHub {
    /// Listens to a module, with these desired properties.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn of_module(broker: &Mosquitto, desired: Value) -> Result<Self> {
        let events = format!("devices/{DEVICE}/modules/{MODULE}/messages/events/#");
        let topics = [
            events.as_str(),
            "$iothub/twin/GET/#",
            "$iothub/twin/PATCH/properties/reported/#",
            "$iothub/methods/res/#",
        ];
        let Value::Object(desired) = desired else { bail!("desired properties are an object") };
        Self::connect(broker, &topics, Some(desired))
    }

    /// Listens to these topics and has no twin.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn of_topics(broker: &Mosquitto, topics: &[&str]) -> Result<Self> {
        Self::connect(broker, topics, None)
    }

    fn connect(broker: &Mosquitto, topics: &[&str], desired: Option<Map<String, Value>>) -> Result<Self> {
        let name = format!("hub-{}", HUBS.fetch_add(1, Ordering::Relaxed));
        let mut options = MqttOptions::new(name, "127.0.0.1", broker.plain());
        options.set_keep_alive(Duration::from_secs(5)).set_clean_session(false);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, connection) = Client::new(options, 256);
        for topic in topics {
            client.subscribe(*topic, QoS::AtLeastOnce)?;
        }
        let twin = Arc::new(Mutex::new(desired));
        let (send, seen) = channel();
        let (up, ready) = channel();
        let listener = Listener { client: client.clone(), twin: twin.clone(), expected: topics.len(), up };
        std::thread::Builder::new()
            .name("hub double".into())
            .spawn(move || listener.listen(connection, |message| send.send(message).is_ok()))?;
        ready.recv_timeout(PATIENCE).context("the broker takes no subscriptions")?;
        Ok(Self { client, seen, twin })
    }

    /// Changes desired properties: those that are connected are told, those that come later find them.
    ///
    /// # Errors
    /// The broker is not there to be told.
    pub fn desire(&self, version: i64, properties: &Value) -> Result<()> {
        let mut patch = properties.as_object().context("desired properties are an object")?.clone();
        patch.insert("$version".into(), version.into());
        if let Some(desired) = &mut *self.twin.lock().unwrap_or_else(PoisonError::into_inner) {
            desired.extend(patch.clone());
        }
        let to = format!("$iothub/twin/PATCH/properties/desired/?$version={version}");
        Ok(self.client.publish(to, QoS::AtMostOnce, false, Value::Object(patch).to_string())?)
    }

    /// The next message, if one comes in time.
    pub fn next(&self, within: Duration) -> Option<(String, Value)> {
        let (topic, body) = self.seen.recv_timeout(within).ok()?;
        Some((topic, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// The next message for which `find` gives something.
    ///
    /// # Errors
    /// None comes within a minute.
    pub fn wait<T>(&self, mut find: impl FnMut(&str, &Value) -> Option<T>) -> Result<T> {
        let started = Instant::now();
        let mut passed = Vec::new();
        while started.elapsed() < PATIENCE {
            let Some((topic, body)) = self.next(Duration::from_secs(1)) else { continue };
            if let Some(found) = find(&topic, &body) {
                return Ok(found);
            }
            passed.push(topic);
        }
        bail!("nothing of the kind came, only {passed:?}")
    }

    /// The next message to the module's output.
    ///
    /// # Errors
    /// None comes within a minute.
    pub fn telemetry(&self) -> Result<(String, Value)> {
        self.wait(|topic, body| is_telemetry(topic).then(|| (topic.to_owned(), body.clone())))
    }

    /// What is next reported of a property.
    ///
    /// # Errors
    /// Nothing is within a minute.
    pub fn reported(&self, property: &str) -> Result<Value> {
        self.wait(|topic, body| reported(topic, body, property))
    }

    /// Calls a direct method and gives its status and answer.
    ///
    /// # Errors
    /// It is not answered within a minute.
    pub fn call(&self, name: &str, payload: &Value) -> Result<(u16, Value)> {
        let to = format!("$iothub/methods/POST/{name}/?$rid=r{name}");
        self.client.publish(to, QoS::AtMostOnce, false, payload.to_string())?;
        self.wait(|topic, body| {
            let (status, request) = topic.strip_prefix("$iothub/methods/res/")?.split_once("/?$rid=")?;
            (request == format!("r{name}")).then(|| Some((status.parse().ok()?, body.clone()))).flatten()
        })
    }
}

/// Whether this is a module's telemetry.
pub fn is_telemetry(topic: &str) -> bool {
    topic.starts_with("devices/")
}

/// What a message reports of a property, if anything.
pub fn reported(topic: &str, body: &Value, property: &str) -> Option<Value> {
    topic
        .starts_with("$iothub/twin/PATCH/properties/reported/")
        .then(|| body.get(property).cloned())
        .flatten()
}

/// The end of the connection that answers.
struct Listener {
    client: Client,
    twin: Twin,
    expected: usize,
    up: std::sync::mpsc::Sender<()>,
}

impl Listener {
    /// Until nobody listens any more.
    fn listen(&self, mut connection: Connection, hand_on: impl Fn(Message) -> bool) {
        let mut subscribed = 0;
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Packet::SubAck(_))) => {
                    subscribed += 1;
                    if subscribed == self.expected {
                        // Only the first connection is waited for.
                        let _ = self.up.send(());
                    }
                }
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    self.give_twin(&message.topic);
                    if !hand_on((message.topic.clone(), message.payload.to_vec())) {
                        return;
                    }
                }
                Ok(_) => {}
                // The broker is down; the next turn connects again.
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn give_twin(&self, topic: &str) {
        let twin = self.twin.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Some(request), Some(desired)) = (topic.strip_prefix("$iothub/twin/GET/?$rid="), twin) {
            let answer = json!({ "desired": desired, "reported": {} }).to_string();
            let to = format!("$iothub/twin/res/200/?$rid={request}");
            // Where there is no room, whoever asked asks again.
            let _ = self.client.try_publish(to, QoS::AtMostOnce, false, answer);
        }
    }
}
