//! What is seen is said once; what is unknown is not said; what cannot be read is passed over.

use mynah_contracts::DeviceState;
use mynah_testkit::{BLUE, GREEN, GREY, RED, replace_clip, tiny_labels, tiny_speech};

use crate::scene::{Scene, sightings};

#[test]
fn each_label_is_said_once_in_natural_order() {
    let scene = Scene::new(&[("10.jpg", BLUE), ("2.jpg", GREEN), ("1.jpg", RED), ("3.jpg", GREEN)]);
    let run = scene.run(&[]);
    run.expect(0, &["says: red", "says: green", "says: blue"]);
    assert_eq!(run.stdout, "");
    assert_eq!(scene.heard(), ["001-red.wav", "002-green.wav", "003-blue.wav"]);
    assert_eq!(
        std::fs::read(scene.path("heard/003-blue.wav")).unwrap(),
        std::fs::read(scene.path("speech/clips/2.wav")).unwrap()
    );

    let seen = scene.sightings();
    let images: Vec<_> = seen.iter().map(|sighting| sighting.image.as_deref().unwrap()).collect();
    let held = |name| [name; 3];
    assert_eq!(images, [held("1.jpg"), held("2.jpg"), held("3.jpg"), held("10.jpg")].concat());
    let said: Vec<_> = seen.iter().filter_map(|s| Some((s.frame, s.said.as_deref()?))).collect();
    assert_eq!(said, [(2, "red"), (5, "green"), (11, "blue")]);
    let digest = mynah_contracts::Sha256Digest::of(&std::fs::read(scene.path("model/model.onnx")).unwrap());
    assert!(seen.iter().all(|sighting| sighting.model == digest && sighting.probability > 0.9));
    assert!(seen.iter().zip(0..).all(|(sighting, frame)| sighting.frame == frame));

    let status = scene.status();
    assert_eq!(status.state, DeviceState::Finished);
    assert_eq!((status.model, status.problem), (Some(digest), None));
    assert_eq!((status.frames, status.unreadable_frames, status.utterances), (12, 0, 3));
    assert_eq!(status.speaker.as_deref(), Some("wav:heard"));
}

#[test]
fn unknown_is_silent_and_recorded_as_unknown() {
    let scene = Scene::new(&[("1.jpg", GREY), ("2.jpg", GREY)]);
    scene.run(&[]).expect(0, &[]);
    assert!(scene.heard().is_empty());
    let seen = scene.sightings();
    assert_eq!(seen.len(), 6);
    assert!(seen.iter().all(|sighting| sighting.label.is_none() && sighting.probability < 0.6));
    assert_eq!(scene.status().utterances, 0);
}

#[test]
fn a_threshold_that_is_given_overrides_the_models() {
    let scene = Scene::new(&[("1.jpg", GREY)]);
    scene.run(&[("threshold", "0.1")]).expect(0, &["threshold 0.10"]);
    assert_eq!(scene.heard().len(), 1);
}

#[test]
fn a_label_that_left_is_said_again() {
    let scene = Scene::new(&[("1.jpg", RED), ("2.jpg", GREY), ("3.jpg", RED)]);
    scene.run(&[]).expect(0, &[]);
    assert_eq!(scene.heard(), ["001-red.wav", "002-red.wav"]);
    // Two frames of something else are not leaving.
    scene.run(&[("source", "dir:frames?hold=2"), ("votes", "2"), ("speaker", "wav:again")]).expect(0, &[]);
    assert_eq!(crate::scene::names(&scene.path("again")), ["001-red.wav"]);
}

#[test]
fn a_corrupt_frame_in_the_middle_is_counted_and_skipped() {
    let scene = Scene::new(&[("1.jpg", RED), ("3.jpg", BLUE)]);
    let whole = std::fs::read(scene.path("frames/1.jpg")).unwrap();
    std::fs::write(scene.path("frames/2.jpg"), &whole[..whole.len() / 3]).unwrap();
    scene.run(&[]).expect(0, &["unreadable frame `2.jpg`"]);
    assert_eq!(scene.heard(), ["001-red.wav", "002-blue.wav"]);
    assert_eq!((scene.status().frames, scene.status().unreadable_frames), (6, 1));
    // The gap in the numbers is the frame that could not be read.
    let frames: Vec<_> = scene.sightings().iter().map(|sighting| sighting.frame).collect();
    assert_eq!(frames, [0, 1, 2, 4, 5, 6]);
}

