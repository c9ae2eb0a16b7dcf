//! One connection to the broker after another: what waits in the spool goes out in order, what comes in is handed on.
//!
//! Each connection is made anew, with a fresh password, and begins with the oldest message that was not acknowledged.
//! A message leaves the spool only when the broker has it.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rumqttc::{
    AsyncClient, ClientError, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions,
    Outgoing, Packet, QoS, Transport,
};
use serde_json::{Map, Value};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::batch::Batching;
use super::broker::{Broker, Login};
use super::spool::Spool;
use super::topics::{self, Incoming};
use super::twin;
use super::{Command, Report};
use crate::clock::TimeSetting;

/// How many messages are on their way at once.
const IN_FLIGHT: usize = 16;
/// The first wait after a failure, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// A broker that has not acknowledged for this long is silent.
const SILENT: Duration = Duration::from_secs(30);
/// How often the spool is looked at without being told.
const LOOK: Duration = Duration::from_secs(1);
/// Within what time a direct method is answered; callers wait for 30 s.
const METHOD_TIME: Duration = Duration::from_secs(25);
/// The largest packet, in bytes.
const MAX_PACKET: usize = 512 << 10;

/// What the device's loop and the session share.
pub(super) struct Shared {
    pub(super) spool: Mutex<Spool>,
    pub(super) batching: Batching,
    /// The device ends: nothing waits for others any more.
    pub(super) ending: AtomicBool,
    /// Something was put into the spool or the report.
    pub(super) news: Notify,
    pub(super) report: Mutex<Report>,
    pub(super) connected: AtomicBool,
    pub(super) problem: Mutex<Option<String>>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("cannot sign in")]
    Login(#[from] std::io::Error),
    #[error("the broker refuses: {0:?}")]
    Refused(ConnectReturnCode),
    #[error("the connection failed")]
    Connection(#[source] Box<ConnectionError>),
    #[error("the connection cannot take a message")]
    Client(#[source] Box<ClientError>),
    #[error("the broker has acknowledged nothing for {} s", SILENT.as_secs())]
    Silent,
}

impl From<ConnectionError> for SessionError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ConnectionRefused(code) => Self::Refused(code),
            error => Self::Connection(Box::new(error)),
        }
    }
}

impl From<ClientError> for SessionError {
    fn from(error: ClientError) -> Self {
        Self::Client(Box::new(error))
    }
}

