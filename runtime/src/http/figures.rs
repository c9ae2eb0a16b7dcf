//! Health, and figures in the Prometheus text form, as the metrics collector of IoT Edge reads it: one `name{labels}
//! value` a line, values finite.

use std::fmt::Write as _;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use mynah_contracts::DeviceState;

use super::Shared;
use crate::board::{BOUNDS, Board, View};

/// The frame loop comes by several times a second, but opening a model takes time.
const LIVELY: Duration = Duration::from_secs(30);
/// A frame this old shows nothing any more, unless its source is slow by its nature.
const FRESH: Duration = Duration::from_secs(20);

/// Whether the last frame still shows something.
fn is_fresh(board: &Board, view: &View) -> bool {
    board.since_frame().is_some_and(|since| since < FRESH.max(view.silence))
}

/// Whether the frame loop is alive. A missing camera is no reason to start the program anew.
pub(super) async fn healthz(State(shared): State<Shared>) -> (StatusCode, String) {
    let since = shared.board.since_beat();
    if since < LIVELY {
        (StatusCode::OK, "ok\n".into())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the frame loop has not come by for {} s\n", since.as_secs()),
        )
    }
}

/// Whether the model is loaded and frames come.
pub(super) async fn readyz(State(shared): State<Shared>) -> (StatusCode, String) {
    let view = shared.board.view();
    if shared.board.model().is_some() && is_fresh(&shared.board, &view) {
        (StatusCode::OK, "ok\n".into())
    } else {
        let why = view.status.problem.clone().unwrap_or_else(|| "no frame has come yet".into());
        (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
    }
}

/// The figures.
pub(super) async fn metrics(State(shared): State<Shared>) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text(&shared.board, &shared.board.view()))
}

fn text(board: &Board, view: &View) -> String {
    let mut out = String::new();
    let status = &view.status;
    let running = status.state == DeviceState::Running;
    let camera_up = running && is_fresh(board, view);
    let counts = [
        ("mynah_frames_total", "counter", "Frames looked at.", status.frames as f64),
        (
            "mynah_frames_unreadable_total",
            "counter",
            "Frames that could not be read.",
            status.unreadable_frames as f64,
        ),
        ("mynah_utterances_total", "counter", "Words said.", status.utterances as f64),
        (
            "mynah_camera_reconnects_total",
            "counter",
            "How often the camera was lost and came back.",
            view.reopened as f64,
        ),
        ("mynah_camera_up", "gauge", "Whether frames come.", f64::from(u8::from(camera_up))),
        ("mynah_speaker_up", "gauge", "Whether words can be heard.", f64::from(u8::from(view.audible))),
        ("mynah_frames_per_second", "gauge", "Frames per second, averaged.", view.fps),
        (
            "mynah_problem",
            "gauge",
            "Whether something is wrong.",
            f64::from(u8::from(status.problem.is_some())),
        ),
    ];
    // Writing to a String cannot fail.
    for (name, kind, help, value) in counts {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    if let Some((connected, waiting, dropped)) = view.hub {
        for (name, kind, help, value) in [
            ("mynah_hub_connected", "gauge", "Whether the hub is connected.", u64::from(connected)),
            ("mynah_spool_messages", "gauge", "Messages that wait for the hub.", waiting),
            ("mynah_spool_dropped_total", "counter", "Messages dropped for room.", dropped),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
    }
    if let Some(since) = board.since_frame() {
        let name = "mynah_last_frame_age_seconds";
        let _ = writeln!(
            out,
            "# HELP {name} How old the last frame is.\n# TYPE {name} gauge\n{name} {}",
            since.as_secs_f64()
        );
    }
    let histogram = board.inference();
    let name = "mynah_inference_duration_seconds";
    let _ = writeln!(out, "# HELP {name} How long the model takes for a frame.\n# TYPE {name} histogram");
    for (bound, count) in BOUNDS.iter().zip(histogram.buckets) {
        let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}");
    }
    let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {}", histogram.count);
    let _ = writeln!(out, "{name}_sum {}\n{name}_count {}", histogram.sum, histogram.count);
    if let Some(model) = &status.model {
        let name = "mynah_model_info";
        let _ = writeln!(
            out,
            "# HELP {name} The model in use.\n# TYPE {name} gauge\n{name}{{sha256=\"{}\",version=\"{}\"}} 1",
            model.hex(),
            status.version,
        );
    }
    if let Some(celsius) = temperature() {
        let name = "mynah_temperature_celsius";
        let _ = writeln!(
            out,
            "# HELP {name} The processor's temperature.\n# TYPE {name} gauge\n{name} {celsius}"
        );
    }
    out
}

/// The processor's temperature in °C, where the kernel tells it.
pub(super) fn temperature() -> Option<f64> {
    let millidegrees = std::fs::read_to_string("/sys/class/thermal/thermal_zone0/temp").ok()?;
    millidegrees.trim().parse::<f64>().ok().map(|value| value / 1000.0).filter(|value| value.is_finite())
}
