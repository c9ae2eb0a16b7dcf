//! A webcam's life: found, asked for its form, streaming, lost.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Applied, FourCc, Identity, Kernel, Size, negotiate};
use crate::settings::{CameraName, CameraSpec};
use crate::source::natural_order;
use crate::source::raw_frame::RawFrame;
use crate::source::watched::{Camera, CameraError};

/// Enough that one is always being filled, few enough that none is old.
const BUFFERS: u32 = 3;

/// How many stale frames are thrown away at once before the newest is used.
const MAX_STALE: usize = 8;

/// `ENODEV`: the device is gone. `EBUSY`: someone else has it. `EACCES`: this user may not.
const NO_DEVICE: i32 = 19;
const BUSY: i32 = 16;
const NO_ACCESS: i32 = 13;

/// A streaming webcam.
struct Webcam<K> {
    kernel: K,
    applied: Applied,
    rate: f32,
}

impl<K: Kernel> Webcam<K> {
    /// Settles on a form and starts the stream.
    fn start(mut kernel: K, spec: &CameraSpec) -> Result<Self, CameraError> {
        let identity = kernel.identity().map_err(|error| CameraError::io("it is no video device", error))?;
        if !identity.captures {
            return Err(CameraError::new("it gives no pictures: a webcam has a second node that does"));
        }
        let offered =
            kernel.formats().map_err(|error| CameraError::io("cannot ask for its formats", error))?;
        let choice = negotiate::formats(&offered, spec.form);
        if choice.is_empty() {
            let offered: Vec<_> = offered.iter().map(ToString::to_string).collect();
            let offered = offered.join(", ");
            return Err(CameraError::new(format!("it offers {offered}; MJPG, JPEG or YUYV is needed")));
        }
        let mut applied = None;
        let mut last = None;
        for format in choice {
            let sizes =
                kernel.sizes(format).map_err(|error| CameraError::io("cannot ask for its sizes", error))?;
            match kernel.set_format(format, negotiate::size(&sizes, spec)) {
                // The driver may answer with another form than it was asked for.
                Ok(found) if found.format.is_jpeg() || found.format == FourCc::YUYV => {
                    applied = Some(found);
                    break;
                }
                Ok(found) => last = Some(CameraError::new(format!("it insists on {}", found.format))),
                Err(error) => last = Some(refusal("cannot set its format", error)),
            }
        }
        let Some(applied) = applied else {
            return Err(last.unwrap_or_else(|| CameraError::new("it takes no format")));
        };
        let rates = kernel.rates(applied.format, applied.size).unwrap_or_default();
        let wanted = negotiate::rate(&rates, spec);
        // Some cameras have one rate and refuse to hear of it.
        let rate = kernel.set_rate(wanted).unwrap_or(wanted);
        for &(name, id, value) in &spec.controls {
            if let Err(error) = kernel.set_control(id, value) {
                tracing::warn!("the camera `{}` does not take {name} = {value}: {error}", identity.card);
            }
        }
        kernel.start(BUFFERS).map_err(|error| refusal("cannot start its stream", error))?;
        Ok(Self { kernel, applied, rate })
    }

    fn copy(&self, index: u32, used: usize) -> RawFrame {
        let all = self.kernel.bytes(index);
        let bytes = all.get(..used).unwrap_or(all).to_vec();
        let Size { width, height } = self.applied.size;
        if self.applied.format.is_jpeg() {
            RawFrame::Jpeg(bytes)
        } else {
            RawFrame::Yuyv { width, height, stride: self.applied.stride, bytes }
        }
    }
}

impl<K: Kernel> Camera for Webcam<K> {
    fn frame(&mut self, wait: Duration) -> Result<Option<RawFrame>, CameraError> {
        let lost = |error: io::Error| match error.raw_os_error() {
            Some(NO_DEVICE) => CameraError::new("it was unplugged"),
            _ => CameraError::io("it stopped", error),
        };
        let mut newest = None;
        // The wait for the first frame, then, where all buffers were full, for a fresh one: the camera had nowhere to
        // put what it saw since, so even the newest of these is old.
        for _ in 0..2 {
            if !self.kernel.wait(wait).map_err(lost)? {
                break;
            }
            let mut stale = 0;
            for _ in 0..MAX_STALE {
                let Some(filled) = self.kernel.dequeue().map_err(lost)? else { break };
                if !filled.damaged && filled.used > 0 {
                    newest = Some(self.copy(filled.index, filled.used));
                }
                self.kernel.queue(filled.index).map_err(lost)?;
                stale += 1;
            }
            if stale < BUFFERS {
                break;
            }
        }
        Ok(newest)
    }

    fn interval(&self) -> Option<Duration> {
        Duration::try_from_secs_f32(1.0 / self.rate).ok()
    }