#[test]
fn sightings_go_to_standard_output_when_nothing_else_is_said() {
    let scene = Scene::new(&[("1.jpg", RED)]);
    let run = scene.run(&[("sightings", "-"), ("source", "dir:frames?hold=1")]);
    run.expect(0, &[]);
    let seen = sightings(&run.stdout);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].label.as_ref().map(AsRef::as_ref), Some("red"));
}

#[test]
fn without_a_voice_words_are_printed_with_one_line_how_to_get_one() {
    let scene = Scene::new(&[("1.jpg", RED), ("2.jpg", BLUE)]);
    let run = scene.run(&[("speaker", "none"), ("speech", "")]);
    run.expect(0, &["says: red", "says: blue"]);
    assert_eq!(run.stderr.matches("to hear it:").count(), 1, "{}", run.stderr);
    assert_eq!((scene.status().speaker, scene.status().utterances), (None, 2));
}

#[test]
fn a_label_without_a_clip_is_printed_and_the_others_are_heard() {
    let scene = Scene::new(&[("1.jpg", RED), ("2.jpg", BLUE)]);
    tiny_speech(&scene.path("speech"), &tiny_labels()[..1]).unwrap();
    scene.run(&[]).expect(0, &["says: blue", "to hear it: install espeak-ng"]);
    assert_eq!(scene.heard(), ["001-red.wav"]);
}

#[test]
fn an_installed_engine_speaks_for_labels_without_a_clip() {
    if !std::path::Path::new("/usr/bin/espeak-ng").exists() {
        eprintln!("SKIPPED: espeak-ng is not installed, nothing was spoken");
        return;
    }
    let scene = Scene::new(&[("1.jpg", RED), ("2.jpg", BLUE)]);
    tiny_speech(&scene.path("speech"), &tiny_labels()[..1]).unwrap();
    let settings = [("speech-engine", "auto"), ("speech-cache", "made")];
    scene.run(&settings).expect(0, &["says: red", "says: blue"]);
    assert_eq!(scene.heard(), ["001-red.wav", "002-blue.wav"]);
    let clip = std::fs::read(scene.path("speech/clips/0.wav")).unwrap();
    assert_eq!(std::fs::read(scene.path("heard/001-red.wav")).unwrap(), clip, "a clip comes first");
    assert!(std::fs::read(scene.path("heard/002-blue.wav")).unwrap().len() > 4000);
    assert!(!crate::scene::names(&scene.path("made")).is_empty(), "what was made is kept");
    std::fs::create_dir(scene.path("maps")).unwrap();
    std::fs::write(scene.path("maps/de.json"), r#"{"language": "de", "default": "Das ist {label}"}"#)
        .unwrap();
    let german = [("speech-maps", "maps"), ("language", "de"), ("speech-engine", "espeak-ng")];
    scene.run(&german).expect(0, &["says: Das ist red", "says: Das ist blue"]);
}

#[test]
fn a_clip_that_is_not_a_wav_is_reported_and_treated_as_missing() {
    let scene = Scene::new(&[("1.jpg", RED), ("2.jpg", BLUE)]);
    replace_clip(&scene.path("speech"), 2, b"ID3 an MP3 by its name").unwrap();
    scene.run(&[]).expect(0, &["`speech/clips/2.wav` is not a WAV file", "says: blue"]);
    assert_eq!(scene.heard(), ["001-red.wav"]);
    assert!(scene.status().problem.unwrap().contains("is not a WAV file"));
}

#[test]
fn clips_are_played_through_a_program() {
    let scene = Scene::new(&[("1.jpg", RED)]);
    std::fs::write(scene.path("play.sh"), "cp \"$1\" played.wav").unwrap();
    scene.run(&[("speaker", "command:sh play.sh")]).expect(0, &["says: red"]);
    assert_eq!(
        std::fs::read(scene.path("played.wav")).unwrap(),
        std::fs::read(scene.path("speech/clips/0.wav")).unwrap()
    );
}

#[test]
fn two_runs_see_the_same() {
    let scene = Scene::new(&[("1.jpg", RED), ("2.jpg", GREY), ("3.jpg", BLUE)]);
    let seen = || {
        scene.run(&[]).expect(0, &[]);
        scene.sightings().into_iter().map(|s| (s.frame, s.label, s.probability.to_bits())).collect::<Vec<_>>()
    };
    assert_eq!(seen(), seen());
}
