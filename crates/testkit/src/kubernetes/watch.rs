//! Watches: what changes, told line by line until the connection is cut.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use serde_json::json;

use super::Cluster;
use super::routes::{Asked, Queries, matches, selected};
use super::store::Event;
use crate::wire::Endless;

/// How long a watch is silent before it tells the present version.
const SILENCE: Duration = Duration::from_millis(100);

/// An endless answer: one line for each event from a version on, and the present version where it is silent.
pub(super) fn watch(cluster: &Cluster, asked: &Asked, queries: &Queries) -> Response {
    struct Watching {
        cluster: Cluster,
        asked: Asked,
        selector: Option<String>,
        from: u64,
        cut: bool,
        over: bool,
    }
    let from = queries.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
    let watching = Watching {
        cluster: cluster.clone(),
        asked: Asked {
            kind: asked.kind.clone(),
            namespace: asked.namespace.clone(),
            name: None,
            rest: Vec::new(),
        },
        selector: queries.get("labelSelector").cloned(),
        from,
        cut: false,
        over: false,
    };
    let stream = futures::stream::unfold(watching, |mut watching| async move {
        if watching.over {
            return None;
        }
        if watching.cut {
            // The connection ends without a word.
            watching.over = true;
            return Some((Err(std::io::Error::other("cut by the test")), watching));
        }
        loop {
            // Registered before looking, so that nothing falls between.
            let cluster = watching.cluster.clone();
            let changed = cluster.shared.changed.notified();
            let mut lines = String::new();
            {
                let mut state = cluster.lock();
                if watching.from < state.store.oldest {
                    watching.over = true;
                    let gone = json!({"type": "ERROR", "object": {
                        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410,
                        "metadata": {}, "message": "too old resource version",
                    }});
                    return Some((Ok(Bytes::from(format!("{gone}\n"))), watching));
                }
                let fits = |event: &&Event| {
                    event.version > watching.from
                        && matches(&watching.asked, &event.place)
                        && selected(&event.object, watching.selector.as_ref())
                };
                for event in state.store.events.iter().filter(fits) {
                    lines.push_str(&json!({"type": event.what, "object": event.object}).to_string());
                    lines.push('\n');
                }
                watching.from = state.store.version;
                if !lines.is_empty() && state.cuts > 0 {
                    state.cuts -= 1;
                    watching.cut = true;
                    // Not one whole line: what it told must be asked for again.
                    let half = lines.find('\n').unwrap_or(0) / 2;
                    lines.truncate((0..=half).rev().find(|at| lines.is_char_boundary(*at)).unwrap_or(0));
                }
            }
            if !lines.is_empty() {
                return Some((Ok(Bytes::from(lines)), watching));
            }
            if tokio::time::timeout(SILENCE, changed).await.is_err() {
                let bookmark = json!({"type": "BOOKMARK", "object": {
                    "metadata": {"resourceVersion": watching.from.to_string()},
                }});
                return Some((Ok(Bytes::from(format!("{bookmark}\n"))), watching));
            }
        }
    });
    let mut answer = Response::new(Body::from_stream(stream));
    answer.extensions_mut().insert(Endless);
    answer
}
