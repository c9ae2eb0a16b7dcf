//! Every setting once: name, unit, range, default, words. Flags, environment, `--help` and the table of
//! `mynah-runtime settings` are made from this list.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its name; the flag is `--name`.
    pub name: &'static str,
    /// What stands for its value in `--help`.
    pub value: &'static str,
    /// What a number counts; `-` for text.
    pub unit: &'static str,
    /// Which values are allowed, in words.
    pub allowed: &'static str,
    /// What holds where nobody says otherwise.
    pub default: Default,
    /// Under which heading `--help` lists it.
    pub heading: &'static str,
    /// What it does, as `--help` says it.
    pub about: &'static str,
}

/// What a setting is when it is not given.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// It must be given.
    Required,
    /// This value.
    Value(&'static str),
    /// Something worked out from other things; the words say what.
    Derived(&'static str),
}

impl Definition {
    /// The environment variable, such as `MYNAH_COOLDOWN_FRAMES`.
    pub fn variable(&self) -> String {
        format!("MYNAH_{}", self.name.to_uppercase().replace('-', "_"))
    }
}

const SEES: &str = "What it sees";
const DECIDES: &str = "How it decides";
const SPEAKS: &str = "How it speaks";
const REPORTS: &str = "What it reports";

/// All settings, in the order people read them.
pub const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "model",
        value: "DIR",
        unit: "-",
        allowed: "a folder with model.json, model.onnx, labels.txt",
        default: Default::Required,
        heading: SEES,
        about: "The model package, as export-model writes it",
    },
    Definition {
        name: "source",
        value: "SOURCE",
        unit: "-",
        allowed: "dir:FOLDER[?hold=N&fps=N], hold 1 to 1000, fps 0.01 to 240",
        default: Default::Required,
        heading: SEES,
        about: "Where frames come from. `dir:FOLDER` takes the pictures below a folder in natural order (2 \
                before 10) and ends after the last. Each is shown for `hold` frames (default: --votes, so \
                that a single picture can become steady; say hold=1 for recorded video), `fps` per second \
                (default: as fast as it can)",
    },
    Definition {
        name: "threshold",
        value: "P",
        unit: "probability",
        allowed: "0 to 1",
        default: Default::Derived("the model's reject threshold"),
        heading: DECIDES,
        about: "A frame shows a label from this probability on; below it the frame is \"unknown\"",
    },
    Definition {
        name: "threshold-exit",
        value: "P",
        unit: "probability",
        allowed: "0 to the threshold",
        default: Default::Derived("3/4 of the threshold"),
        heading: DECIDES,
        about: "A label in view stays in view from this probability on",
    },
    Definition {
        name: "votes",
        value: "N",
        unit: "frames",
        allowed: "1 to the window",
        default: Default::Value("3"),
        heading: DECIDES,
        about: "How many frames of the window must show a label before it is said",
    },
    Definition {
        name: "window",
        value: "N",
        unit: "frames",
        allowed: "1 to 1000",
        default: Default::Value("5"),
        heading: DECIDES,
        about: "How many of the last frames are counted",
    },
    Definition {
        name: "leave-frames",
        value: "N",
        unit: "frames",
        allowed: "1 to 100000",
        default: Default::Value("3"),
        heading: DECIDES,
        about: "How many frames in a row must show something else before a label has left and may be said again",
    },
    Definition {
        name: "cooldown-frames",
        value: "N",
        unit: "frames",
        allowed: "0 to 1000000",
        default: Default::Value("0"),
        heading: DECIDES,
        about: "A label that stays in view is said again after this many frames; 0 = never",
    },
    Definition {
        name: "speaker",
        value: "SPEAKER",
        unit: "-",
        allowed: "wav:DIR, command:PROGRAM [ARGUMENT...], none",
        default: Default::Value("none"),
        heading: SPEAKS,
        about: "How words are heard. `wav:DIR` writes one NNN-<label>.wav per utterance; `command:aplay -q` \
                plays each clip through a program that takes the file as its last argument; `none` prints \
                the words only",
    },
    Definition {
        name: "speech",
        value: "DIR",
        unit: "-",
        allowed: "a folder with speech.json",
        default: Default::Derived("no clips: words are printed"),
        heading: SPEAKS,
        about: "The clips of the labels, as build-modules writes them",
    },
    Definition {
        name: "sightings",
        value: "FILE",
        unit: "-",
        allowed: "a file, or - for standard output",
        default: Default::Value("-"),
        heading: REPORTS,
        about: "Where each frame's sighting goes, one line of JSON per frame; a file is begun anew",
    },
    Definition {
        name: "status",
        value: "FILE",
        unit: "-",
        allowed: "a file",
        default: Default::Derived("not written"),
        heading: REPORTS,
        about: "Where the device says how it is (JSON, replaced as a whole, at most once a second)",
    },
    Definition {
        name: "log",
        value: "LEVEL",
        unit: "-",
        allowed: "error, warn, info, debug",
        default: Default::Value("info"),
        heading: REPORTS,
        about: "How much is told on standard error",
    },
];
