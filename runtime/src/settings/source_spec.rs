//! The text that says where frames come from: a folder, a webcam, a camera of the network, a recording.

use std::path::PathBuf;

use super::values::{count, decimal, path};
use crate::secret::Secret;
use crate::source::v4l2::CONTROLS;

/// Where frames come from.
#[derive(Clone, PartialEq, Debug)]
pub enum SourceSpec {
    /// The pictures below a folder, in natural order.
    Folder {
        /// The folder.
        path: PathBuf,
        /// For how many frames each picture is shown, 1 to 1000.
        hold: u32,
        /// Frames per second, 0.01 to 240; absent = as fast as they are taken.
        fps: Option<f32>,
    },
    /// A webcam.
    Camera(CameraSpec),
    /// A camera of the network.
    Stream(StreamAddress),
    /// A recording, or a camera behind a pipe.
    Recording(RecordingSpec),
}

/// A recording, or a camera behind a pipe.
#[derive(Clone, PartialEq, Debug)]
pub struct RecordingSpec {
    /// The file or pipe; absent = standard input.
    pub path: Option<PathBuf>,
    /// How its frames are stored.
    pub form: RecordingForm,
    /// Frames per second, 0.01 to 240; absent = as they come.
    pub fps: Option<f32>,
    /// Whether only the newest frame counts, as of a camera.
    pub live: bool,
}

/// How a recording's frames are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordingForm {
    /// JPEG after JPEG.
    Mjpeg,
    /// YUV4MPEG2.
    Y4m,
}

/// A webcam and what is wished of it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct CameraSpec {
    /// Which.
    pub name: CameraName,
    /// Width and height in pixels, each 16 to 8192; absent = 640 × 480.
    pub size: Option<(u32, u32)>,
    /// Frames per second, 0.01 to 240; absent = 15.
    pub fps: Option<f32>,
    /// How pixels travel; absent = compressed where it can.
    pub form: Option<PixelForm>,
    /// Controls: their name, the kernel's number, the value.
    pub controls: Vec<(&'static str, u32, i32)>,
}

/// Which webcam.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum CameraName {
    /// The first there is.
    #[default]
    Any,
    /// A device node, or a stable link to one.
    Path(PathBuf),
    /// The first whose name holds this.
    Card(String),
    /// The one that is plugged in there.
    Bus(String),
}

/// How a webcam's pixels travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PixelForm {
    /// As JPEG.
    Mjpeg,
    /// Uncompressed.
    Yuyv,
}

/// Where a camera of the network is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamAddress {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// `user:password`.
    pub credentials: Option<Secret>,
}

impl StreamAddress {
    /// Reads `http://[USER:PASSWORD@]HOST[:PORT][/PATH]`.
    ///
    /// # Errors
    /// Says what is wrong, without the password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest =
            text.strip_prefix("http://").ok_or("a camera of the network is written `http://HOST/PATH`")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if !path.chars().all(|c| c.is_ascii_graphic()) {
            return Err("the path of an address holds printable ASCII only; write others as %XX".into());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (Some(Secret::new(credentials)), place),
            None => (None, authority),
        };
        let bracketed = place.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, port) = match bracketed {
            Some((host, port)) => (host, port.strip_prefix(':').unwrap_or(port)),
            None => place.split_once(':').unwrap_or((place, "")),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(plain) {
            return Err("an address holds the name of a host after `http://`".into());
        }
        let port = if port.is_empty() {
            80
        } else {
            count(port, 1, u16::MAX).map_err(|what| format!("of ports, {what}"))?
        };
        Ok(Self { host: host.to_owned(), port, path, credentials })
    }
}

