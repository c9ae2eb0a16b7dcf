//! What the device does not know: pictures it is unsure of are kept and handed to people, so that the next training
//! begins with them. Off unless someone names a container; pictures leave the device then, and only then.

mod upload;

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mynah_contracts::Sighting;

pub use upload::Container;
use upload::Uploader;

use crate::board::Picture;
use crate::decide::MotionGate;
use crate::replace::replace_file;
use crate::settings::ReviewSettings;

/// How much a picture must differ from the last that was kept, as a share of it: the same empty table is kept once.
const DIFFERENT: f32 = 0.1;
const HOUR: Duration = Duration::from_hours(1);

/// Keeps pictures, and has them uploaded.
pub(crate) struct Reviewer {
    settings: ReviewSettings,
    gate: MotionGate,
    /// When the pictures of the last hour were kept.
    kept: VecDeque<Duration>,
    uploader: Uploader,
    /// Why the last picture was not kept.
    lost: Option<String>,
}

/// Whether a frame is one that a model should learn from: nothing known is in it, or two labels are nearly as probable.
fn is_unsure(sighting: &Sighting, probabilities: &[f32], margin: f32) -> bool {
    let (mut first, mut second) = (0.0_f32, 0.0_f32);
    for &probability in probabilities {
        if probability > first {
            (first, second) = (probability, first);
        } else {
            second = second.max(probability);
        }
    }
    sighting.label.is_none() || first - second < margin
}

impl Reviewer {
    /// Opens the folder, and goes on uploading what a run before left there.
    ///
    /// # Errors
    /// The folder cannot be used, or no thread is to be had.
    pub(crate) fn start(settings: ReviewSettings, container: Container) -> io::Result<Self> {
        std::fs::create_dir_all(&settings.folder)?;
        let uploader = Uploader::start(settings.folder.clone(), container)?;
        Ok(Self { settings, gate: MotionGate::new(DIFFERENT), kept: VecDeque::new(), uploader, lost: None })
    }

    /// Keeps the picture if it is one to learn from, there was not enough of that within the hour, and it is not what
    /// was kept last. `now` is the time since the start.
    pub(crate) fn consider(
        &mut self,
        now: Duration,
        sighting: &Sighting,
        probabilities: &[f32],
        picture: &Picture,
    ) {
        if !is_unsure(sighting, probabilities, self.settings.margin) {
            return;
        }
        while self.kept.front().is_some_and(|kept| now.saturating_sub(*kept) >= HOUR) {
            self.kept.pop_front();
        }
        if self.kept.len() >= self.settings.per_hour || !self.gate.passes(picture.image()) {
            return;
        }
        let Some(jpeg) = picture.jpeg() else { return };
        self.kept.push_back(now);
        match keep(&self.settings, sighting, jpeg) {
            Ok(()) => {
                tracing::info!("frame {} is kept for review", sighting.frame);
                self.lost = None;
                self.uploader.wake();
            }
            Err(error) => {
                let problem = format!("a picture for review was lost: {error}");
                if self.lost.as_ref() != Some(&problem) {
                    tracing::warn!("{problem}");
                }
                self.lost = Some(problem);
            }
        }
    }

    /// What keeps pictures from being reviewed at present.
    pub(crate) fn problem(&self) -> Option<String> {
        self.lost.clone().or_else(|| self.uploader.problem())
    }
}

/// Writes the picture, then its sighting, whose file says that both are whole. Older ones give way where there is no
/// more room for them.
fn keep(settings: &ReviewSettings, sighting: &Sighting, jpeg: &[u8]) -> io::Result<()> {
    let note = serde_json::to_vec_pretty(sighting)?;
    let size = (jpeg.len() + note.len()) as u64;
    let mut total = size;
    for entry in std::fs::read_dir(&settings.folder)? {
        total += entry?.metadata()?.len();
    }
    let waiting = waiting(&settings.folder)?;
    let number = waiting.last().and_then(|newest| number(newest)).map_or(0, |number| number + 1);
    for oldest in waiting {
        if total <= settings.bytes {
            break;
        }
        total = total.saturating_sub(forget(&settings.folder, &oldest)?);
        tracing::warn!("the picture `{oldest}` gave way to a newer one before it was uploaded");
    }
    if total > settings.bytes {
        return Err(io::Error::other("it is larger than all pictures may be together"));
    }
    let time: String = sighting.time.chars().filter(char::is_ascii_alphanumeric).collect();
    let name = format!("{number:010}-{time}-{}", sighting.frame);
    for (ending, bytes) in [("jpg", jpeg), ("json", note.as_slice())] {
        let path = settings.folder.join(format!("{name}.{ending}"));
        replace_file(&path, |file| file.write_all(bytes).and_then(|()| file.sync_all()))?;
    }
    Ok(())
}

/// The number that a picture's name begins with. It gives the order, which the time of day does not where it is set.
fn number(name: &str) -> Option<u64> {
    name.split_once('-')?.0.parse().ok()
}

/// The names of the pictures that wait, oldest first.
fn waiting(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(".json")).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn paths(folder: &Path, name: &str) -> [PathBuf; 2] {
    ["json", "jpg"].map(|ending| folder.join(format!("{name}.{ending}")))
}

