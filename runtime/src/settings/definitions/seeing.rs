//! What it sees: settings of model, source and cameras.

use super::{Default, Definition};

const SEES: &str = "What it sees";

/// In the order people read them.
pub(super) const ALL: &[Definition] = &[
    Definition {
        name: "model",
        value: "DIR",
        unit: "-",
        allowed: "a folder with model.json, model.onnx, labels.txt",
        default: Default::Required,
        heading: SEES,
        about: "The model package, as export-model writes it",
        live: false,
    },
    Definition {
        name: "source",
        value: "SOURCE",
        unit: "-",
        allowed: "dir:FOLDER[?hold=N&fps=N], v4l2:[CAMERA][?size=WxH&fps=N&...], http://HOST/PATH, \
                  mjpeg:FILE[?fps=N&live=1], y4m:FILE[?fps=N&live=1]; hold 1 to 1000, fps 0.01 to 240",
        default: Default::Required,
        heading: SEES,
        about: "Where frames come from. `dir:FOLDER` takes the pictures below a folder in natural order (2 \
                before 10) and ends after the last. Each is shown for `hold` frames (default: --votes, so \
                that a single picture can become steady; say hold=1 for recorded video), `fps` per second \
                (default: as fast as it can). `v4l2:` is the first webcam, `v4l2:/dev/v4l/by-id/...`, \
                `v4l2:name=PART OF ITS NAME` or `v4l2:bus=PLACE` a certain one; options are size, fps, format \
                (mjpeg or yuyv) and the camera's controls such as focus or exposure. `http://` is a camera of the \
                network that sends JPEG after JPEG. `mjpeg:` and `y4m:` are recordings, - for standard input; with live=1 they are a camera behind a pipe, of \
                which only the newest frame counts",
        live: true,
    },
    Definition {
        name: "camera-timeout",
        value: "S",
        unit: "seconds",
        allowed: "0.5 to 3600",
        default: Default::Value("5"),
        heading: SEES,
        about: "A camera without a frame for this long is lost: it is told, and opened again with back-off. One that is \
                slow by its nature has three of its intervals; up to one frame a minute it is found to be so",
        live: false,
    },
    Definition {
        name: "still-timeout",
        value: "S",
        unit: "seconds",
        allowed: "0 to 3600",
        default: Default::Value("10"),
        heading: SEES,
        about: "A camera that gives the same bytes or black for this long, and in more than three frames, is lost; 0 = never",
        live: false,
    },
    Definition {
        name: "give-up",
        value: "S",
        unit: "seconds",
        allowed: "0 to 86400",
        default: Default::Value("0"),
        heading: SEES,
        about: "Without a good picture from its camera for this long the device ends with an error, so that whoever runs it starts it anew; 0 = never",
        live: false,
    },
];
