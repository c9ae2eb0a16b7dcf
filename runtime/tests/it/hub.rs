//! The hub, played by a real broker (mosquitto, TLS), a security daemon of ours that signs, and a twin kept by a client.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mynah_testkit::{BLUE, GREEN, GREY, RED};
use ring::hmac;
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::{Value, json};

use crate::scene::{Run, Scene};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_mins(1);
/// How many clients the tests have had.
static CLIENTS: AtomicUsize = AtomicUsize::new(0);
const KEY: &[u8] = b"the module's key";

/// Runs a program that must succeed.
fn run(folder: &Path, program: &str, arguments: &str) {
    let output = Command::new(program).args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A broker with one port for modules, encrypted, and one for the test.
struct Broker {
    child: Option<Child>,
    folder: tempfile::TempDir,
    tls: u16,
    plain: u16,
}

impl Broker {
    /// `None`, said loudly, where there is none.
    fn start() -> Option<Self> {
        for program in ["/usr/sbin/mosquitto", "/usr/bin/openssl"] {
            if !Path::new(program).exists() {
                let skipped = format!("SKIPPED: `{program}` is not installed, the hub was not played\n");
                std::io::stderr().write_all(skipped.as_bytes()).unwrap();
                return None;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        run(
            path,
            "openssl",
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 2",
        );
        run(
            path,
            "openssl",
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
        );
        std::fs::write(path.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
        run(
            path,
            "openssl",
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out server.pem -days 2",
        );
        let (tls, plain) = (free_port(), free_port());
        let text = format!(
            "per_listener_settings true\nlistener {tls} 127.0.0.1\nallow_anonymous true\ncertfile {0}/server.pem\n\
             keyfile {0}/server.key\nlistener {plain} 127.0.0.1\nallow_anonymous true\n",
            path.display()
        );
        std::fs::write(path.join("mosquitto.conf"), text).unwrap();
        // The broker gives its rights away and must still read its key.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            for (name, mode) in [(path.to_path_buf(), 0o755), (path.join("server.key"), 0o644)] {
                std::fs::set_permissions(name, std::fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        let mut broker = Self { child: None, folder, tls, plain };
        broker.up();
        Some(broker)
    }

    fn up(&mut self) {
        let child = Command::new("/usr/sbin/mosquitto")
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.plain)).is_err() {
            assert!(started.elapsed() < PATIENCE, "mosquitto did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.down();
    }
}

/// A client that keeps a twin, as a hub does, and hands on everything that is published.
struct HubDouble {
    client: Client,
    seen: Receiver<(String, Vec<u8>)>,
}

impl HubDouble {
    fn connect(broker: &Broker, topics: &[&str], desired: Option<Value>) -> Self {
        // A client that was dropped lingers, and a broker has one client of a name.
        let name = format!("hub-{}", CLIENTS.fetch_add(1, Ordering::Relaxed));
        let mut options = MqttOptions::new(name, "127.0.0.1", broker.plain);
        options.set_keep_alive(Duration::from_secs(5));
        let (client, mut connection) = Client::new(options, 64);
        for topic in topics {
            client.subscribe(*topic, QoS::AtLeastOnce).unwrap();
        }
        let (send, seen) = channel();
        let answers = client.clone();
        let (up, ready) = channel();
        let expected = topics.len();
        std::thread::spawn(move || {
            let mut subscribed = 0;
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        subscribed += 1;
                        if subscribed == expected {
                            let _ = up.send(());
                        }
                    }
                    Ok(Event::Incoming(Packet::Publish(message))) => {
                        let (topic, body) = (message.topic.clone(), message.payload.to_vec());
                        if let (Some(request), Some(desired)) =
                            (topic.strip_prefix("$iothub/twin/GET/?$rid="), &desired)
                        {
                            let twin = json!({ "desired": desired, "reported": {} }).to_string();
                            let to = format!("$iothub/twin/res/200/?$rid={request}");
                            answers.publish(to, QoS::AtMostOnce, false, twin).unwrap();
                        }
                        if send.send((topic, body)).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    // The broker is down; `iter` connects again.
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                }
            }
        });
        ready.recv_timeout(PATIENCE).unwrap();
        Self { client, seen }
    }

    /// The next message for which `find` gives something.
    #[track_caller]
    fn wait<T>(&self, mut find: impl FnMut(&str, &Value) -> Option<T>) -> T {
        let started = Instant::now();
        let mut passed = Vec::new();
        while started.elapsed() < PATIENCE {
            let Ok((topic, body)) = self.seen.recv_timeout(Duration::from_secs(1)) else { continue };
            let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
            if let Some(found) = find(&topic, &body) {
                return found;
            }
            passed.push(topic);
        }
        panic!("nothing of the kind came, only {passed:?}");
    }

    #[track_caller]
    fn reported(&self, property: &str) -> Value {
        self.wait(|topic, body| {
            topic
                .starts_with("$iothub/twin/PATCH/properties/reported/")
                .then(|| body.get(property).cloned())
                .flatten()
        })
    }

    #[track_caller]
    fn call(&self, name: &str, payload: &Value) -> (u16, Value) {
        let to = format!("$iothub/methods/POST/{name}/?$rid=r{name}");
        self.client.publish(to, QoS::AtMostOnce, false, payload.to_string()).unwrap();
        self.wait(|topic, body| {
            let (status, request) = topic.strip_prefix("$iothub/methods/res/")?.split_once("/?$rid=")?;
            (request == format!("r{name}")).then(|| (status.parse().unwrap(), body.clone()))
        })
    }
}

/// The security daemon: signs what it is given and trusts the broker's authority.
fn daemon(socket: &Path, ca: String) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = [0; 4096];
            let length = stream.read(&mut bytes).unwrap();
            let request = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let body = if request.starts_with("GET /trust-bundle?api-version=") {
                json!({ "certificate": ca })
            } else {
                assert!(request.starts_with("POST /modules/cam/genid/7/sign?"), "{request}");
                let asked: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
                let data = STANDARD.decode(asked["data"].as_str().unwrap()).unwrap();
                assert!(data.starts_with(b"hub.example%2Fdevices%2Fpi%2Fmodules%2Fcam\n"));
                let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);
                json!({ "digest": STANDARD.encode(hmac::sign(&key, &data)) })
            };
            let body = body.to_string();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
}

/// A module of IoT Edge that looks at `frames` pictures a second.
fn module(scene: &Scene, broker: &Broker, changes: &[(&str, &str)]) -> Child {
    let socket = scene.path("workload.sock");
    if !socket.exists() {
        daemon(&socket, std::fs::read_to_string(broker.folder.path().join("ca.pem")).unwrap());
    }
    let port = broker.tls.to_string();
    let mut settings =
        vec![("hub", "edge"), ("hub-port", port.as_str()), ("votes", "1"), ("leave-frames", "1")];
    settings.extend(changes);
    scene
        .runtime(&settings)
        .env("IOTEDGE_WORKLOADURI", format!("unix://{}", socket.display()))
        .env("IOTEDGE_APIVERSION", "2022-08-03")
        .env("IOTEDGE_GATEWAYHOSTNAME", "localhost")
        .env("IOTEDGE_IOTHUBHOSTNAME", "hub.example")
        .env("IOTEDGE_DEVICEID", "pi")
        .env("IOTEDGE_MODULEID", "cam")
        .env("IOTEDGE_MODULEGENERATIONID", "7")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn end(mut child: Child) -> Run {
    child.kill().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    child.wait().unwrap();
    assert!(!stderr.contains("SharedAccessSignature"), "a password shows:\n{stderr}");
    Run { code: 0, stdout: String::new(), stderr }
}

const EVENTS: &str = "devices/pi/modules/cam/messages/events/#";
const HUB_TOPICS: [&str; 4] =
    [EVENTS, "$iothub/twin/GET/#", "$iothub/twin/PATCH/properties/reported/#", "$iothub/methods/res/#"];

#[test]
fn a_module_is_set_by_its_twin_and_answers_methods() {
    let Some(broker) = Broker::start() else { return };
    let scene = Scene::new(&[("1.jpg", GREY)]);
    let desired = json!({ "votes": 99, "pause": 0.5, "$version": 3 });
    let hub = HubDouble::connect(&broker, &HUB_TOPICS, Some(desired));
    let child = module(&scene, &broker, &[("source", "dir:frames?hold=1000&fps=20")]);

    let refused = hub.reported("votes");
    assert_eq!((&refused["ac"], &refused["av"]), (&json!(400), &json!(3)));
    assert!(refused["ad"].as_str().unwrap().contains("from 1 to 5"), "{refused}");
    let (status, snapshot) = hub.call("snapshot", &Value::Null);
    assert_eq!((status, snapshot["sighting"]["label"].is_null()), (200, true), "grey is unknown: {snapshot}");

    // Now grey is known, live.
    let to = "$iothub/twin/PATCH/properties/desired/?$version=4";
    let patch = json!({ "threshold": 0.1, "votes": 1, "$version": 4 }).to_string();
    hub.client.publish(to, QoS::AtMostOnce, false, patch).unwrap();
    let (topic, sighting) =
        hub.wait(|topic, body| topic.starts_with("devices/pi/").then(|| (topic.to_owned(), body.clone())));
    assert!(
        topic.ends_with("/messages/events/%24.on=output1&%24.ct=application%2Fjson&%24.ce=utf-8"),
        "{topic}"
    );
    assert!(sighting["said"].is_string() && sighting["model"].is_string() && sighting["time"].is_string());

    assert_eq!(hub.call("say", &json!({ "label": "blue" })), (200, json!({ "said": "blue" })));
    assert_eq!(hub.call("say", &json!({ "label": "violet" })).0, 400);
    assert_eq!(hub.call("selfTest", &Value::Null).1["ok"], true);
    assert_eq!(hub.call("reload", &Value::Null).0, 200);
    assert_eq!(hub.call("getStatus", &Value::Null).1["state"], "running");
    assert_eq!(hub.call("formatDisk", &Value::Null).0, 404);
    end(child);
}

#[test]
fn what_was_seen_while_the_hub_was_away_arrives_in_order() {
    let Some(mut broker) = Broker::start() else { return };
    let names: Vec<String> = (0..40).map(|number| format!("{number}.jpg")).collect();
    let frames: Vec<_> = names
        .iter()
        .zip([RED, GREEN, BLUE].into_iter().cycle())
        .map(|(name, colour)| (name.as_str(), colour))
        .collect();
    let scene = Scene::new(&frames);
    let hub = HubDouble::connect(&broker, &HUB_TOPICS, Some(json!({ "$version": 1 })));
    let settings = [("source", "dir:frames?hold=1&fps=8"), ("telemetry", "all")];
    let child = module(&scene, &broker, &settings);
    let frame = |topic: &str, body: &Value| {
        topic.starts_with("devices/pi/").then(|| body["frame"].as_u64()).flatten()
    };
    let mut arrived = Vec::new();
    while arrived.len() < 8 {
        arrived.push(hub.wait(frame));
    }
    // The broker is gone for a while; then the device itself ends, before all is delivered.
    broker.down();
    let run = Run::of(child.wait_with_output().unwrap());
    run.expect(0, &["connected to the hub"]);
    drop(hub);
    let waiting = std::fs::read_dir(scene.path("spool")).unwrap().count();
    assert!(waiting >= 1);

    broker.up();
    let hub = HubDouble::connect(&broker, &HUB_TOPICS, Some(json!({ "$version": 1 })));
    std::fs::write(scene.path("status.json"), "").unwrap();
    let again = module(&scene, &broker, &[("source", "dir:frames?hold=1000&fps=1"), ("telemetry", "said")]);
    while arrived.last() != Some(&39) {
        arrived.push(hub.wait(frame));
    }
    end(again);
    // Each at least once, and never one before an earlier one was there.
    let mut first = arrived.clone();
    let mut seen = std::collections::BTreeSet::new();
    first.retain(|frame| seen.insert(*frame));
    assert_eq!(first, (0..40).collect::<Vec<_>>(), "{arrived:?}");
}

/// Serves the files of a folder over HTTP.
fn serve(folder: std::path::PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = [0; 4096];
            let length = stream.read(&mut bytes).unwrap();
            let request = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let content =
                std::fs::read(folder.join(request.split(' ').nth(1).unwrap().trim_start_matches('/')))
                    .unwrap();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
            let _ = stream.write_all(&[head.as_bytes(), &content].concat());
        }
    });
    address
}

