//! Being asked to stop: the frame at hand is finished, what was promised is written, the code tells who asked.

#![cfg(unix)]

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use mynah_contracts::{DeviceState, DeviceStatus, from_json};
use mynah_testkit::RED;

use crate::scene::{Run, Scene};

/// Starts a run of ten minutes and waits until it has seen a frame.
fn running(scene: &Scene) -> Child {
    let child = scene
        .runtime(&[("source", "dir:frames?hold=600&fps=1"), ("votes", "1")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    for _ in 0..3000 {
        let status: Option<DeviceStatus> =
            std::fs::read(scene.path("status.json")).ok().and_then(|bytes| from_json(&bytes).ok());
        if status.is_some_and(|status| status.state == DeviceState::Running)
            && std::fs::read(scene.path("sightings.jsonl")).is_ok_and(|lines| !lines.is_empty())
        {
            return child;
        }
        sleep(Duration::from_millis(10));
    }
    panic!("the runtime did not start: {}", Run::of(child.wait_with_output().unwrap()).stderr);
}

fn signal(child: &Child, name: &str) {
    assert!(
        Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap().success()
    );
}

#[test]
fn sigterm_ends_in_good_order_and_sigint_is_a_cancellation() {
    for (name, code) in [("TERM", 0), ("INT", 130)] {
        let scene = Scene::new(&[("1.jpg", RED)]);
        let child = running(&scene);
        signal(&child, name);
        let run = Run::of(child.wait_with_output().unwrap());
        run.expect(code, &["says: red", &format!("stopped by SIG{name}")]);
        let (status, sightings) = (scene.status(), scene.sightings());
        assert_eq!(status.state, DeviceState::Finished);
        assert_eq!(status.problem, Some(format!("stopped by SIG{name}")));
        assert_eq!((status.frames, status.utterances), (sightings.len() as u64, 1));
        assert_eq!(scene.heard(), ["001-red.wav"]);
    }
}

#[test]
fn what_is_being_said_is_said_to_its_end() {
    let scene = Scene::new(&[("1.jpg", RED)]);
    let script = "touch begun; while [ ! -e go ]; do sleep 0.05; done; touch said";
    std::fs::write(scene.path("play.sh"), script).unwrap();
    let settings =
        [("source", "dir:frames?hold=1000&fps=20"), ("speaker", "command:sh play.sh"), ("votes", "1")];
    let child = scene.runtime(&settings).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let wait = |what: &dyn Fn() -> bool| {
        for _ in 0..6000 {
            if what() {
                return;
            }
            sleep(Duration::from_millis(10));
        }
        panic!("it did not happen: {:?}", scene.status());
    };
    wait(&|| scene.path("begun").exists());
    signal(&child, "TERM");
    wait(&|| scene.status().state == DeviceState::Busy);
    std::fs::write(scene.path("go"), "").unwrap();
    Run::of(child.wait_with_output().unwrap()).expect(0, &["says: red"]);
    assert!(scene.path("said").exists());
    assert_eq!(scene.status().state, DeviceState::Finished);
}

#[test]
fn sighup_has_the_settings_read_again() {
    let scene = Scene::new(&[("1.jpg", RED)]);
    std::fs::write(scene.path("mynah.conf"), "reset-labels = red\nvotes = 1\n").unwrap();
    let changes = [("source", "dir:frames?hold=1000&fps=20"), ("config", "mynah.conf")];
    let child = scene.runtime(&changes).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let sightings = || std::fs::read_to_string(scene.path("sightings.jsonl")).unwrap_or_default();
    let wait = |what: &dyn Fn() -> bool| {
        for _ in 0..3000 {
            if what() {
                return;
            }
            sleep(Duration::from_millis(10));
        }
        panic!("it did not happen:\n{}", sightings());
    };
    wait(&|| sightings().lines().count() > 3);
    assert!(scene.heard().is_empty());
    // What cannot be used changes nothing.
    std::fs::write(scene.path("mynah.conf"), "votes = many\n").unwrap();
    signal(&child, "HUP");
    sleep(Duration::from_millis(300));
    std::fs::write(scene.path("mynah.conf"), "votes = 1\n").unwrap();
    signal(&child, "HUP");
    wait(&|| !scene.heard().is_empty());
    signal(&child, "TERM");
    let run = Run::of(child.wait_with_output().unwrap());
    run.expect(
        0,
        &[
            "settings stay as they are: the setting `votes` is `many` (file)",
            "changed: reset-labels",
            "says: red",
        ],
    );
}
