//! What the world does to a device: pictures of every size, names that cannot be looked up, brokers that fall silent.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mynah_contracts::{DeviceStatus, Sighting, from_json};
use mynah_photo::{RgbImage, encode_jpeg};
use mynah_testkit::{BLUE, RED};

use crate::scene::{Run, Scene, sightings};

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

/// Resident memory in KiB.
fn resident(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_camera_faster_than_the_device_is_seen_as_it_is_now_and_fills_no_memory() {
    let scene = Scene::new(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("http://{}/", listener.local_addr().unwrap());
    // Each frame has as many bytes as a large picture, in comments.
    let frame = |colour| {
        let picture = flat(colour, 320, 240);
        let comment = [[0xFF, 0xFE, 0xC0, 0x00].to_vec(), vec![b' '; 0xC000 - 2]].concat();
        [&picture[..2], &comment.repeat(2), &picture[2..], b"\r\n--next\r\n\r\n"].concat()
    };
    let (red, blue, turned) = (frame(RED), frame(BLUE), AtomicBool::new(false));
    let settings = [("source", source.as_str()), ("still-timeout", "0"), ("votes", "1")];
    let mut child = scene.runtime(&settings).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let seen = || -> Vec<Sighting> {
        let text = std::fs::read_to_string(scene.path("sightings.jsonl")).unwrap_or_default();
        sightings(&text[..text.rfind('\n').map_or(0, |end| end + 1)])
    };
    let wait = |enough: &dyn Fn(&[Sighting]) -> bool| {
        let started = Instant::now();
        loop {
            let seen = seen();
            if enough(&seen) {
                return seen.len();
            }
            assert!(started.elapsed() < Duration::from_mins(2), "only {} frames were seen", seen.len());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let (at_turn, early, late, sent) = std::thread::scope(|scope| {
        let (red, blue, turned) = (&red, &blue, &turned);
        let camera = scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
            let mut sent = 0;
            // As fast as it goes, until the device has gone.
            while stream.write_all(if turned.load(Ordering::Relaxed) { blue } else { red }).is_ok() {
                sent += 1;
            }
            sent
        });
        wait(&|seen| seen.len() >= 40);
        let early = resident(&child);
        wait(&|seen| seen.len() >= 120);
        let late = resident(&child);
        turned.store(true, Ordering::Relaxed);
        let at_turn = seen().len();
        wait(&|seen| seen.iter().any(|sighting| sighting.best.as_str() == "blue"));
        child.kill().unwrap();
        (at_turn, early, late, camera.join().unwrap())
    });
    Run::of(child.wait_with_output().unwrap()).expect(-1, &["says: red"]);
    let seen = seen();
    let first_blue = seen.iter().position(|sighting| sighting.best.as_str() == "blue").unwrap();
    assert!(first_blue < at_turn + 5, "the turn came at {at_turn} and was seen at {first_blue}");
    assert!(sent > seen.len(), "a camera that is not faster proves nothing: {sent} frames");
    assert!(late < early + (32 << 10), "{early} KiB became {late} KiB after {sent} frames");
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