/// Removes a picture and its sighting and gives how many bytes they had.
fn forget(folder: &Path, name: &str) -> io::Result<u64> {
    let mut size = 0;
    for path in paths(folder, name) {
        size += path.metadata().map_or(0, |metadata| metadata.len());
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use mynah_contracts::Sha256Digest;
    use mynah_photo::RgbImage;
    use mynah_testkit::blobs::BlobStorage;

    use super::*;

    fn sighting(frame: u64, label: Option<&str>) -> Sighting {
        Sighting {
            time: format!("2026-01-02T03:04:{:02}.000Z", frame % 60),
            frame,
            image: None,
            label: label.map(|label| label.parse().unwrap()),
            best: "red".parse().unwrap(),
            probability: 0.5,
            said: None,
            model: Sha256Digest::of(b"model"),
        }
    }

    fn picture(grey: u8) -> Picture {
        Picture::new(RgbImage::new(16, 16, vec![grey; 768]).unwrap(), None)
    }

    fn settings(folder: &Path) -> ReviewSettings {
        ReviewSettings {
            container_file: PathBuf::new(),
            folder: folder.to_owned(),
            per_hour: 3,
            bytes: 1 << 20,
            margin: 0.2,
        }
    }

    fn container(blobs: &BlobStorage) -> Container {
        Container::parse(&format!("{}?sv=2024-11-04&sig=geheim", blobs.container())).unwrap()
    }

    fn uploaded(blobs: &BlobStorage, count: usize) -> Vec<String> {
        let started = Instant::now();
        while blobs.names().len() < count {
            assert!(started.elapsed() < Duration::from_mins(1), "only {:?} came", blobs.names());
            std::thread::sleep(Duration::from_millis(20));
        }
        blobs.names()
    }

    #[test]
    fn what_is_unsure_is_kept_not_too_often_not_twice_and_uploaded_with_its_sighting() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobStorage::start().unwrap();
        let mut reviewer = Reviewer::start(settings(folder.path()), container(&blobs)).unwrap();
        let second = Duration::from_secs;
        // Sure, unknown, the same again, two labels alike, unknown, one too many, an hour later.
        for (frame, label, probabilities, grey, at) in [
            (0, Some("red"), [0.9, 0.1], 0, 0),
            (1, None, [0.9, 0.1], 0, 1),
            (2, None, [0.9, 0.1], 0, 2),
            (3, Some("red"), [0.5, 0.4], 90, 3),
            (4, None, [0.5, 0.1], 200, 4),
            (5, None, [0.5, 0.1], 0, 5),
            (6, None, [0.5, 0.1], 90, 3700),
        ] {
            reviewer.consider(second(at), &sighting(frame, label), &probabilities, &picture(grey));
        }
        let name = |frame: u64, ending: &str| {
            format!("_review/2026-01-02/20260102T0304{frame:02}000Z-{frame}.{ending}")
        };
        let expected: Vec<_> =
            [1, 3, 4, 6].into_iter().flat_map(|frame| ["jpg", "json"].map(|end| name(frame, end))).collect();
        assert_eq!(uploaded(&blobs, 8), expected);
        assert!(blobs.content(&name(1, "jpg")).unwrap().starts_with(&[0xFF, 0xD8]));
        let note: Sighting = serde_json::from_slice(&blobs.content(&name(4, "json")).unwrap()).unwrap();
        assert_eq!(note, sighting(4, None));
        assert_eq!(blobs.wire.violations(), Vec::<String>::new());
        assert_eq!(reviewer.problem(), None);
        let started = Instant::now();
        while std::fs::read_dir(folder.path()).unwrap().count() > 0 {
            assert!(started.elapsed() < Duration::from_mins(1));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn what_could_not_be_uploaded_outlives_a_restart_and_the_signature_shows_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobStorage::start().unwrap();
        blobs.refuse(403, "AuthenticationFailed", None);
        let mut reviewer = Reviewer::start(settings(folder.path()), container(&blobs)).unwrap();
        reviewer.consider(Duration::ZERO, &sighting(7, None), &[0.5], &picture(9));
        let problem = loop {
            if let Some(problem) = reviewer.problem() {
                break problem;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(problem.contains("403") && !problem.contains("geheim"), "{problem}");
        drop(reviewer);
        let other = BlobStorage::start().unwrap();
        let _again = Reviewer::start(settings(folder.path()), container(&other)).unwrap();
        assert_eq!(uploaded(&other, 2).len(), 2);
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path());
        settings.bytes = 3000;
        for frame in 0..6 {
            keep(&settings, &sighting(frame, None), &[7; 1000]).unwrap();
        }
        assert_eq!(waiting(folder.path()).unwrap().len(), 2);
        assert!(waiting(folder.path()).unwrap()[1].ends_with("-5"));
        // The time of day is set back by years: what came last is still the newest.
        let mut early = sighting(6, None);
        early.time = "1970-01-01T00:00:10.000Z".into();
        keep(&settings, &early, &[7; 1000]).unwrap();
        let names = waiting(folder.path()).unwrap();
        assert!(names[0].ends_with("-5") && names[1].ends_with("-19700101T000010000Z-6"), "{names:?}");
        assert!(keep(&settings, &sighting(9, None), &[7; 5000]).is_err());
    }
}
