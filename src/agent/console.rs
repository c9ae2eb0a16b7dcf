//! What a step says while it works and when it ends, whoever listens.

use std::path::Path;

use mynah_contracts::{Fault, Monitor};

use crate::step::Outcome;

/// How grave a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For whoever looks for a fault.
    Debug,
    /// What is being done.
    Info,
    /// Something the reader should look at.
    Warning,
    /// Something went wrong.
    Error,
}

/// Where a step's words go.
pub trait Console: Monitor + Send {
    /// Writes a log line; `text` may hold foreign text.
    fn log(&self, severity: Severity, text: &str);

    /// Writes a line that is the step's result.
    fn result(&self, text: &str);

    /// Tells what a finished step has to tell; a missed gate is told by [`Console::failed`] after it.
    fn finished(&self, outcome: &Outcome);

    /// Ends a step that failed.
    fn failed(&self, fault: &Fault);
}

/// The text of a path, for messages and agent commands.
pub(crate) fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Sends `tracing` events to a console, so that libraries need not know it.
pub(crate) struct ConsoleLayer(pub(crate) std::sync::Arc<dyn Console + Sync>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for ConsoleLayer {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let mut text = EventText::default();
        event.record(&mut text);
        let severity = match *event.metadata().level() {
            tracing::Level::ERROR => Severity::Error,
            tracing::Level::WARN => Severity::Warning,
            tracing::Level::INFO => Severity::Info,
            _ => Severity::Debug,
        };
        self.0.log(severity, &format!("{}{}", text.message, text.fields));
    }
}

#[derive(Default)]
struct EventText {
    message: String,
    fields: String,
}

impl tracing::field::Visit for EventText {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}