#[test]
fn a_model_the_hub_desires_is_taken_up_while_the_device_runs() {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    let Some(broker) = Broker::start() else { return };
    let scene = Scene::new(&[("1.jpg", GREY)]);
    // The same network, surer of itself: now grey is something.
    let offered = scene.path("offered");
    mynah_testkit::tiny_model_package(&offered).unwrap();
    mynah_testkit::edit_card(&offered, |card| card.calibration.reject_threshold = 0.1).unwrap();
    let card = std::fs::read(offered.join("model.json")).unwrap();
    let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    std::fs::write(scene.path("keys"), STANDARD.encode(pair.public_key())).unwrap();
    let address = serve(offered);
    let model = |signature: &[u8]| {
        json!({
            "url": format!("{address}/model.json"),
            "sha256": mynah_contracts::Sha256Digest::of(&card).hex(),
            "signature": STANDARD.encode(signature),
        })
    };
    let settings = [
        ("source", "dir:frames?hold=1000&fps=20"),
        ("model-store", "models"),
        ("model-keys-file", "keys"),
        ("model-trial", "1"),
    ];
    let desired = json!({ "model": model(&[0; 64]), "$version": 1 });
    let hub = HubDouble::connect(&broker, &HUB_TOPICS, Some(desired));
    let child = module(&scene, &broker, &settings);
    let answer = |status: u16| {
        loop {
            let answer = hub.reported("model");
            if answer["ac"] == status {
                return answer;
            }
        }
    };
    assert!(answer(400)["ad"].as_str().unwrap().contains("signature"));
    let to = "$iothub/twin/PATCH/properties/desired/?$version=2";
    let patch = json!({ "model": model(pair.sign(&card).as_ref()), "$version": 2 }).to_string();
    hub.client.publish(to, QoS::AtMostOnce, false, patch).unwrap();
    hub.wait(|_, body| (body["model"]["ac"] == 200 && body["model"]["av"] == 2).then_some(()));
    // After its trial it is what the device begins with, whatever ends the device.
    let note = scene.path("models/models.json");
    let started = Instant::now();
    while serde_json::from_slice::<Value>(&std::fs::read(&note).unwrap()).unwrap()["trial"] != false {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
    end(child);
    let again = scene.run(&[("model-store", "models"), ("model-keys-file", "keys"), ("votes", "1")]);
    again.expect(0, &["threshold 0.10", "says: "]);
}

#[test]
fn a_plain_broker_and_home_assistant_hear_of_the_device() {
    let Some(broker) = Broker::start() else { return };
    let scene = Scene::new(&[("1.jpg", RED)]);
    let hub = HubDouble::connect(&broker, &["home/#", "homeassistant/#"], None);
    let address = format!("mqtt://127.0.0.1:{}", broker.plain);
    let settings = [
        ("source", "dir:frames?hold=1000&fps=5"),
        ("hub", &address),
        ("mqtt-topic", "home/cam"),
        ("home-assistant", "yes"),
        ("votes", "1"),
    ];
    let child = scene.runtime(&settings).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut wanted = std::collections::BTreeSet::from([
        "home/cam/availability",
        "home/cam/status",
        "home/cam/sighting",
        "homeassistant/sensor/mynah_home_cam/sees/config",
    ]);
    hub.wait(|topic, body| {
        if topic == "home/cam/sighting" {
            assert_eq!(body["label"], "red");
        }
        wanted.remove(topic);
        wanted.is_empty().then_some(())
    });
    end(child);
    hub.wait(|topic, _| (topic == "home/cam/availability").then_some(()));
}

#[test]
fn a_hub_that_is_not_to_be_trusted_hears_nothing() {
    let Some(broker) = Broker::start() else { return };
    let scene = Scene::new(&[("1.jpg", RED)]);
    // Another authority than the one that vouches for the broker.
    run(
        broker.folder.path(),
        "openssl",
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout other.key -out other.pem -subj /CN=other -days 2",
    );
    daemon(
        &scene.path("workload.sock"),
        std::fs::read_to_string(broker.folder.path().join("other.pem")).unwrap(),
    );
    let hub = HubDouble::connect(&broker, &HUB_TOPICS, None);
    let child = module(&scene, &broker, &[("source", "dir:frames?hold=1000&fps=20")]);
    let started = Instant::now();
    let problem = loop {
        let status = std::fs::read(scene.path("status.json")).ok();
        let status: Option<Value> = status.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(problem) = status.and_then(|status| Some(status["problem"].as_str()?.to_owned())) {
            break problem;
        }
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(problem.contains("the hub `localhost:") && problem.contains("ertificate"), "{problem}");
    end(child);
    assert!(hub.seen.try_recv().is_err());
}

#[test]
fn a_hub_that_cannot_be_told_from_the_settings_is_refused() {
    let scene = Scene::new(&[("1.jpg", RED)]);
    scene.run(&[("hub", "edge")]).expect(2, &["`IOTEDGE_WORKLOADURI` is missing", "hint: "]);
    scene.run(&[("hub", "device")]).expect(2, &["`hub-connection-file` is missing"]);
    std::fs::write(scene.path("connection"), "HostName=h;SharedAccessKey=geheim").unwrap();
    let run = scene.run(&[("hub", "device"), ("hub-connection-file", "connection")]);
    run.expect(2, &["is no connection string: it has no `DeviceId`"]);
    assert!(!run.stderr.contains("geheim"));
}
