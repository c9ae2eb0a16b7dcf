//! Clips from recordings, from earlier outputs and from a stand-in engine.

use std::os::unix::fs::PermissionsExt as _;

use mynah_contracts::Quiet;
use mynah_testkit::{replace_clip, tiny_speech};

use super::*;

fn labels(names: &[&str]) -> Vec<Label> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// A program that answers as espeak-ng does, and keeps a list of the words it spoke.
struct StandIn {
    folder: tempfile::TempDir,
    engine: Engine,
}

impl StandIn {
    /// `speak` is what it does with the words in `$text`, the voice in `$4` and the file in `$6`.
    fn new(speak: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("clip.wav"), wav::tests::clip(&[1, 2, 3])).unwrap();
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'eSpeak NG text-to-speech: 9.9  Data at: /somewhere'; exit; fi\n\
             here=$(dirname \"$0\"); text=$(cat); echo \"$4:$text\" >> \"$here/spoken\"\n{speak}\n"
        );
        let program = folder.path().join("engine");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let engine = Engine::Espeak(Espeak::stand_in(program).unwrap());
        Self { folder, engine }
    }

    fn good() -> Self {
        Self::new("cp \"$here/clip.wav\" \"$6\"")
    }

    fn spoken(&self) -> String {
        fs::read_to_string(self.folder.path().join("spoken")).unwrap_or_default()
    }
}

fn make(
    labels: &[Label],
    given: Option<&Path>,
    earlier: &Path,
    engine: Option<&Engine>,
) -> (Result<Spoken, SpeechError>, tempfile::TempDir) {
    let out = tempfile::tempdir().unwrap();
    let map = SpeechMap::default();
    let request = Request { labels, given, earlier, map: &map, engine, voice: "en" };
    (request.make(out.path(), &Quiet), out)
}

const NOWHERE: &str = "no-such-folder";

#[test]
fn words_are_spoken_and_an_earlier_clip_is_taken_again() {
    let stand_in = StandIn::good();
    let words = labels(&["red_apple", "-v"]);
    let (first, out) = make(&words, None, Path::new(NOWHERE), Some(&stand_in.engine));
    let first = first.unwrap();
    assert_eq!(stand_in.spoken(), "en:red apple\nen:v\n");
    let speech = first.speech.clone().unwrap();
    assert_eq!((speech.engine.as_str(), speech.voice.as_str()), ("espeak-ng 9.9", "en"));
    assert_eq!(first.silent, []);
    let more = labels(&["red_apple", "-v", "pear"]);
    let (second, again) = make(&more, None, out.path(), Some(&stand_in.engine));
    assert_eq!(stand_in.spoken(), "en:red apple\nen:v\nen:pear\n");
    let second = second.unwrap().speech.unwrap();
    assert_eq!(second.clips[..2], speech.clips[..]);
    // A damaged clip is made again.
    fs::write(second.clips[0].file.path.below(again.path()), b"damaged").unwrap();
    let (third, _out) = make(&more, None, again.path(), Some(&stand_in.engine));
    assert_eq!(third.unwrap().speech.unwrap(), second);
    assert!(stand_in.spoken().ends_with("en:pear\nen:red apple\n"));
}

#[test]
fn labels_with_the_same_words_share_a_clip() {
    let stand_in = StandIn::good();
    let (made, out) =
        make(&labels(&["red apple", "red-apple"]), None, Path::new(NOWHERE), Some(&stand_in.engine));
    let clips = made.unwrap().speech.unwrap().clips;
    assert_eq!((clips.len(), &clips[0].file), (2, &clips[1].file));
    assert_eq!(stand_in.spoken(), "en:red apple\n");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 2);
}

#[test]
fn recordings_come_before_the_engine_where_label_and_words_match() {
    let stand_in = StandIn::good();
    let given = tempfile::tempdir().unwrap();
    tiny_speech(given.path(), &labels(&["pear"])).unwrap();
    let (made, out) =
        make(&labels(&["apple", "pear"]), Some(given.path()), Path::new(NOWHERE), Some(&stand_in.engine));
    let speech = made.unwrap().speech.unwrap();
    assert_eq!(stand_in.spoken(), "en:apple\n");
    assert_eq!(speech.engine, "espeak-ng 9.9 + tone");
    let copied = fs::read(speech.clips[1].file.path.below(out.path())).unwrap();
    assert_eq!(copied, fs::read(given.path().join("clips/0.wav")).unwrap());
}

