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
    /// Whether it can change while the device runs: on SIGHUP, or by the hub.
    pub live: bool,
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

    /// The hub's property, such as `cooldownFrames`.
    pub fn property(&self) -> String {
        let mut words = self.name.split('-');
        let mut property = words.next().unwrap_or_default().to_owned();
        for word in words {
            let (first, rest) = word.split_at(word.len().min(1));
            property.extend([&first.to_uppercase(), rest]);
        }
        property
    }
}

const SETS: &str = "Where settings come from";
const SEES: &str = "What it sees";
const DECIDES: &str = "How it decides";
const SPEAKS: &str = "How it speaks";
const SERVES: &str = "What it serves";
const SENDS: &str = "What it sends to a hub";
const REPORTS: &str = "What it reports";

/// All settings, in the order people read them.
pub const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "config",
        value: "FILE",
        unit: "-",
        allowed: "a file of lines `name = value`; # begins a comment",
        default: Default::Derived("no file"),
        heading: SETS,
        about: "Settings from a file, read again on SIGHUP; the environment and flags come before it",
        live: false,
    },
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
                  mjpeg:FILE[?fps=N], y4m:FILE[?fps=N]; hold 1 to 1000, fps 0.01 to 240",
        default: Default::Required,
        heading: SEES,
        about: "Where frames come from. `dir:FOLDER` takes the pictures below a folder in natural order (2 \
                before 10) and ends after the last. Each is shown for `hold` frames (default: --votes, so \
                that a single picture can become steady; say hold=1 for recorded video), `fps` per second \
                (default: as fast as it can). `v4l2:` is the first webcam, `v4l2:/dev/v4l/by-id/...`, \
                `v4l2:name=PART OF ITS NAME` or `v4l2:bus=PLACE` a certain one; options are size, fps, format \
                (mjpeg or yuyv) and the camera's controls such as focus or exposure. `http://` is a camera of the \
                network that sends JPEG after JPEG. `mjpeg:` and `y4m:` are recordings, - for standard input",
        live: true,
    },
    Definition {
        name: "camera-timeout",
        value: "S",
        unit: "seconds",
        allowed: "0.5 to 3600",
        default: Default::Value("5"),
        heading: SEES,
        about: "A camera without a frame for this long is lost: it is told, and opened again with back-off",
        live: false,
    },
    Definition {
        name: "still-timeout",
        value: "S",
        unit: "seconds",
        allowed: "0 to 3600",
        default: Default::Value("10"),
        heading: SEES,
        about: "A camera that gives the same bytes or black for this long is lost; 0 = never",
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
    Definition {
        name: "threshold",
        value: "P",
        unit: "probability",
        allowed: "0 to 1",
        default: Default::Derived("the model's reject threshold"),
        heading: DECIDES,
        about: "A frame shows a label from this probability on; below it the frame is \"unknown\"",
        live: true,
    },
    Definition {
        name: "threshold-exit",
        value: "P",
        unit: "probability",
        allowed: "0 to the threshold",
        default: Default::Derived("3/4 of the threshold"),
        heading: DECIDES,
        about: "A label in view stays in view from this probability on",
        live: true,
    },
    Definition {
        name: "margin",
        value: "P",
        unit: "probability",
        allowed: "0 to 1",
        default: Default::Value("0"),
        heading: DECIDES,
        about: "By how much the best label must exceed the second for a frame to show it",
        live: true,
    },
    Definition {
        name: "smoothing",
        value: "W",
        unit: "share",
        allowed: "0 to 0.99",
        default: Default::Value("0"),
        heading: DECIDES,
        about: "The weight of the frames before in a frame's probabilities; 0 = each frame for itself",
        live: true,
    },
    Definition {
        name: "votes",
        value: "N",
        unit: "frames",
        allowed: "1 to the window",
        default: Default::Value("3"),
        heading: DECIDES,
        about: "How many frames of the window must show a label before it is said",
        live: true,
    },
    Definition {
        name: "window",
        value: "N",
        unit: "frames",
        allowed: "1 to 1000",
        default: Default::Value("5"),
        heading: DECIDES,
        about: "How many of the last frames are counted",
        live: true,
    },
    Definition {
        name: "leave-frames",
        value: "N",
        unit: "frames",
        allowed: "1 to 100000",
        default: Default::Value("3"),
        heading: DECIDES,
        about: "How many frames in a row must show something else before a label has left and may be said again",
        live: true,
    },
    Definition {
        name: "cooldown-frames",
        value: "N",
        unit: "frames",
        allowed: "0 to 1000000",
        default: Default::Value("0"),
        heading: DECIDES,
        about: "A label that stays in view is said again after this many frames; 0 = never",
        live: true,
    },
    Definition {
        name: "pause",
        value: "S",
        unit: "seconds",
        allowed: "0 to 3600",
        default: Default::Value("0"),
        heading: DECIDES,
        about: "The least time between two words; a word that has to wait is said if what it names is still in view",
        live: true,
    },
    Definition {
        name: "words-per-minute",
        value: "N",
        unit: "words",
        allowed: "0 to 600",
        default: Default::Value("0"),
        heading: DECIDES,
        about: "The most words within any minute; 0 = any number",
        live: true,
    },
    Definition {
        name: "label-thresholds",
        value: "LIST",
        unit: "probability",
        allowed: "LABEL=P[;LABEL=P]..., P 0 to 1",
        default: Default::Derived("none"),
        heading: DECIDES,
        about: "Labels with a threshold of their own; their exit threshold keeps the ratio of the other two",
        live: true,
    },
    Definition {
        name: "reset-labels",
        value: "LIST",
        unit: "-",
        allowed: "LABEL[;LABEL]...",
        default: Default::Derived("none"),
        heading: DECIDES,
        about: "Labels that are never said and, once steady, make everything in view count as having left, such as the hand that takes things away",
        live: true,
    },
    Definition {
        name: "negative-labels",
        value: "LIST",
        unit: "-",
        allowed: "LABEL[;LABEL]...",
        default: Default::Derived("none"),
        heading: DECIDES,
        about: "Labels that name nothing, such as an empty table: a frame that shows one shows nothing known",
        live: true,
    },
    Definition {
        name: "motion",
        value: "SHARE",
        unit: "share",
        allowed: "0 to 1",
        default: Default::Value("0"),
        heading: DECIDES,
        about: "A picture is judged only if at least this share of it changed since the last that was, at any resolution; until then the last judgement holds. 0 = every picture is judged",
        live: true,
    },
    Definition {
        name: "speaker",
        value: "SPEAKER",
        unit: "-",
        allowed: "card[:NAME], wav:DIR, command:PROGRAM [ARGUMENT...], none",
        default: Default::Value("none"),
        heading: SPEAKS,
        about: "How words are heard. `card` is the default sound card, `card:NAME` the first whose name holds NAME (a \
                program built with the feature sound-card). `wav:DIR` writes one NNN-<label>.wav per utterance; `command:aplay -q` \
                plays each clip through a program that takes the file as its last argument; `none` prints \
                the words only",
        live: false,
    },
    Definition {
        name: "volume",
        value: "V",
        unit: "share",
        allowed: "0 to 1",
        default: Default::Value("1"),
        heading: SPEAKS,
        about: "How loud a sound card plays; other speakers play clips as they are",
        live: false,
    },
    Definition {
        name: "mute-hours",
        value: "SPAN",
        unit: "time of day",
        allowed: "HH:MM-HH:MM",
        default: Default::Derived("never"),
        heading: SPEAKS,
        about: "When words are printed only, by the device's own time zone; the span may pass midnight",
        live: true,
    },
    Definition {
        name: "speech",
        value: "DIR",
        unit: "-",
        allowed: "a folder with speech.json",
        default: Default::Derived("no clips: words are printed"),
        heading: SPEAKS,
        about: "The clips of the labels, as build-modules writes them",
        live: false,
    },
    Definition {
        name: "http",
        value: "ADDRESS",
        unit: "-",
        allowed: "[ADDRESS:]PORT",
        default: Default::Derived("no server"),
        heading: SERVES,
        about: "Where the live page, health, metrics and the Custom Vision container API are served. A port alone listens to this machine only; 0.0.0.0:80 to everyone",
        live: false,
    },
    Definition {
        name: "http-token-file",
        value: "FILE",
        unit: "-",
        allowed: "a file with 16 to 200 letters, digits, - . _ ~",
        default: Default::Derived("no token"),
        heading: SERVES,
        about: "What clients must present as `Authorization: Bearer TOKEN`, or a browser once as /?token=TOKEN. Without it, pictures are shown to this machine only",
        live: false,
    },
    Definition {
        name: "url-fetch",
        value: "WHICH",
        unit: "-",
        allowed: "off, public, any",
        default: Default::Value("public"),
        heading: SERVES,
        about: "From where `/url` may fetch pictures: nowhere, the public internet, or private networks too",
        live: false,
    },
    Definition {
        name: "hub",
        value: "HUB",
        unit: "-",
        allowed: "edge, device, mqtt://HOST[:PORT], mqtts://HOST[:PORT]",
        default: Default::Derived("none"),
        heading: SENDS,
        about: "Where sightings are sent and settings come from: Edge Hub as a module of IoT Edge, IoT Hub as a device, or any MQTT broker (which sends no settings)",
        live: false,
    },
    Definition {
        name: "hub-connection-file",
        value: "FILE",
        unit: "-",
        allowed: "a file with HostName=...;DeviceId=...;SharedAccessKey=...",
        default: Default::Derived("none"),
        heading: SENDS,
        about: "The device's connection string, for the hub `device`",
        live: false,
    },
    Definition {
        name: "hub-ca-file",
        value: "FILE",
        unit: "-",
        allowed: "a file of certificates in PEM",
        default: Default::Derived("the machine's certificates"),
        heading: SENDS,
        about: "Whom to trust instead of whom this machine trusts; Edge Hub brings its own",
        live: false,
    },
    Definition {
        name: "hub-port",
        value: "PORT",
        unit: "-",
        allowed: "1 to 65535",
        default: Default::Derived("8883, or 1883 for mqtt://"),
        heading: SENDS,
        about: "The port, where it is not the usual one",
        live: false,
    },
    Definition {
        name: "hub-output",
        value: "NAME",
        unit: "-",
        allowed: "one name",
        default: Default::Value("output1"),
        heading: SENDS,
        about: "The output of the module to which sightings are sent",
        live: false,
    },
    Definition {
        name: "mqtt-topic",
        value: "TOPIC",
        unit: "-",
        allowed: "names with / between",
        default: Default::Value("mynah"),
        heading: SENDS,
        about: "What topics at an MQTT broker begin with: TOPIC/sighting, TOPIC/status, TOPIC/availability",
        live: false,
    },
    Definition {
        name: "mqtt-user",
        value: "NAME",
        unit: "-",
        allowed: "a name",
        default: Default::Derived("nobody"),
        heading: SENDS,
        about: "The user at an MQTT broker",
        live: false,
    },
    Definition {
        name: "mqtt-password-file",
        value: "FILE",
        unit: "-",
        allowed: "a file with the password",
        default: Default::Derived("no password"),
        heading: SENDS,
        about: "The user's password",
        live: false,
    },
    Definition {
        name: "home-assistant",
        value: "YES",
        unit: "-",
        allowed: "yes, no",
        default: Default::Value("no"),
        heading: SENDS,
        about: "Tell Home Assistant of the device, by its discovery topics at an MQTT broker",
        live: false,
    },
    Definition {
        name: "telemetry",
        value: "WHICH",
        unit: "-",
        allowed: "said, changes, all",
        default: Default::Value("said"),
        heading: SENDS,
        about: "Which sightings are sent: those at which a word was said, those that show something else than the one before, or all",
        live: false,
    },
    Definition {
        name: "spool",
        value: "DIR",
        unit: "-",
        allowed: "a folder",
        default: Default::Value("spool"),
        heading: SENDS,
        about: "Where messages wait while the hub cannot be reached",
        live: false,
    },
    Definition {
        name: "spool-megabytes",
        value: "N",
        unit: "MiB",
        allowed: "1 to 100000",
        default: Default::Value("64"),
        heading: SENDS,
        about: "How much may wait; beyond it the oldest messages are dropped and counted",
        live: false,
    },
    Definition {
        name: "model-keys-file",
        value: "FILE",
        unit: "-",
        allowed: "a file with one Ed25519 public key a line, in base64",
        default: Default::Derived("no models are taken"),
        heading: SENDS,
        about: "Whose signature a model must carry that the hub desires",
        live: false,
    },
    Definition {
        name: "model-store",
        value: "DIR",
        unit: "-",
        allowed: "a folder",
        default: Default::Derived("no models are taken"),
        heading: SENDS,
        about: "Where models the hub desired are kept: the one in use and the one before it",
        live: false,
    },
    Definition {
        name: "model-trial",
        value: "S",
        unit: "seconds",
        allowed: "1 to 86400",
        default: Default::Value("120"),
        heading: SENDS,
        about: "How long a new model must run without a fault before it counts as good; until then a fault brings the one before it back",
        live: false,
    },
    Definition {
        name: "sightings",
        value: "FILE",
        unit: "-",
        allowed: "a file, or - for standard output",
        default: Default::Value("-"),
        heading: REPORTS,
        about: "Where each frame's sighting goes, one line of JSON per frame; a file is begun anew",
        live: false,
    },
    Definition {
        name: "status",
        value: "FILE",
        unit: "-",
        allowed: "a file",
        default: Default::Derived("not written"),
        heading: REPORTS,
        about: "Where the device says how it is (JSON, replaced as a whole, at most once a second)",
        live: false,
    },
    Definition {
        name: "log",
        value: "LEVEL",
        unit: "-",
        allowed: "error, warn, info, debug",
        default: Default::Value("info"),
        heading: REPORTS,
        about: "How much is told on standard error",
        live: false,
    },
];
