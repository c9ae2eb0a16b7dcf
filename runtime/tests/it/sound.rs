//! The sound card, played by an ALSA device that writes a file.

#![cfg(feature = "sound-card")]

use mynah_testkit::RED;

use crate::scene::{Run, Scene};

/// Replaces the machine's sound: everything goes to a file.
fn configuration(scene: &Scene) -> String {
    format!(
        "</usr/share/alsa/alsa.conf>\npcm.!default {{ type file file \"{}\" format \"wav\" slave.pcm {{ type null }} }}\n",
        scene.path("card.wav").display()
    )
}

/// The samples of the first channel, -1 to 1, and how many there are a second.
fn samples(bytes: &[u8]) -> (Vec<f32>, f32) {
    let number = |at: usize, length: usize| {
        bytes[at..at + length].iter().rev().fold(0_u32, |n, &b| n << 8 | u32::from(b))
    };
    let (channels, rate, bits) = (number(22, 2) as usize, number(24, 4), number(34, 2) as usize);
    let frames = bytes[44..].chunks_exact(channels * bits / 8);
    let first = frames.map(|frame| match bits {
        16 => f32::from(i16::from_le_bytes([frame[0], frame[1]])) / 32_768.0,
        32 => f32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]),
        _ => panic!("{bits} bits a sample"),
    });
    (first.collect(), rate as f32)
}

#[test]
fn a_word_is_heard_whole_and_at_its_pitch() {
    if !std::path::Path::new("/usr/share/alsa/alsa.conf").exists() {
        eprintln!("SKIPPED: ALSA's configuration is not installed, nothing was heard");
        return;
    }
    let scene = Scene::new(&[("1.jpg", RED)]);
    std::fs::write(scene.path("asound.conf"), configuration(&scene)).unwrap();
    let run = |volume: &str| {
        let mut command = scene.runtime(&[("speaker", "card"), ("volume", volume)]);
        Run::of(command.env("ALSA_CONFIG_PATH", scene.path("asound.conf")).output().unwrap())
            .expect(0, &["says: red"]);
        let bytes = std::fs::read(scene.path("card.wav")).unwrap();
        let (samples, rate) = samples(&bytes);
        let loud = |sample: &&f32| sample.abs() > 0.01;
        let start = samples.iter().position(|sample| loud(&sample)).expect("nothing was heard");
        let end = samples.iter().rposition(|sample| loud(&sample)).unwrap();
        let word = samples[start..=end].to_vec();
        let peak = word.iter().fold(0_f32, |peak, sample| peak.max(sample.abs()));
        let crossings = word.windows(2).filter(|pair| (pair[0] < 0.0) != (pair[1] < 0.0)).count();
        (word.len() as f32 / rate, crossings as f32 / 2.0 / (word.len() as f32 / rate), peak)
    };
    let (length, pitch, peak) = run("1");
    assert!((length - 0.1).abs() < 0.005, "a tenth of a second, not {length} s");
    assert!((pitch - 440.0).abs() < 12.0, "440 Hz, not {pitch}");
    let (_, _, half) = run("0.5");
    assert!((half / peak - 0.5).abs() < 0.05, "{half} of {peak}");
}

#[test]
fn without_a_card_words_are_printed_and_the_lack_is_told() {
    let scene = Scene::new(&[("1.jpg", RED)]);
    std::fs::write(scene.path("asound.conf"), "# nothing\n").unwrap();
    let mut command = scene.runtime(&[("speaker", "card"), ("source", "dir:frames?hold=12&fps=10")]);
    let run = Run::of(command.env("ALSA_CONFIG_PATH", scene.path("asound.conf")).output().unwrap());
    run.expect(0, &["words are not heard: ", "says: red"]);
    assert!(scene.status().problem.is_some());
}
