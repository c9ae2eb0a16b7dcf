//! What it serves: settings of the server.

use super::{Default, Definition};

const SERVES: &str = "What it serves";

/// In the order people read them.
pub(super) const ALL: &[Definition] = &[
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
];
