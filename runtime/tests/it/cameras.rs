//! Sources other than folders: recordings, pipes, cameras of the network that come and go.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use mynah_contracts::DeviceState;
use mynah_testkit::{BLUE, GREEN, RED, solid_colour_jpeg};

use crate::scene::{Run, Scene};

#[test]
fn a_recording_is_seen_frame_by_frame() {
    let scene = Scene::new(&[]);
    let frames: Vec<u8> = [RED, RED, RED, GREEN, GREEN, GREEN]
        .iter()
        .zip(0..)
        .flat_map(|(colour, seed)| solid_colour_jpeg(*colour, seed))
        .collect();
    std::fs::write(scene.path("a.mjpg"), frames).unwrap();
    scene.run(&[("source", "mjpeg:a.mjpg")]).expect(0, &["says: red", "says: green"]);
    assert_eq!(scene.heard(), ["001-red.wav", "002-green.wav"]);
    assert_eq!(scene.status().frames, 6);
    scene.run(&[("source", "mjpeg:missing")]).expect(2, &["cannot open the recording `missing`"]);
}

#[test]
fn a_pipe_is_seen_until_it_ends() {
    let scene = Scene::new(&[]);
    let mut child = scene.runtime(&[("source", "y4m:-"), ("votes", "1")]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"YUV4MPEG2 W32 H32 F30:1 C444\n").unwrap();
    // Blue by BT.601.
    for _ in 0..3 {
        input.write_all(b"FRAME\n").unwrap();
        for value in [41, 240, 110] {
            input.write_all(&[value; 1024]).unwrap();
        }
    }
    drop(input);
    Run::of(child.wait_with_output().unwrap()).expect(0, &["says: blue"]);
    assert_eq!((scene.status().frames, scene.status().state), (3, DeviceState::Finished));
}

#[test]
fn a_camera_of_the_network_that_goes_away_is_told_and_seen_again() {
    let scene = Scene::new(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("http://me:geheim@{}/stream", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for (connection, colour) in [RED, BLUE].into_iter().enumerate() {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n")
                .unwrap();
            for seed in 0..if connection == 0 { 5 } else { 200 } {
                let picture = solid_colour_jpeg(colour, seed);
                let part = [b"--b\r\nContent-Length: 1\r\n\r\n", picture.as_slice(), b"\r\n"].concat();
                if stream.write_all(&part).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(40));
            }
        }
    });
    let mut command = scene.runtime(&[("source", &source), ("votes", "1"), ("give-up", "4")]);
    let run = Run::of(command.output().unwrap());
    server.join().unwrap();
    run.expect(
        1,
        &[
            "says: red",
            "it ended its stream",
            "is back",
            "says: blue",
            "no good picture from the camera `127.0.0.1` for 4 s",
        ],
    );
    assert!(!run.stderr.contains("geheim"), "{}", run.stderr);
    assert_eq!(scene.status().state, DeviceState::Failed);
}

#[test]
fn a_webcam_that_is_not_there_is_a_problem_and_not_the_end() {
    let scene = Scene::new(&[]);
    let run = scene.run(&[("source", "v4l2:/dev/no-such-camera"), ("give-up", "1")]);
    run.expect(1, &["there is no `/dev/no-such-camera`", "hint: ", "--list-devices"]);
    let list = Run::of(scene.bare().arg("--list-devices").output().unwrap());
    list.expect(0, &[]);
    assert!(list.stdout.contains("v4l2:") || list.stdout.contains("no camera"), "{}", list.stdout);
}
