//! A folder of pictures as a source: each is shown for some frames, and after the last the source ends.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use mynah_photo::{Limits, RgbImage};

use super::pace::Pace;
use super::{FrameError, FrameSource, Next, SourceError, natural_order};
use crate::clock::Clock;

/// How far below the folder pictures are looked for.
const MAX_DEPTH: usize = 16;

/// Enough of a file to tell its type.
const SIGNATURE_BYTES: u64 = 64;

/// Name endings of the types we read. Such a file without a picture's content is a damaged frame, not a
/// file of another kind.
const PICTURE_ENDINGS: [&str; 6] = ["bmp", "gif", "jpeg", "jpg", "png", "webp"];

/// The pictures below a folder, in natural order of their paths.
pub struct Folder {
    root: PathBuf,
    /// Paths below the root with forward slashes, the next one last.
    waiting: Vec<String>,
    hold: u32,
    /// How many more frames the picture at hand is shown for.
    held: u32,
    pace: Option<Pace>,
    limits: Limits,
    /// A file's bytes; kept between files so that its memory is taken once.
    bytes: Vec<u8>,
}

impl Folder {
    /// Lists the folder. Each picture is shown for `hold` frames (at least 1), `fps` frames per second.
    ///
    /// Names that begin with a dot and files of other kinds are passed over; links to folders are not
    /// followed.
    ///
    /// # Errors
    /// The folder cannot be listed, or holds no picture.
    pub fn open(root: &Path, hold: u32, fps: Option<f32>, clock: Rc<dyn Clock>) -> Result<Self, SourceError> {
        let mut found = Listing::default();
        found.list(root, "", 0).map_err(|(folder, source)| SourceError::List { folder, source })?;
        if found.pictures.is_empty() {
            return Err(SourceError::Empty { folder: root.to_path_buf(), others: found.others });
        }
        if found.others > 0 {
            tracing::info!("{} files in `{}` are not pictures", found.others, root.display());
        }
        found.pictures.sort_by(|a, b| natural_order(b, a));
        let pace = fps.map(|fps| Pace::new(fps, clock));
        Ok(Self {
            root: root.to_path_buf(),
            waiting: found.pictures,
            hold,
            held: 0,
            pace,
            limits: Limits::default(),
            bytes: Vec::new(),
        })
    }

    fn read(&mut self, name: &str) -> Result<RgbImage, FrameError> {
        let file = File::open(self.root.join(name)).map_err(FrameError::Read)?;
        let length = file.metadata().map_err(FrameError::Read)?.len();
        self.limits.check_file(length)?;
        self.bytes.clear();
        // A file that grows meanwhile is not followed.
        file.take(length).read_to_end(&mut self.bytes).map_err(FrameError::Read)?;
        Ok(mynah_photo::decode(&self.bytes, &self.limits)?.image)
    }
}

impl FrameSource for Folder {
    fn next_frame(&mut self) -> Next {
        if self.held == 0 && self.waiting.is_empty() {
            return Next::End;
        }
        if !self.pace.as_mut().is_none_or(Pace::is_due) {
            return Next::Waiting;
        }
        if self.held > 0 {
            self.held -= 1;
            return Next::Held;
        }
        let Some(name) = self.waiting.pop() else { return Next::End };
        match self.read(&name) {
            Ok(image) => {
                self.held = self.hold.saturating_sub(1);
                Next::Picture { image, name: Some(name), jpeg: None }
            }
            Err(error) => Next::Unreadable { name: Some(name), error },
        }
    }

    fn silence(&self) -> Duration {
        self.pace.as_ref().map_or(Duration::ZERO, Pace::silence)
    }
}

/// What lies below a folder.
#[derive(Default)]
struct Listing {
    pictures: Vec<String>,
    others: usize,
}

impl Listing {
    fn list(&mut self, folder: &Path, prefix: &str, depth: usize) -> Result<(), (PathBuf, io::Error)> {
        let failed = |source| (folder.to_path_buf(), source);
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else {
                self.others += 1;
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            let path = entry.path();
            let below = format!("{prefix}{name}");
            if entry.file_type().map_err(failed)?.is_dir() {
                if depth < MAX_DEPTH {
                    self.list(&path, &format!("{below}/"), depth + 1)?;
                }
            } else if is_picture(&path) {
                self.pictures.push(below);
            } else {
                self.others += 1;
            }
        }
        Ok(())
    }
}

/// Whether the file begins like a picture, or is named like one.
fn is_picture(path: &Path) -> bool {
    let named = path
        .extension()
        .and_then(|ending| ending.to_str())
        .is_some_and(|ending| PICTURE_ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)));
    match path.metadata() {
        // A pipe or a device would keep the reader waiting for ever.
        Ok(metadata) => metadata.is_file() && (named || begins_like_a_picture(path)),
        Err(_) => named,
    }
}

