//! The one way from synchronous steps into asynchronous code.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use mynah_contracts::{Cancelled, Monitor};
use tokio::runtime::{Builder, Runtime};

use super::HttpError;

/// How often the monitor is asked whether to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Connections live in the runtime that made them, so there is one for the whole process.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Runs `work` to its end, or drops it where it stands when someone asks to stop.
///
/// # Errors
/// What `work` fails with, [`Cancelled`], and that no threads are to be had.
pub fn block_on<T, E>(monitor: &dyn Monitor, work: impl Future<Output = Result<T, E>>) -> Result<T, E>
where
    E: From<Cancelled> + From<HttpError>,
{
    let runtime = if let Some(runtime) = RUNTIME.get() {
        runtime
    } else {
        let built = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let built = built.map_err(HttpError::Runtime)?;
        RUNTIME.get_or_init(|| built)
    };
    runtime.block_on(async {
        tokio::select! {
            biased;
            () = asked_to_stop(monitor) => Err(Cancelled.into()),
            outcome = work => outcome,
        }
    })
}

async fn asked_to_stop(monitor: &dyn Monitor) {
    while !monitor.cancelled() {
        tokio::time::sleep(LOOK).await;
    }
}
