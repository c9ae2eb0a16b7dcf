//! What it reports, and where settings come from.

use super::{Default, Definition};

const SETS: &str = "Where settings come from";
const REPORTS: &str = "What it reports";

/// Comes before all others.
pub(super) const FILE: &[Definition] = &[Definition {
    name: "config",
    value: "FILE",
    unit: "-",
    allowed: "a file of lines `name = value`; # begins a comment",
    default: Default::Derived("no file"),
    heading: SETS,
    about: "Settings from a file, read again on SIGHUP; the environment and flags come before it",
    live: false,
}];

/// In the order people read them.
pub(super) const ALL: &[Definition] = &[
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