    fn form(&self) -> String {
        let Applied { format, size, .. } = self.applied;
        format!("{} × {} {format}, {:.0} a second", size.width, size.height, self.rate)
    }
}

fn refusal(what: &str, error: io::Error) -> CameraError {
    match error.raw_os_error() {
        Some(BUSY) => CameraError::new("another program is using it"),
        Some(NO_ACCESS) => CameraError::new("this user may not use it: it takes the group `video`"),
        Some(NO_DEVICE) => CameraError::new("it was unplugged"),
        _ => CameraError::io(what, error),
    }
}

/// A video device and who it is.
type Found = (PathBuf, io::Result<Identity>);

/// Which of `found` the settings mean: the first that captures and fits.
fn choose(found: Vec<Found>, name: &CameraName) -> Result<PathBuf, CameraError> {
    if let CameraName::Path(path) = name {
        return Ok(path.clone());
    }
    let mut refused = None;
    for (path, identity) in found {
        match identity {
            Ok(identity) if identity.captures => {
                let fits = match name {
                    CameraName::Any | CameraName::Path(_) => true,
                    CameraName::Card(card) => identity.card.contains(card.as_str()),
                    CameraName::Bus(bus) => identity.bus == *bus,
                };
                if fits {
                    return Ok(path);
                }
            }
            Ok(_) => {}
            Err(error) => refused = Some((path, error)),
        }
    }
    Err(match refused {
        Some((path, error)) => refusal(&format!("cannot open `{}`", path.display()), error),
        None => CameraError::new("there is none"),
    })
}

/// The device's name in the folder of stable names: the same wherever it is plugged in.
fn stable_name(device: &Path, links: &Path) -> Option<PathBuf> {
    let device = device.canonicalize().ok()?;
    let names: BTreeSet<PathBuf> =
        std::fs::read_dir(links).ok()?.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    names.into_iter().find(|link| link.canonicalize().is_ok_and(|target| target == device))
}

/// The nodes `videoN` of a folder, in natural order.
fn nodes(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.strip_prefix("video").is_some_and(|number| number.parse::<u32>().is_ok()))
        .collect();
    names.sort_by(|a, b| natural_order(a, b));
    names.into_iter().map(|name| folder.join(name)).collect()
}

#[cfg(target_os = "linux")]
mod machine {
    use super::*;
    use crate::source::v4l2::kernel::VideoDevice;

    const DEVICES: &str = "/dev";
    const STABLE_NAMES: &str = "/dev/v4l/by-id";

    fn found() -> Vec<Found> {
        nodes(Path::new(DEVICES))
            .into_iter()
            .map(|path| {
                let identity = VideoDevice::open(&path).and_then(|mut device| device.identity());
                (path, identity)
            })
            .collect()
    }

    /// Opens the webcam the settings mean.
    ///
    /// # Errors
    /// There is none, it may not be used, or it offers nothing we read.
    pub fn open(spec: &CameraSpec) -> Result<Box<dyn Camera>, CameraError> {
        let path = choose(found(), &spec.name)?;
        let device = VideoDevice::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => CameraError::new(format!("there is no `{}`", path.display())),
            _ => refusal(&format!("cannot open `{}`", path.display()), error),
        })?;
        Ok(Box::new(Webcam::start(device, spec)?))
    }

    /// The webcams of this machine, one a line: how to name them, and what they offer.
    pub fn devices() -> String {
        let mut list = String::new();
        for (path, identity) in found() {
            match identity {
                Ok(identity) if identity.captures => {
                    let stable = stable_name(&path, Path::new(STABLE_NAMES)).unwrap_or_else(|| path.clone());
                    let offers = VideoDevice::open(&path).map(offers).unwrap_or_default();
                    // Writing to a String cannot fail.
                    let _ = writeln!(
                        list,
                        "v4l2:{}  {}, {}, bus {}{offers}",
                        stable.display(),
                        path.display(),
                        identity.card,
                        identity.bus,
                    );
                }
                Ok(_) => {}
                Err(error) => {
                    let _ = writeln!(list, "v4l2:{}  cannot be asked: {error}", path.display());
                }
            }
        }
        list
    }
}

#[cfg(not(target_os = "linux"))]
mod machine {
    use super::*;

    /// There is no such interface here.
    ///
    /// # Errors
    /// Always.
    pub fn open(_: &CameraSpec) -> Result<Box<dyn Camera>, CameraError> {
        Err(CameraError::new("webcams need Linux"))
    }

    /// None: there is no such interface here.
    pub fn devices() -> String {
        String::new()
    }
}

pub use machine::{devices, open};

