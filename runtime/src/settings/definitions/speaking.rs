//! How it speaks: settings of speaker and clips.

use super::{Default, Definition};

const SPEAKS: &str = "How it speaks";

/// In the order people read them.
pub(super) const ALL: &[Definition] = &[
    Definition {
        name: "speaker",
        value: "SPEAKER",
        unit: "-",
        allowed: "card[:NAME], wav:DIR, command:PROGRAM [ARGUMENT...], none",
        default: Default::Derived("`card` where sound cards were built in, else `none`"),
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
        name: "speech-maps",
        value: "DIR",
        unit: "-",
        allowed: "a folder of speech maps, *.json",
        default: Default::Derived("the words of the clips"),
        heading: SPEAKS,
        about: "What is said in which language: one speech map per language, as build-modules takes them",
        live: false,
    },
    Definition {
        name: "language",
        value: "LANGUAGE",
        unit: "-",
        allowed: "a language of speech-maps, such as de or zh-CN",
        default: Default::Derived("the words of the clips"),
        heading: SPEAKS,
        about: "In which language words are said",
        live: true,
    },
    Definition {
        name: "speech-engine",
        value: "ENGINE",
        unit: "-",
        allowed: "auto, off, espeak-ng, piper:VOICE.onnx, azure",
        default: Default::Value("auto"),
        heading: SPEAKS,
        about: "What makes clips for words that have none: espeak-ng or Piper, where they are installed, or Azure Speech. `auto` is espeak-ng, else Azure Speech where it is set up, else nothing",
        live: false,
    },
    Definition {
        name: "speech-cache",
        value: "DIR",
        unit: "-",
        allowed: "a folder",
        default: Default::Derived("kept until the device ends"),
        heading: SPEAKS,
        about: "Where clips that were made on the device are kept",
        live: false,
    },
    Definition {
        name: "azure-speech",
        value: "PLACE",
        unit: "-",
        allowed: "a region such as westeurope, or an address",
        default: Default::Derived("not used"),
        heading: SPEAKS,
        about: "The resource of Azure Speech",
        live: false,
    },
    Definition {
        name: "azure-speech-key-file",
        value: "FILE",
        unit: "-",
        allowed: "a file with a key of the resource",
        default: Default::Derived("not used"),
        heading: SPEAKS,
        about: "The key of Azure Speech",
        live: false,
    },
];