impl SourceSpec {
    /// Reads the text; what follows the last `?` are options. `hold` is the default for each picture.
    pub(super) fn parse(text: &str, hold: u32) -> Result<Self, String> {
        if text.starts_with("http://") {
            return StreamAddress::parse(text).map(Self::Stream);
        }
        let (kind, rest) = text.split_once(':').ok_or(FORMS)?;
        let (place, options) = rest.rsplit_once('?').unwrap_or((rest, ""));
        let options = Options::parse(options)?;
        match kind {
            "dir" if place.is_empty() => Err("`dir:` is followed by a folder".into()),
            "dir" => Ok(Self::Folder {
                path: path(place)?,
                hold: options.take("hold", |value| count(value, 1, 1000))?.unwrap_or(hold),
                fps: options.take("fps", rate)?,
            })
            .and_then(|spec| options.none_but(&["hold", "fps"]).map(|()| spec)),
            "v4l2" => camera(place, &options).map(Self::Camera),
            "mjpeg" | "y4m" if place.is_empty() => {
                Err(format!("`{kind}:` is followed by a file, or - for standard input"))
            }
            "mjpeg" | "y4m" => {
                options.none_but(&["fps", "live"])?;
                Ok(Self::Recording(RecordingSpec {
                    path: if place == "-" { None } else { Some(path(place)?) },
                    form: if kind == "mjpeg" { RecordingForm::Mjpeg } else { RecordingForm::Y4m },
                    fps: options.take("fps", rate)?,
                    live: options.take("live", |value| count(value, 0, 1))?.unwrap_or(0) == 1,
                }))
            }
            _ => Err(FORMS.into()),
        }
    }
}

/// What a source can be.
const FORMS: &str =
    "a source is written `dir:FOLDER`, `v4l2:CAMERA`, `http://HOST/PATH`, `mjpeg:FILE` or `y4m:FILE`";

fn rate(text: &str) -> Result<f32, String> {
    decimal(text, 0.01, 240.0)
}

fn camera(place: &str, options: &Options<'_>) -> Result<CameraSpec, String> {
    let name = match place.split_once('=') {
        _ if place.is_empty() => CameraName::Any,
        Some(("name", card)) if !card.is_empty() => CameraName::Card(card.to_owned()),
        Some(("bus", bus)) if !bus.is_empty() => CameraName::Bus(bus.to_owned()),
        _ => CameraName::Path(path(place)?),
    };
    let mut known = vec!["size", "fps", "format"];
    known.extend(CONTROLS.iter().map(|(name, _)| *name));
    options.none_but(&known)?;
    let mut controls = Vec::new();
    for (name, id) in CONTROLS {
        if let Some(value) = options.take(name, |value| count(value, i32::MIN, i32::MAX))? {
            controls.push((name, id, value));
        }
    }
    Ok(CameraSpec {
        name,
        size: options.take("size", |value| {
            let (width, height) = value.split_once('x').ok_or("a size such as `640x480` is allowed")?;
            Ok((count(width, 16, 8192)?, count(height, 16, 8192)?))
        })?,
        fps: options.take("fps", rate)?,
        form: options.take("format", |value| match value {
            "mjpeg" => Ok(PixelForm::Mjpeg),
            "yuyv" => Ok(PixelForm::Yuyv),
            _ => Err("`mjpeg` or `yuyv` is allowed".to_owned()),
        })?,
        controls,
    })
}

