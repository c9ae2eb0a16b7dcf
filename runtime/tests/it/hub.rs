//! The hub, played by a real broker (mosquitto, TLS), a security daemon that signs, and a twin kept by a client.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use mynah_testkit::edge::{EdgeHub, Mosquitto, module_environment, security_daemon};
use mynah_testkit::{BLUE, GREEN, GREY, RED};
use serde_json::{Value, json};

use crate::scene::{Run, Scene};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A broker; `None`, said loudly, where there is none.
pub(crate) fn broker() -> Option<Mosquitto> {
    if let Some(program) = Mosquitto::missing() {
        let skipped = format!("SKIPPED: `{program}` is not installed, the hub was not played\n");
        std::io::stderr().write_all(skipped.as_bytes()).unwrap();
        return None;
    }
    Some(Mosquitto::start().unwrap())
}

/// A module of IoT Edge.
pub(crate) fn module(scene: &Scene, broker: &Mosquitto, changes: &[(&str, &str)]) -> Child {
    let socket = scene.path("workload.sock");
    if !socket.exists() {
        security_daemon(&socket, broker.authority().unwrap()).unwrap();
    }
    let port = broker.tls().to_string();
    let mut settings =
        vec![("hub", "edge"), ("hub-port", port.as_str()), ("votes", "1"), ("leave-frames", "1")];
    settings.extend(changes);
    scene
        .runtime(&settings)
        .envs(module_environment(&socket))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

pub(crate) fn end(mut child: Child) -> Run {
    child.kill().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    child.wait().unwrap();
    assert!(!stderr.contains("SharedAccessSignature"), "a password shows:\n{stderr}");
    Run { code: 0, stdout: String::new(), stderr }
}

#[test]
fn a_module_is_set_by_its_twin_and_answers_methods() {
    let Some(broker) = broker() else { return };
    let scene = Scene::new(&[("1.jpg", GREY)]);
    let desired = json!({ "votes": 99, "pause": 0.5, "$version": 3 });
    let hub = EdgeHub::of_module(&broker, desired).unwrap();
    let child = module(&scene, &broker, &[("source", "dir:frames?hold=1000&fps=20")]);

    let refused = hub.reported("votes").unwrap();
    assert_eq!((&refused["ac"], &refused["av"]), (&json!(400), &json!(3)));
    assert!(refused["ad"].as_str().unwrap().contains("from 1 to 5"), "{refused}");
    let (status, snapshot) = hub.call("snapshot", &Value::Null).unwrap();
    assert_eq!((status, snapshot["sighting"]["label"].is_null()), (200, true), "grey is unknown: {snapshot}");

    // Now grey is known, live.
    hub.desire(4, &json!({ "threshold": 0.1, "votes": 1 })).unwrap();
    let (topic, sighting) = hub.telemetry().unwrap();
    assert!(
        topic.ends_with("/messages/events/%24.on=output1&%24.ct=application%2Fjson&%24.ce=utf-8"),
        "{topic}"
    );
    assert!(sighting["said"].is_string() && sighting["model"].is_string() && sighting["time"].is_string());

    assert_eq!(hub.call("say", &json!({ "label": "blue" })).unwrap(), (200, json!({ "said": "blue" })));
    assert_eq!(hub.call("say", &json!({ "label": "violet" })).unwrap().0, 400);
    assert_eq!(hub.call("selfTest", &Value::Null).unwrap().1["ok"], true);
    assert_eq!(hub.call("reload", &Value::Null).unwrap().0, 200);
    assert_eq!(hub.call("getStatus", &Value::Null).unwrap().1["state"], "running");
    assert_eq!(hub.call("formatDisk", &Value::Null).unwrap().0, 404);
    end(child);
}

#[test]
fn the_hub_changes_the_language_while_the_device_runs() {
    let Some(broker) = broker() else { return };
    let scene = Scene::new(&[("1.jpg", GREY)]);
    std::fs::create_dir(scene.path("maps")).unwrap();
    let german = r#"{"voice": "de-DE-KatjaNeural", "default": "Das ist {label}"}"#;
    std::fs::write(scene.path("maps/german.json"), german).unwrap();
    let hub = EdgeHub::of_module(&broker, json!({ "$version": 1 })).unwrap();
    let child =
        module(&scene, &broker, &[("source", "dir:frames?hold=1000&fps=20"), ("speech-maps", "maps")]);
    // It listens now.
    hub.reported("status").unwrap();
    let say = || hub.call("say", &json!({ "label": "red" })).unwrap().1["said"].clone();
    assert_eq!(say(), "red");
    for (version, language, code, said) in [
        (2, json!("de"), 200, "Das ist red"),
        (3, json!("xx"), 400, "red"),
        (4, json!("de-DE"), 200, "Das ist red"),
    ] {
        hub.desire(version, &json!({ "language": language })).unwrap();
        let answer = loop {
            let answer = hub.reported("language").unwrap();
            if answer["av"] == version {
                break answer;
            }
        };
        assert_eq!(answer["ac"], code, "{answer}");
        assert_eq!(say(), said);
    }
    end(child);
}

#[test]
fn what_was_seen_while_the_hub_was_away_arrives_in_order() {
    let Some(mut broker) = broker() else { return };
    let names: Vec<String> = (0..40).map(|number| format!("{number}.jpg")).collect();
    let frames: Vec<_> = names
        .iter()
        .zip([RED, GREEN, BLUE].into_iter().cycle())
        .map(|(name, colour)| (name.as_str(), colour))
        .collect();
    let scene = Scene::new(&frames);
    let hub = EdgeHub::of_module(&broker, json!({ "$version": 1 })).unwrap();
    let settings = [("source", "dir:frames?hold=1&fps=8"), ("telemetry", "all")];
    let child = module(&scene, &broker, &settings);
    let frame = |topic: &str, body: &Value| {
        topic.starts_with("devices/pi/").then(|| body["frame"].as_u64()).flatten()
    };
    let mut arrived = Vec::new();
    while arrived.len() < 8 {
        arrived.push(hub.wait(frame).unwrap());
    }
    // The broker is gone for a while; then the device itself ends, before all is delivered.
    broker.down().unwrap();
    let run = Run::of(child.wait_with_output().unwrap());
    run.expect(0, &["connected to the hub"]);
    drop(hub);
    let waiting = std::fs::read_dir(scene.path("spool")).unwrap().count();
    assert!(waiting >= 1);

    broker.up().unwrap();
    let hub = EdgeHub::of_module(&broker, json!({ "$version": 1 })).unwrap();
    std::fs::write(scene.path("status.json"), "").unwrap();
    let again = module(&scene, &broker, &[("source", "dir:frames?hold=1000&fps=1"), ("telemetry", "said")]);
    while arrived.last() != Some(&39) {
        arrived.push(hub.wait(frame).unwrap());
    }
    end(again);
    // Each at least once, and never one before an earlier one was there.
    let mut first = arrived.clone();
    let mut seen = std::collections::BTreeSet::new();
    first.retain(|frame| seen.insert(*frame));
    assert_eq!(first, (0..40).collect::<Vec<_>>(), "{arrived:?}");
}

#[test]
fn sightings_go_out_together_and_the_last_ones_when_the_device_ends() {
    let Some(broker) = broker() else { return };
    let names: Vec<String> = (0..7).map(|number| format!("{number}.jpg")).collect();
    let frames: Vec<_> = names.iter().map(|name| (name.as_str(), RED)).collect();
    let scene = Scene::new(&frames);
    let hub = EdgeHub::of_module(&broker, json!({ "$version": 1 })).unwrap();
    let settings = [
        ("source", "dir:frames?hold=1&fps=2"),
        ("telemetry", "all"),
        ("telemetry-batch", "3"),
        ("telemetry-batch-wait", "3600"),
    ];
    let run = Run::of(module(&scene, &broker, &settings).wait_with_output().unwrap());
    run.expect(0, &["connected to the hub"]);
    let numbers = |body: &Value| -> Option<Vec<u64>> {
        body.as_array()?.iter().map(|sighting| sighting["frame"].as_u64()).collect()
    };
    let batch = |topic: &str, body: &Value| topic.starts_with("devices/pi/").then(|| numbers(body)).flatten();
    let arrived: Vec<Vec<u64>> = (0..3).map(|_| hub.wait(batch).unwrap()).collect();
    assert_eq!(arrived, [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
}

#[test]
fn a_plain_broker_and_home_assistant_hear_of_the_device() {
    let Some(broker) = broker() else { return };
    let scene = Scene::new(&[("1.jpg", RED)]);
    let hub = EdgeHub::of_topics(&broker, &["home/#", "homeassistant/#"]).unwrap();
    let address = format!("mqtt://127.0.0.1:{}", broker.plain());
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
    })
    .unwrap();
    end(child);
    hub.wait(|topic, _| (topic == "home/cam/availability").then_some(())).unwrap();
}

#[test]
fn a_hub_that_is_not_to_be_trusted_hears_nothing() {
    let Some(broker) = broker() else { return };
    let scene = Scene::new(&[("1.jpg", RED)]);
    // Another authority than the one that vouches for the broker.
    security_daemon(&scene.path("workload.sock"), broker.other_authority().unwrap()).unwrap();
    let hub = EdgeHub::of_module(&broker, json!({})).unwrap();
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
    assert_eq!(hub.next(Duration::ZERO), None);
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