#[test]
fn without_any_voice_labels_stay_silent() {
    let (made, out) = make(&labels(&["apple", "pear"]), None, Path::new(NOWHERE), None);
    assert_eq!(made.unwrap(), Spoken { speech: None, silent: labels(&["apple", "pear"]) });
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn a_recording_that_is_no_clip_is_refused() {
    let given = tempfile::tempdir().unwrap();
    tiny_speech(given.path(), &labels(&["pear"])).unwrap();
    replace_clip(given.path(), 0, b"OggS").unwrap();
    let refused = |says: &str| {
        let (made, _out) = make(&labels(&["pear"]), Some(given.path()), Path::new(NOWHERE), None);
        let error = made.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.kind(), FaultKind::BadInput);
    };
    refused("is no WAV file");
    fs::write(given.path().join("clips/0.wav"), b"changed").unwrap();
    refused("is not the one its speech.json names");
    fs::remove_file(given.path().join("clips/0.wav")).unwrap();
    refused("cannot read");
    fs::write(given.path().join("speech.json"), b"{").unwrap();
    refused("cannot be used");
}

#[test]
fn an_engine_that_fails_says_why() {
    for (speak, says) in [
        ("echo 'Error: The specified espeak-ng voice does not exist.' >&2; exit 1", "voice does not exist"),
        ("exit 0", "it wrote no file"),
        ("echo hello > \"$6\"", "what it wrote is no WAV file"),
        ("exit 7", "exit status: 7"),
    ] {
        let stand_in = StandIn::new(speak);
        let (made, _out) = make(&labels(&["pear"]), None, Path::new(NOWHERE), Some(&stand_in.engine));
        let error = made.unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("`pear` with the voice `en`"), "{error}");
    }
}

#[test]
fn the_installed_engine_speaks() {
    let Some(engine) = Espeak::find(&Quiet) else {
        eprintln!("SKIPPED: espeak-ng is not installed");
        return;
    };
    let bytes = engine.speak("--help <b>Ünïcode</b>", "en", &Quiet).unwrap();
    assert!(wav::check(&bytes).unwrap().samples > 8_000);
    let says = engine.speak("word", "nope", &Quiet).map(|_| "spoken").unwrap_err().to_string();
    assert!(says.contains("the voice `nope`"), "{says}");
}

#[test]
fn a_map_says_sentences_and_a_voice_is_found_for_each_engine() {
    let stand_in = StandIn::good();
    let file = stand_in.folder.path().join("map.json");
    let text = r#"{"voice": "en-AU-NatashaNeural", "default": "I see a {label}", "map": [{"key": "panda", "value": "Here comes the panda"}]}"#;
    fs::write(&file, text).unwrap();
    let map = read_map(&file).unwrap();
    let voice = stand_in.engine.voice_for(map.voice.as_deref());
    assert_eq!(
        (voice, stand_in.engine.voice_for(None), stand_in.engine.voice_for(Some("de+f3"))),
        ("en", "en", "de+f3")
    );
    let out = tempfile::tempdir().unwrap();
    let words = labels(&["panda", "red_apple"]);
    let request = Request {
        labels: &words,
        given: None,
        earlier: Path::new(NOWHERE),
        map: &map,
        engine: Some(&stand_in.engine),
        voice,
    };
    let speech = request.make(out.path(), &Quiet).unwrap().speech.unwrap();
    assert_eq!(stand_in.spoken(), "en:Here comes the panda\nen:I see a red apple\n");
    let said: Vec<_> = speech.clips.iter().map(|clip| clip.text.as_str()).collect();
    assert_eq!(said, ["Here comes the panda", "I see a red apple"]);
    assert!(read_map(Path::new(NOWHERE)).unwrap_err().to_string().contains(NOWHERE));
}