/// Connects for ever, until the device's loop has ended.
pub(super) async fn run(broker: Broker, shared: Arc<Shared>, commands: mpsc::UnboundedSender<Command>) {
    let mut wait = FIRST_WAIT;
    while !commands.is_closed() {
        let ended = connection(&broker, &shared, &commands, &mut wait).await;
        shared.connected.store(false, Ordering::Relaxed);
        match ended {
            // The password runs out: a new connection at once.
            Ok(()) => continue,
            Err(error) => {
                let problem =
                    format!("the hub `{}`: {}", broker.name(), mynah_contracts::error_chain(&error));
                let mut known = shared.problem.lock().unwrap_or_else(PoisonError::into_inner);
                if known.as_ref() != Some(&problem) {
                    tracing::warn!("{problem}");
                    *known = Some(problem);
                }
            }
        }
        // So that a fleet does not come back all at once.
        let jitter = RandomState::new().hash_one(wait) % 500;
        back_off(wait + wait.mul_f64(jitter as f64 / 1000.0)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Waits, but no longer once the time of day was set: a hub refuses passwords and a device refuses certificates of another
/// time, and a machine without a clock learns the time when the network is there.
async fn back_off(wait: Duration) {
    let started = Instant::now();
    let mut setting = TimeSetting::new(jiff::Timestamp::now(), Duration::ZERO);
    while started.elapsed() < wait && setting.look(jiff::Timestamp::now(), started.elapsed()).is_none() {
        tokio::time::sleep(LOOK.min(wait.saturating_sub(started.elapsed()))).await;
    }
}

fn options(broker: &Broker, login: &Login) -> MqttOptions {
    let mut options = MqttOptions::new(broker.client_id(), broker.host(), broker.port());
    options.set_keep_alive(Duration::from_secs(30));
    options.set_clean_session(true);
    options.set_max_packet_size(MAX_PACKET, MAX_PACKET);
    options.set_inflight(IN_FLIGHT as u16);
    if let Some((user, password)) = &login.credentials {
        options.set_credentials(user, password.expose());
    }
    if let Some(tls) = &login.tls {
        options.set_transport(Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(tls.clone())));
    }
    if let Some((topic, gone)) = broker.last_will() {
        options.set_last_will(LastWill::new(topic, gone, QoS::AtLeastOnce, true));
    }
    options
}

/// A message on its way.
struct Sent {
    /// The numbers of the first and the last that it holds.
    first: u64,
    last: u64,
    /// The packet it went in, once it is known.
    packet: Option<u16>,
}

/// What one connection knows.
struct Connection<'a> {
    broker: &'a Broker,
    shared: &'a Shared,
    client: AsyncClient,
    commands: &'a mpsc::UnboundedSender<Command>,
    /// Messages on their way, oldest first.
    on_the_way: VecDeque<Sent>,
    /// The number of the message that goes next.
    next: u64,
    /// Since when something waits that may go out with what follows it.
    waiting_since: Option<Instant>,
    requests: u64,
    /// The request for the whole twin, while its answer is awaited.
    twin_request: Option<u64>,
    desired: Option<Map<String, Value>>,
    moved: Instant,
}

async fn connection(
    broker: &Broker,
    shared: &Shared,
    commands: &mpsc::UnboundedSender<Command>,
    wait: &mut Duration,
) -> Result<(), SessionError> {
    let signing = broker.clone();
    let login = tokio::task::spawn_blocking(move || signing.login())
        .await
        .unwrap_or_else(|_| Err(std::io::Error::other("signing failed")))?;
    let (client, events) = AsyncClient::new(options(broker, &login), IN_FLIGHT * 2 + 16);
    let (mut events, _worker) = spawn(events);
    let mut connection = Connection {
        broker,
        shared,
        client,
        commands,
        on_the_way: VecDeque::new(),
        next: 0,
        waiting_since: None,
        requests: 0,
        twin_request: None,
        desired: None,
        moved: Instant::now(),
    };
    let (answers, mut answered) = mpsc::unbounded_channel();
    let renew = tokio::time::sleep(login.valid);
    tokio::pin!(renew);
    let mut up = false;
    loop {
        tokio::select! {
            event = events.recv() => {
                match event.unwrap_or(Err(ConnectionError::RequestsDone))? {
                    Event::Incoming(Packet::ConnAck(_)) => {
                        up = true;
                        *wait = FIRST_WAIT;
                        shared.connected.store(true, Ordering::Relaxed);
                        *shared.problem.lock().unwrap_or_else(PoisonError::into_inner) = None;
                        tracing::info!("connected to the hub `{}`", broker.name());
                        connection.greet().await?;
                    }
                    event => connection.event(event, &answers),
                }
            }
            Some((topic, body)) = answered.recv() => {
                connection.client.try_publish(topic, QoS::AtMostOnce, false, body)?;
            }
            () = shared.news.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
            () = &mut renew => {
                // What is on its way is sent again by the next connection.
                let _ = connection.client.try_disconnect();
                tokio::time::sleep(LOOK).await;
                return Ok(());
            }
        }
        if commands.is_closed() {
            return Ok(());
        }
        if up {
            connection.send()?;
            connection.report()?;
            if !connection.on_the_way.is_empty() && connection.moved.elapsed() > SILENT {
                return Err(SessionError::Silent);
            }
        }
    }
}

/// The end of the task with its owner.
struct Worker(tokio::task::JoinHandle<()>);

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs the event loop on a task of its own: it loses what it was doing when it is not waited for to the end.
fn spawn(mut events: EventLoop) -> (mpsc::Receiver<Result<Event, ConnectionError>>, Worker) {
    let (send, receive) = mpsc::channel(IN_FLIGHT * 4);
    let worker = tokio::spawn(async move {
        loop {
            let event = events.poll().await;
            let failed = event.is_err();
            if send.send(event).await.is_err() || failed {
                return;
            }
        }
    });
    (receive, Worker(worker))
}

impl Connection<'_> {
    /// Asks for what a new connection must know.
    async fn greet(&mut self) -> Result<(), SessionError> {
        if self.broker.speaker().has_twin() {
            for topic in topics::SUBSCRIPTIONS {
                self.client.subscribe(topic, QoS::AtMostOnce).await?;
            }
            self.requests += 1;
            self.twin_request = Some(self.requests);
            self.client.try_publish(topics::twin_get(self.requests), QoS::AtMostOnce, false, "")?;
        }
        for (topic, body) in self.broker.announcements() {
            self.client.try_publish(topic, QoS::AtMostOnce, true, body)?;
        }
        // A broker that forgot what was reported is told all of it.
        self.shared.report.lock().unwrap_or_else(PoisonError::into_inner).forget();
        Ok(())
    }

    /// Sends what waits, as far as it may be on its way.
    fn send(&mut self) -> Result<(), SessionError> {
        let room = IN_FLIGHT.saturating_sub(self.on_the_way.len());
        let batching = self.shared.batching;
        let ending = self.shared.ending.load(Ordering::Relaxed);
        let waited = self.waiting_since.map_or(Duration::ZERO, |since| since.elapsed());
        let (waiting, unsent) = {
            let mut spool = self.shared.spool.lock().unwrap_or_else(PoisonError::into_inner);
            spool.write_down();
            spool.sync()?;
            let unsent = spool.unsent(self.next);
            let due = room > 0 && (ending || batching.is_due(unsent, waited));
            let most = room * usize::from(batching.most);
            (if due { spool.read(self.next, most)? } else { Vec::new() }, unsent)
        };
        let batches = batching.join(waiting, room, ending || waited >= batching.wait);
        if unsent == 0 || !batches.is_empty() {
            self.waiting_since = None;
        } else if self.waiting_since.is_none() {
            self.waiting_since = Some(Instant::now());
        }
        for batch in batches {
            if self.on_the_way.is_empty() {
                self.moved = Instant::now();
            }
            let topic = self.broker.speaker().telemetry();
            self.client.try_publish(topic, QoS::AtLeastOnce, false, batch.body)?;
            self.on_the_way.push_back(Sent { first: batch.first, last: batch.last, packet: None });
            self.next = batch.last + 1;
        }
        Ok(())
    }

    /// Reports what changed.
    fn report(&mut self) -> Result<(), SessionError> {
        let Some(mut changes) = self.shared.report.lock().unwrap_or_else(PoisonError::into_inner).take()
        else {
            return Ok(());
        };
        let (topic, body, keep) = if let Some(topic) = self.broker.status_topic() {
            let Some(status) = changes.remove("status") else { return Ok(()) };
            (topic, status, true)
        } else {
            self.requests += 1;
            (topics::twin_report(self.requests), Value::Object(changes), false)
        };
        Ok(self.client.try_publish(topic, QoS::AtMostOnce, keep, body.to_string())?)
    }

    fn event(&mut self, event: Event, answers: &mpsc::UnboundedSender<(String, String)>) {
        match event {
            // Only messages of the spool are acknowledged, and they leave in the order they were given.
            Event::Outgoing(Outgoing::Publish(packet)) if packet != 0 => {
                if let Some(sent) = self.on_the_way.iter_mut().find(|sent| sent.packet.is_none()) {
                    sent.packet = Some(packet);
                }
            }
            Event::Incoming(Packet::PubAck(acknowledged)) => {
                self.moved = Instant::now();
                let of_this = |sent: &Sent| sent.packet == Some(acknowledged.pkid);
                if let Some(at) = self.on_the_way.iter().position(of_this)
                    && let Some(sent) = self.on_the_way.remove(at)
                    // Brokers acknowledge in order; should one not, the earlier messages stay until theirs comes.
                    && at == 0
                {
                    let before_next = |next: &Sent| next.first.saturating_sub(1);
                    let delivered = self.on_the_way.front().map_or(sent.last, before_next).max(sent.last);
                    self.shared.spool.lock().unwrap_or_else(PoisonError::into_inner).delivered(delivered);
                }
            }
            Event::Incoming(Packet::Publish(message)) => {
                self.message(&message.topic, &message.payload, answers);
            }
            _ => {}
        }
    }

    fn message(&mut self, topic: &str, body: &[u8], answers: &mpsc::UnboundedSender<(String, String)>) {
        match Incoming::of(topic) {
            Incoming::TwinAnswer { status, request } => {
                if self.twin_request.map(|request| request.to_string()).as_deref() != Some(request) {
                    if status >= 300 {
                        tracing::warn!("the hub answers a report with {status}");
                    }
                    return;
                }
                self.twin_request = None;
                let twin = serde_json::from_slice::<Value>(body).ok().filter(|_| status == 200);
                if let Some(desired) = twin.as_ref().and_then(|twin| twin.get("desired")?.as_object()) {
                    self.desired = Some(desired.clone());
                    self.hand_on();
                } else {
                    tracing::warn!("the hub gives no twin ({status}): settings stay as they are");
                }
            }
            Incoming::Desired => match (serde_json::from_slice::<Value>(body), &mut self.desired) {
                (Ok(Value::Object(patch)), Some(desired)) => {
                    twin::merge(desired, patch);
                    self.hand_on();
                }
                // The whole twin is on its way and holds the patch.
                (Ok(Value::Object(_)), None) => {}
                _ => tracing::warn!("the hub sends desired properties that are no JSON object"),
            },
            Incoming::Method { name, request } => self.method(name, request, body, answers),
            Incoming::Other => tracing::debug!("nobody asked for the topic `{}`", topic.escape_debug()),
        }
    }

    fn hand_on(&self) {
        if let Some(desired) = &self.desired {
            // A device that has ended needs no settings.
            let _ = self.commands.send(Command::Desired(desired.clone()));
        }
    }

    /// Has the device's loop carry out a method and answers once it has.
    fn method(
        &self,
        name: &str,
        request: &str,
        body: &[u8],
        answers: &mpsc::UnboundedSender<(String, String)>,
    ) {
        let (reply, replied) = oneshot::channel();
        let payload = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(body) };
        let (request, answers) = (request.to_owned(), answers.clone());
        let send = move |status: u16, body: &Value| {
            // A connection that ended has nobody to answer.
            let _ = answers.send((topics::method_answer(status, &request), body.to_string()));
        };
        let Ok(payload) = payload else {
            send(400, &serde_json::json!({ "error": "the payload is not JSON" }));
            return;
        };
        let _ = self.commands.send(Command::Method { name: name.to_owned(), payload, reply });
        tokio::spawn(async move {
            match tokio::time::timeout(METHOD_TIME, replied).await {
                Ok(Ok((status, body))) => send(status, &body),
                _ => send(504, &serde_json::json!({ "error": "the device did not answer in time" })),
            }
        });
    }
}
