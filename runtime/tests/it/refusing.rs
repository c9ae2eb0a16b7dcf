//! Input that cannot be used: a clear message, exit code 2, and a status that says "failed".

use mynah_contracts::DeviceState;
use mynah_testkit::{RED, edit_card};

use crate::scene::Scene;

/// Runs the scene; it must be refused as bad input in these words, here and in the status.
#[track_caller]
fn refused(scene: &Scene, changes: &[(&str, &str)], says: &[&str]) {
    let run = scene.run(changes);
    run.expect(2, says);
    assert!(run.stderr.contains("hint: "), "{}", run.stderr);
    let status = scene.status();
    assert_eq!(status.state, DeviceState::Failed);
    assert!(says.iter().all(|says| status.problem.as_ref().unwrap().contains(says)), "{status:?}");
    assert!(scene.heard().is_empty());
}

fn scene() -> Scene {
    Scene::new(&[("1.jpg", RED)])
}

#[test]
fn a_folder_of_frames_without_pictures() {
    let scene = Scene::new(&[]);
    refused(&scene, &[], &["the frames' folder `frames` holds no picture"]);
    refused(&scene, &[("source", "dir:missing")], &["cannot list the frames' folder `missing`"]);
}

#[test]
fn frames_of_which_none_can_be_read() {
    let scene = Scene::new(&[]);
    std::fs::write(scene.path("frames/1.jpg"), b"text").unwrap();
    std::fs::write(scene.path("frames/2.png"), b"").unwrap();
    refused(&scene, &[], &["none of the 2 frames could be read"]);
}

#[test]
fn a_model_that_is_not_there() {
    refused(&scene(), &[("model", "missing")], &["missing/model.json"]);
}

#[test]
fn a_model_of_a_newer_schema() {
    let scene = scene();
    std::fs::write(scene.path("model/model.json"), br#"{"schemaVersion":"2.0"}"#).unwrap();
    refused(&scene, &[], &["`model.json` has schema version 2.0, this tool reads up to 1.x"]);
}

#[test]
fn a_model_that_is_garbage() {
    let scene = scene();
    std::fs::write(scene.path("model/model.onnx"), b"\x08\x07garbage").unwrap();
    refused(&scene, &[], &["model.onnx", "digest"]);
    // Even with a card that vouches for it.
    edit_card(&scene.path("model"), |card| {
        card.model = mynah_contracts::FileRef::new(card.model.path.clone(), b"\x08\x07garbage");
    })
    .unwrap();
    refused(&scene, &[], &["the ONNX model cannot be used"]);
}

#[test]
fn labels_changed_after_export() {
    let scene = scene();
    std::fs::write(scene.path("model/labels.txt"), b"red\ngreen\nviolet\n").unwrap();
    refused(&scene, &[], &["labels.txt", "digest"]);
}

#[test]
fn a_network_with_another_number_of_outputs_than_labels() {
    let scene = scene();
    let text = b"red\ngreen\nblue\nviolet\n";
    std::fs::write(scene.path("model/labels.txt"), text).unwrap();
    edit_card(&scene.path("model"), |card| {
        card.labels.push("violet".parse().unwrap());
        card.labels_file = mynah_contracts::FileRef::new(card.labels_file.path.clone(), text);
        card.probes.iter_mut().for_each(|probe| probe.probabilities.push(0.0));
    })
    .unwrap();
    refused(&scene, &[], &["3 numbers for 4 labels"]);
}

#[test]
fn a_card_that_promises_another_size_or_order_of_input_is_found_out() {
    let scene = scene();
    edit_card(&scene.path("model"), |card| card.preprocess.size = 64).unwrap();
    let run = scene.run(&[]);
    assert!(run.code == 1 || run.code == 2, "{}", run.stderr);
    assert_eq!((scene.status().state, scene.heard().len()), (DeviceState::Failed, 0));
    edit_card(&scene.path("model"), |card| {
        card.preprocess.size = 16;
        card.preprocess.channels = mynah_contracts::ChannelOrder::Bgr;
    })
    .unwrap();
    scene.run(&[]).expect(1, &["the probe `probes/"]);
}

#[test]
fn a_model_that_fails_its_self_test_never_runs() {
    let scene = scene();
    edit_card(&scene.path("model"), |card| card.probes[0].probabilities.reverse()).unwrap();
    let run = scene.run(&[]);
    run.expect(1, &["the probe `probes/red.png`"]);
    assert_eq!((scene.status().state, scene.status().frames), (DeviceState::Failed, 0));
}

#[test]
fn clips_of_a_newer_schema_or_none_at_all() {
    let scene = scene();
    std::fs::write(scene.path("speech/speech.json"), br#"{"schemaVersion":"3.1"}"#).unwrap();
    refused(&scene, &[], &["`speech.json` has schema version 3.1"]);
    refused(&scene, &[("speech", "missing")], &["missing/speech.json"]);
}

#[test]
fn a_speaker_or_report_that_cannot_be_had() {
    let scene = scene();
    refused(&scene, &[("speaker", "command:no-such-player")], &["`no-such-player` is not installed"]);
    refused(&scene, &[("speaker", "wav:frames/1.jpg/out")], &["cannot make the folder `frames/1.jpg/out`"]);
    refused(&scene, &[("sightings", "frames")], &["cannot begin the file of sightings `frames`"]);
    scene.run(&[("status", "frames")]).expect(2, &["cannot write the status `frames`"]);
}

#[cfg(not(feature = "sound-card"))]
#[test]
fn a_sound_card_that_was_not_built_in() {
    refused(&scene(), &[("speaker", "card")], &["built without sound cards"]);
}

#[test]
fn labels_the_model_does_not_have() {
    refused(&scene(), &[("reset-labels", "hand")], &["`reset-labels` names `hand`"]);
}

#[test]
fn engines_languages_and_containers_that_are_none() {
    let scene = scene();
    refused(
        &scene,
        &[("speech-engine", "piper:voice.onnx")],
        &["the speech engine `piper` is not installed"],
    );
    refused(&scene, &[("speech-engine", "azure")], &["`azure-speech-key-file`"]);
    refused(&scene, &[("language", "de")], &["no speech map for the language `de`"]);
    std::fs::write(scene.path("container"), "https://a.example/photos?sv=geheim").unwrap();
    let says = ["`container` names no container for review: the address has no shared access signature"];
    refused(&scene, &[("review-container-file", "container")], &says);
    assert!(!scene.run(&[("review-container-file", "container")]).stderr.contains("geheim"));
}

#[test]
fn keys_and_stores_that_are_none() {
    let scene = scene();
    std::fs::write(scene.path("keys"), "abc").unwrap();
    refused(&scene, &[("model-keys-file", "keys")], &["line 1 is no Ed25519 public key"]);
    refused(&scene, &[("model-store", "frames/1.jpg")], &["cannot use the folder `frames/1.jpg` for models"]);
}

#[test]
fn an_exit_threshold_above_the_models_threshold() {
    refused(&scene(), &[("threshold-exit", "0.7")], &["the exit threshold is 0.7, 0 to the threshold 0.6"]);
}

#[cfg(target_os = "linux")]
#[test]
fn sightings_that_cannot_be_written_fail_the_run_but_not_the_words() {
    let scene = scene();
    scene.run(&[("sightings", "/dev/full")]).expect(1, &["says: red", "3 of 3 sightings were lost"]);
    assert_eq!(scene.heard(), ["001-red.wav"]);
    assert_eq!(scene.status().state, DeviceState::Failed);
}
