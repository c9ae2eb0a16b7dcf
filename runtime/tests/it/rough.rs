//! What the world does to a device: pictures of every size, names that cannot be looked up, brokers that fall silent.

use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use mynah_contracts::{DeviceStatus, from_json};
use mynah_photo::{RgbImage, encode_jpeg};
use mynah_testkit::{BLUE, RED};

use crate::scene::{Run, Scene};

fn flat(colour: [u8; 3], width: u32, height: u32) -> Vec<u8> {
    let pixels = colour.repeat((width * height) as usize);
    encode_jpeg(&RgbImage::new(width, height, pixels).unwrap(), 90).unwrap()
}

#[test]
fn frames_of_changing_sizes_are_seen_and_those_too_small_told() {
    let scene = Scene::new(&[("1.jpg", RED)]);
    for (name, colour, width, height) in [
        ("2.jpg", BLUE, 1, 1),
        ("3.jpg", BLUE, 7680, 4320),
        ("4.jpg", RED, 3, 200),
        ("5.jpg", RED, 640, 480),
        ("6.jpg", BLUE, 16, 16),
    ] {
        std::fs::write(scene.path("frames").join(name), flat(colour, width, height)).unwrap();
    }
    let run = scene.run(&[("source", "dir:frames?hold=3")]);
    run.expect(0, &["unreadable frame `2.jpg`: the picture is 1 × 1 pixels", "unreadable frame `4.jpg`"]);
    assert_eq!(scene.heard(), ["001-red.wav", "002-blue.wav", "003-red.wav", "004-blue.wav"]);
    assert_eq!(scene.status().unreadable_frames, 2);
}

/// Waits until the status tells of a problem with these words; the device goes on meanwhile.
fn problem(scene: &Scene, mut child: Child, says: &str) {
    let status =
        || -> Option<DeviceStatus> { from_json(&std::fs::read(scene.path("status.json")).ok()?).ok() };
    let started = Instant::now();
    let found = loop {
        if let Some(status) = status()
            && status.problem.as_ref().is_some_and(|problem| problem.contains(says))
        {
            break status;
        }
        if started.elapsed() > Duration::from_mins(2) {
            let _ = child.kill();
            panic!("no such problem: {}", Run::of(child.wait_with_output().unwrap()).stderr);
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    while status().is_none_or(|status| status.frames <= found.frames) {
        assert!(started.elapsed() < Duration::from_mins(2), "frames are no longer looked at");
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    Run::of(child.wait_with_output().unwrap()).expect(-1, &["says: red"]);
}

#[test]
fn a_hub_that_cannot_be_found_or_falls_silent_is_a_problem_and_not_the_end() {
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("mqtt://{}", silent.local_addr().unwrap());
    for hub in ["mqtt://no-such-host.invalid", &address] {
        let scene = Scene::new(&[("1.jpg", RED)]);
        let settings = [("source", "dir:frames?hold=1000&fps=10"), ("hub", hub), ("votes", "1")];
        let child = scene.runtime(&settings).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        problem(&scene, child, "the hub `");
    }
}