/// The forms a device offers, for people.
fn offers<K: Kernel>(mut kernel: K) -> String {
    let mut text = String::new();
    for format in kernel.formats().unwrap_or_default() {
        let sizes: Vec<_> = kernel
            .sizes(format)
            .unwrap_or_default()
            .iter()
            .map(|size| format!("{}×{}", size.width, size.height))
            .collect();
        let _ = write!(text, "\n    {format} {}", sizes.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use mynah_testkit::{GREEN, RED, solid_colour_jpeg};

    use super::*;
    use crate::settings::PixelForm;
    use crate::source::v4l2::Filled;

    /// A device that follows a script and notes what it was asked.
    struct Scripted {
        formats: Vec<FourCc>,
        applied: Applied,
        /// What `wait` and `dequeue` answer, in turns; `None` = none yet, an error is an `errno`.
        frames: VecDeque<Result<Option<Filled>, i32>>,
        memory: Vec<Vec<u8>>,
        start: Result<(), i32>,
        asked: Vec<String>,
    }

    fn fail(code: i32) -> io::Error {
        io::Error::from_raw_os_error(code)
    }

    impl Kernel for Scripted {
        fn identity(&mut self) -> io::Result<Identity> {
            Ok(Identity { card: "cam".into(), bus: "usb-1".into(), captures: true })
        }
        fn formats(&mut self) -> io::Result<Vec<FourCc>> {
            Ok(self.formats.clone())
        }
        fn sizes(&mut self, _: FourCc) -> io::Result<Vec<Size>> {
            Ok(vec![Size { width: 64, height: 48 }, Size { width: 640, height: 480 }])
        }
        fn rates(&mut self, _: FourCc, _: Size) -> io::Result<Vec<f32>> {
            Err(fail(25))
        }
        fn set_format(&mut self, format: FourCc, size: Size) -> io::Result<Applied> {
            self.asked.push(format!("{format} {}×{}", size.width, size.height));
            Ok(self.applied)
        }
        fn set_rate(&mut self, _: f32) -> io::Result<f32> {
            Err(fail(25))
        }
        fn set_control(&mut self, id: u32, value: i32) -> io::Result<()> {
            self.asked.push(format!("{id:#x} = {value}"));
            Err(fail(22))
        }
        fn start(&mut self, _: u32) -> io::Result<()> {
            self.start.map_err(fail)
        }
        fn wait(&mut self, _: Duration) -> io::Result<bool> {
            match self.frames.front() {
                Some(Err(code)) => Err(fail(*code)),
                front => Ok(front.is_some()),
            }
        }
        fn dequeue(&mut self) -> io::Result<Option<Filled>> {
            self.frames.pop_front().unwrap_or(Ok(None)).map_err(fail)
        }
        fn bytes(&self, index: u32) -> &[u8] {
            self.memory.get(index as usize).map_or(&[], Vec::as_slice)
        }
        fn queue(&mut self, index: u32) -> io::Result<()> {
            self.asked.push(format!("queue {index}"));
            Ok(())
        }
    }

    fn device(format: FourCc) -> Scripted {
        let size = Size { width: 4, height: 2 };
        Scripted {
            formats: vec![FourCc::YUYV, FourCc::MJPEG],
            applied: Applied { format, size, stride: 8 },
            frames: VecDeque::new(),
            memory: vec![solid_colour_jpeg(RED, 1), vec![0x80; 16]],
            start: Ok(()),
            asked: Vec::new(),
        }
    }

    fn filled(index: u32, used: usize) -> Filled {
        Filled { index, used, damaged: false }
    }

    fn start(device: Scripted, spec: &CameraSpec) -> Result<Webcam<Scripted>, CameraError> {
        Webcam::start(device, spec)
    }

    #[test]
    fn the_form_is_the_drivers_answer_and_controls_do_not_stop_it() {
        let spec = CameraSpec { controls: vec![("focus", 0x009a_090a, 30)], ..CameraSpec::default() };
        let webcam = start(device(FourCc::YUYV), &spec).unwrap();
        assert_eq!(webcam.kernel.asked, ["MJPG 640×480", "0x9a090a = 30"]);
        assert_eq!(webcam.form(), "4 × 2 YUYV, 15 a second");
    }

    #[test]
    fn only_the_newest_frame_counts_and_every_buffer_goes_back() {
        let mut device = device(FourCc::MJPEG);
        let length = device.memory[0].len();
        device.frames = [filled(1, 16), Filled { damaged: true, ..filled(1, 16) }, filled(0, length)]
            .map(|filled| Ok(Some(filled)))
            .into();
        let mut webcam = start(device, &CameraSpec::default()).unwrap();
        let frame = webcam.frame(Duration::ZERO).unwrap();
        assert_eq!(frame, Some(RawFrame::Jpeg(solid_colour_jpeg(RED, 1))));
        assert_eq!(webcam.kernel.asked[1..], ["queue 1", "queue 1", "queue 0"]);
        assert_eq!(webcam.frame(Duration::ZERO).unwrap(), None);
    }

    #[test]
    fn where_all_buffers_were_full_a_fresh_frame_is_waited_for() {
        // While the model was at work a camera of 120 frames a second filled the buffers within 25 ms and then had to
        // drop what it saw.
        let mut device = device(FourCc::MJPEG);
        let (red, green) = (solid_colour_jpeg(RED, 1), solid_colour_jpeg(GREEN, 2));
        let (old, fresh) = (filled(0, red.len()), filled(1, green.len()));
        device.frames = (0..BUFFERS).map(|_| Ok(Some(old))).chain([Ok(None), Ok(Some(fresh))]).collect();
        device.memory = vec![red, green.clone()];
        let mut webcam = start(device, &CameraSpec::default()).unwrap();
        assert_eq!(webcam.frame(Duration::ZERO).unwrap(), Some(RawFrame::Jpeg(green)));
        // A slow camera has no fresh one: the newest is better than none.
        webcam.kernel.frames = (0..BUFFERS).map(|_| Ok(Some(old))).collect();
        assert!(webcam.frame(Duration::ZERO).unwrap().is_some());
        assert_eq!(webcam.interval(), Some(Duration::from_secs_f32(1.0 / 15.0)));
    }

    #[test]
    fn a_frame_that_is_short_or_claims_too_much_is_no_crash() {
        let mut device = device(FourCc::YUYV);
        device.frames = [filled(1, 9), filled(1, 99_999), filled(7, 4)].map(|filled| Ok(Some(filled))).into();
        let mut webcam = start(device, &CameraSpec::default()).unwrap();
        // The newest has no memory behind it.
        let frame = webcam.frame(Duration::ZERO).unwrap().unwrap();
        assert!(frame.decode().is_err());
    }

    #[test]
    fn faults_are_told_in_words() {
        let faults = [(19, "it was unplugged"), (5, "it stopped")];
        for (code, says) in faults {
            let mut device = device(FourCc::MJPEG);
            device.frames = [Err(code)].into();
            let error = start(device, &CameraSpec::default()).unwrap().frame(Duration::ZERO).unwrap_err();
            assert_eq!(error.to_string(), says);
        }
        let starting =
            [(16, "another program is using it"), (13, "group `video`"), (12, "cannot start its stream")];
        for (code, says) in starting {
            let device = Scripted { start: Err(code), ..device(FourCc::MJPEG) };
            let error = start(device, &CameraSpec::default()).err().unwrap();
            assert!(error.to_string().contains(says), "{error}");
        }
        let wanting = CameraSpec { form: Some(PixelForm::Mjpeg), ..CameraSpec::default() };
        let grey = Scripted { formats: vec![FourCc(0x5945_5247)], ..device(FourCc::MJPEG) };
        assert!(start(grey, &wanting).err().unwrap().to_string().contains("it offers GREY"));
        let stubborn = device(FourCc(0x5945_5247));
        assert_eq!(start(stubborn, &wanting).err().unwrap().to_string(), "it insists on GREY");
    }

    #[test]
    fn a_camera_is_found_by_name_place_or_as_the_first() {
        let camera =
            |card: &str, bus: &str, captures| Identity { card: card.into(), bus: bus.into(), captures };
        let found = || -> Vec<Found> {
            vec![
                ("/dev/video0".into(), Ok(camera("Front cam", "usb-1", false))),
                ("/dev/video1".into(), Err(fail(13))),
                ("/dev/video2".into(), Ok(camera("Front cam", "usb-1", true))),
                ("/dev/video4".into(), Ok(camera("Back cam", "usb-2", true))),
            ]
        };
        for (name, path) in [
            (CameraName::Any, "/dev/video2"),
            (CameraName::Card("Back".into()), "/dev/video4"),
            (CameraName::Bus("usb-2".into()), "/dev/video4"),
            (CameraName::Path("/dev/x".into()), "/dev/x"),
        ] {
            assert_eq!(choose(found(), &name).unwrap(), Path::new(path));
        }
        let error = choose(found(), &CameraName::Card("Side".into())).unwrap_err();
        assert!(error.to_string().contains("group `video`"), "{error}");
        assert_eq!(choose(Vec::new(), &CameraName::Any).unwrap_err().to_string(), "there is none");
    }

    #[test]
    fn nodes_come_in_natural_order_and_have_stable_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["video10", "video2", "videoX", "v4l", "audio1"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = nodes(folder.path());
        assert_eq!(found, [folder.path().join("video2"), folder.path().join("video10")]);
        let links = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path().join("video2"), links.path().join("usb-cam")).unwrap();
        assert_eq!(stable_name(&found[0], links.path()), Some(links.path().join("usb-cam")));
        assert_eq!(stable_name(&found[1], links.path()), None);
    }
}