/// `NAME=VALUE` separated by `&`.
struct Options<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Options<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        text.split('&')
            .filter(|option| !option.is_empty())
            .map(|option| {
                option.split_once('=').ok_or_else(|| {
                    format!("the option `{}` is not of the form `NAME=VALUE`", option.escape_debug())
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn take<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let Some((_, value)) = self.0.iter().rev().find(|(given, _)| *given == name) else { return Ok(None) };
        parse(value)
            .map(Some)
            .map_err(|what| format!("in the option `{name}={}`, {what}", value.escape_debug()))
    }

    fn none_but(&self, known: &[&str]) -> Result<(), String> {
        match self.0.iter().find(|(given, _)| !known.contains(given)) {
            Some((given, _)) => Err(format!(
                "there is no option `{}` here; allowed are {}",
                given.escape_debug(),
                known.join(", ")
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn options_follow_the_last_question_mark() {
        let folder = |path: &str, hold, fps| SourceSpec::Folder { path: path.into(), hold, fps };
        for (text, expected) in [
            ("dir:frames", folder("frames", 3, None)),
            ("dir:/a b/c?hold=1", folder("/a b/c", 1, None)),
            ("dir:f?fps=4&hold=2", folder("f", 2, Some(4.0))),
            ("dir:odd?name?", folder("odd?name", 3, None)),
        ] {
            assert_eq!(SourceSpec::parse(text, 3).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn cameras_are_named_by_path_name_or_place() {
        let camera = |text: &str| match SourceSpec::parse(text, 3).unwrap() {
            SourceSpec::Camera(camera) => camera,
            other => panic!("{other:?}"),
        };
        assert_eq!(camera("v4l2:"), CameraSpec::default());
        assert_eq!(camera("v4l2:/dev/video2").name, CameraName::Path("/dev/video2".into()));
        assert_eq!(camera("v4l2:name=HD Pro").name, CameraName::Card("HD Pro".into()));
        assert_eq!(
            camera("v4l2:bus=usb-0000:01:00.0-1.2").name,
            CameraName::Bus("usb-0000:01:00.0-1.2".into())
        );
        let full = camera("v4l2:/dev/video0?size=1280x720&fps=30&format=yuyv&focus-auto=0&focus=-3");
        assert_eq!((full.size, full.fps, full.form), (Some((1280, 720)), Some(30.0), Some(PixelForm::Yuyv)));
        assert_eq!(full.controls, [("focus", 0x009a_090a, -3), ("focus-auto", 0x009a_090c, 0)]);
    }

    #[test]
    fn streams_and_recordings_are_read() {
        let stream = StreamAddress::parse("http://me:a@b@cam.local:8080/?action=stream").unwrap();
        assert_eq!(
            (stream.host.as_str(), stream.port, stream.path.as_str()),
            ("cam.local", 8080, "/?action=stream")
        );
        assert_eq!(stream.credentials.unwrap().expose(), "me:a@b");
        let six = StreamAddress::parse("http://[::1]:81").unwrap();
        assert_eq!((six.host.as_str(), six.port, six.path.as_str()), ("::1", 81, "/"));
        let recording = |path: Option<&str>, form, fps, live| {
            SourceSpec::Recording(RecordingSpec { path: path.map(Into::into), form, fps, live })
        };
        for (text, expected) in [
            ("y4m:-", recording(None, RecordingForm::Y4m, None, false)),
            ("mjpeg:a.mjpg?fps=4", recording(Some("a.mjpg"), RecordingForm::Mjpeg, Some(4.0), false)),
            ("mjpeg:-?live=1", recording(None, RecordingForm::Mjpeg, None, true)),
        ] {
            assert_eq!(SourceSpec::parse(text, 3).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("frames", "`dir:FOLDER`"),
            ("usb:0", "`v4l2:CAMERA`"),
            ("dir:", "followed by a folder"),
            ("dir:f?hold=0", "in the option `hold=0`, a whole number from 1 to 1000 is allowed"),
            ("dir:f?fps=fast", "in the option `fps=fast`, a number from 0.01 to 240"),
            ("dir:f?loop=1", "there is no option `loop` here; allowed are hold, fps"),
            ("dir:f?loop", "`NAME=VALUE`"),
            ("v4l2:?size=640", "in the option `size=640`"),
            ("v4l2:?size=640x1", "from 16 to 8192"),
            ("v4l2:?format=h264", "`mjpeg` or `yuyv`"),
            ("v4l2:?focus=near", "a whole number"),
            ("y4m:", "followed by a file"),
            ("y4m:-?live=yes", "in the option `live=yes`, a whole number from 0 to 1"),
            ("http://", "name of a host"),
            ("http://h:0/", "of ports, a whole number from 1 to 65535"),
        ] {
            let error = SourceSpec::parse(text, 3).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_in_range(text in "(dir:)?.{0,20}(\\?(hold|fps)?=?[0-9.]{0,5}&?)?") {
            if let Ok(SourceSpec::Folder { hold, fps, .. }) = SourceSpec::parse(&text, 3) {
                prop_assert!((1..=1000).contains(&hold));
                prop_assert!(fps.is_none_or(|fps| (0.01..=240.0).contains(&fps)));
            }
        }
    }
}
