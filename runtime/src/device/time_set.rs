//! The time of day is set while the device runs, months ahead and back: nothing but the stamps may change.

use std::rc::Rc;
use std::time::Duration;

use jiff::SignedDuration;
use mynah_contracts::{DeviceState, DeviceStatus, Sighting, from_json};
use mynah_testkit::{GREEN, GREY, RED, solid_colour_jpeg};

use super::day::launch;
use super::{Ending, run};
use crate::clock::ManualClock;
use crate::stop::Stop;

/// What came of a run: its sightings, what waits for the hub, how many words were heard.
struct Outcome {
    seen: Vec<Sighting>,
    promised: Vec<Sighting>,
    heard: usize,
}

/// Ten minutes at one frame a second, with pauses between words, cool-downs and a rate.
fn ten_minutes(set: &[(Duration, SignedDuration)]) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("frames")).unwrap();
    for picture in 0..60 {
        let colour = [RED, GREEN, GREY, RED, GREY][picture % 5];
        std::fs::write(
            at("frames").join(format!("{picture}.jpg")),
            solid_colour_jpeg(colour, picture as u64),
        )
        .unwrap();
    }
    let limits = [("cooldown-frames", "15"), ("pause", "5"), ("words-per-minute", "3")];
    let launch = launch(folder.path(), "hold=10&fps=1", &limits);
    let clock = Rc::new(ManualClock::set_at(set));
    let ending = run(&launch, launch.given().unwrap(), clock, &Stop::new()).unwrap();
    assert_eq!(ending, Ending::SourceEnded);
    let status: DeviceStatus = from_json(&std::fs::read(at("status")).unwrap()).unwrap();
    assert_eq!((status.state, status.frames), (DeviceState::Finished, 600));
    let text = std::fs::read_to_string(at("sightings")).unwrap();
    let waiting = crate::hub::waiting(&at("spool")).unwrap();
    Outcome {
        seen: text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        promised: waiting.iter().map(|message| serde_json::from_slice(message).unwrap()).collect(),
        heard: std::fs::read_dir(at("heard")).unwrap().count(),
    }
}

fn without_times(sightings: &[Sighting]) -> Vec<Sighting> {
    sightings.iter().map(|sighting| Sighting { time: String::new(), ..sighting.clone() }).collect()
}

#[test]
fn words_order_and_promises_do_not_depend_on_the_time_of_day() {
    let months = SignedDuration::from_hours(24 * 240);
    let quiet = ten_minutes(&[]);
    assert!(quiet.heard > 5 && quiet.promised.len() > 5, "{} and {}", quiet.heard, quiet.promised.len());
    // Forwards when the network comes, then back to what a wrong server says, then right again.
    let jumpy = ten_minutes(&[
        (Duration::from_secs(123), months),
        (Duration::from_mins(5), -months * 3),
        (Duration::from_mins(7), months * 2),
    ]);
    assert_eq!(without_times(&jumpy.seen), without_times(&quiet.seen));
    assert_eq!(without_times(&jumpy.promised), without_times(&quiet.promised));
    assert_eq!(jumpy.heard, quiet.heard);
    assert!(jumpy.promised.is_sorted_by_key(|sighting| sighting.frame), "the order is that of the frames");
    // The stamps are the time of day as it was believed.
    let years: Vec<&str> = [100, 200, 350, 500].map(|frame: usize| &jumpy.seen[frame].time[..7]).into();
    assert_eq!(years, ["1970-01", "1970-08", "1968-09", "1970-01"]);
}
