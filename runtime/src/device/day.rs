//! A day of the device's life in fast motion: the clock is turned by the frames, nothing is waited for.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use mynah_contracts::Sighting;
use mynah_testkit::{
    BLUE, GREEN, GREY, RED, solid_colour_jpeg, tiny_labels, tiny_model_package, tiny_speech,
};

use super::{Ending, Launch, run};
use crate::clock::ManualClock;
use crate::stop::Stop;

/// Every picture is in view for five minutes, at one frame a second.
const HOLD: usize = 300;
const PICTURES: usize = 24 * 60 * 60 / HOLD + BROKEN;
/// So many pictures cannot be read.
const BROKEN: usize = 13;
/// So often.
const EVERY: usize = 24;

/// A device whose things are all in this folder, its pictures in `frames` below, with a hub that is never there.
pub(super) fn launch(folder: &Path, options: &str, more: &[(&str, &str)]) -> Launch {
    let at = |name: &str| folder.join(name).display().to_string();
    tiny_model_package(&folder.join("model")).unwrap();
    tiny_speech(&folder.join("speech"), &tiny_labels()).unwrap();
    let mut flags: BTreeMap<String, String> =
        ["model", "speech", "sightings", "spool", "status"].map(|name| (name.to_owned(), at(name))).into();
    for (name, value) in [
        ("source", format!("dir:{}?{options}", at("frames")).as_str()),
        ("speaker", format!("wav:{}", at("heard")).as_str()),
        ("speech-engine", "off"),
        // Nobody listens at the first port.
        ("hub", "mqtt://127.0.0.1:1"),
        ("log", "error"),
    ]
    .iter()
    .chain(more)
    {
        flags.insert((*name).to_owned(), (*value).to_owned());
    }
    Launch { flags, ..Launch::default() }
}

#[test]
fn a_day_without_a_hub_loses_nothing_that_was_promised() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("frames")).unwrap();
    let mut words = 0;
    let mut before = None;
    for picture in 0..PICTURES {
        let colour = [RED, GREY, GREEN, BLUE, GREY, BLUE][picture % 6];
        let bytes = if picture % EVERY == 7 {
            // Nothing is decided on what cannot be read.
            b"half a picture".to_vec()
        } else {
            words += usize::from(colour != GREY && before != Some(colour));
            before = Some(colour);
            solid_colour_jpeg(colour, picture as u64)
        };
        std::fs::write(at("frames").join(format!("{picture}.jpg")), bytes).unwrap();
    }
    let launch = launch(folder.path(), &format!("hold={HOLD}&fps=1"), &[]);
    let clock = Rc::new(ManualClock::default());
    let ending = run(&launch, launch.given().unwrap(), clock, &Stop::new()).unwrap();
    assert_eq!(ending, Ending::SourceEnded);

    let text = std::fs::read_to_string(at("sightings")).unwrap();
    let seen: Vec<Sighting> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(seen.len(), 24 * 60 * 60, "one line per frame, one frame a second");
    assert_eq!(
        seen.last().unwrap().frame as usize + 1 - seen.len(),
        BROKEN,
        "what cannot be read is counted"
    );
    assert!(seen.is_sorted_by(|a, b| a.frame < b.frame && a.time <= b.time));
    assert!(seen.last().unwrap().time.as_str() >= "1970-01-02", "{}", seen.last().unwrap().time);
    let said: Vec<&Sighting> = seen.iter().filter(|sighting| sighting.said.is_some()).collect();
    assert_eq!(said.len(), words);
    assert_eq!(std::fs::read_dir(at("heard")).unwrap().count(), words);
    let promised = waiting(&at("spool"));
    assert!(promised.iter().eq(said), "{} of {words} words wait for the hub", promised.len());
}

/// What waits in a spool, oldest first.
fn waiting(folder: &Path) -> Vec<Sighting> {
    let all = crate::hub::waiting(folder).unwrap();
    all.iter().map(|message| serde_json::from_slice(message).unwrap()).collect()
}