fn begins_like_a_picture(path: &Path) -> bool {
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(SIGNATURE_BYTES).read_to_end(&mut start)).is_ok()
        && mynah_photo::sniff(&start).is_some()
}

#[cfg(test)]
mod tests {
    use mynah_testkit::solid_colour_jpeg;

    use super::*;
    use crate::clock::ManualClock;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        folder
    }

    /// Takes every frame; `=` is a held one, `!` an unreadable one.
    fn frames(source: &mut dyn FrameSource) -> Vec<String> {
        let mut frames = Vec::new();
        loop {
            frames.push(match source.next_frame() {
                Next::Picture { name, .. } => name.unwrap(),
                Next::Held => "=".into(),
                Next::Unreadable { name, .. } => format!("!{}", name.unwrap()),
                Next::End => return frames,
                other => panic!("{other:?}"),
            });
        }
    }

    #[test]
    fn pictures_come_in_natural_order_and_are_held() {
        let jpeg = solid_colour_jpeg([200, 30, 30], 1);
        let folder = folder(&[
            ("f10.jpg", &jpeg),
            ("f2.data", &jpeg),
            ("a/1.jpg", &jpeg),
            ("notes.txt", b"no picture"),
            (".hidden.jpg", &jpeg),
        ]);
        let mut source = Folder::open(folder.path(), 2, None, Rc::new(ManualClock::default())).unwrap();
        assert_eq!(frames(&mut source), ["a/1.jpg", "=", "f2.data", "=", "f10.jpg", "="]);
        assert!(matches!(source.next_frame(), Next::End));
    }

    #[test]
    fn damaged_frames_are_named_and_not_held() {
        let jpeg = solid_colour_jpeg([200, 30, 30], 1);
        let folder = folder(&[
            ("1.jpg", &jpeg),
            ("2.jpg", &jpeg[..200]),
            ("3.jpg", b""),
            ("4.png", b"text"),
            ("5.jpg", &jpeg),
        ]);
        let mut source = Folder::open(folder.path(), 2, None, Rc::new(ManualClock::default())).unwrap();
        assert_eq!(frames(&mut source), ["1.jpg", "=", "!2.jpg", "!3.jpg", "!4.png", "5.jpg", "="]);
    }

    #[test]
    fn a_file_that_vanished_is_an_unreadable_frame() {
        let jpeg = solid_colour_jpeg([200, 30, 30], 1);
        let folder = folder(&[("1.jpg", &jpeg)]);
        let mut source = Folder::open(folder.path(), 1, None, Rc::new(ManualClock::default())).unwrap();
        std::fs::remove_file(folder.path().join("1.jpg")).unwrap();
        assert!(matches!(source.next_frame(), Next::Unreadable { error: FrameError::Read(_), .. }));
    }

    #[test]
    fn a_folder_without_pictures_is_refused() {
        let folder = folder(&[("notes.txt", b"no picture")]);
        let open = |path: &Path| Folder::open(path, 1, None, Rc::new(ManualClock::default())).err().unwrap();
        assert!(matches!(open(folder.path()), SourceError::Empty { others: 1, .. }));
        assert!(matches!(open(&folder.path().join("missing")), SourceError::List { .. }));
        assert!(matches!(open(&folder.path().join("notes.txt")), SourceError::List { .. }));
    }

    #[test]
    fn a_slow_folder_leaves_time_for_other_things_and_says_how_slow_it_is() {
        let jpeg = solid_colour_jpeg([200, 30, 30], 1);
        let folder = folder(&[("1.jpg", &jpeg)]);
        let clock = Rc::new(ManualClock::default());
        let mut source = Folder::open(folder.path(), 2, Some(0.0625), clock.clone()).unwrap();
        assert!(matches!(source.next_frame(), Next::Picture { .. }));
        let mut looks = 0;
        while matches!(source.next_frame(), Next::Waiting) {
            looks += 1;
        }
        assert_eq!((looks, clock.uptime().as_secs(), source.silence().as_secs()), (15, 16, 48));
    }

    #[test]
    fn frames_come_at_their_pace_and_do_not_catch_up() {
        let jpeg = solid_colour_jpeg([200, 30, 30], 1);
        let folder = folder(&[("1.jpg", &jpeg)]);
        let clock = Rc::new(ManualClock::default());
        let mut source = Folder::open(folder.path(), 4, Some(4.0), clock.clone()).unwrap();
        let mut due = Vec::new();
        for work in [0, 0, 600, 0] {
            source.next_frame();
            due.push(clock.uptime().as_millis());
            clock.advance(Duration::from_millis(work));
        }
        assert_eq!(due, [0, 250, 500, 1100]);
    }
}
