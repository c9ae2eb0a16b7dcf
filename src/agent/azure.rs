//! The adapter for an Azure Pipelines agent: logging commands on standard output.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use mynah_contracts::{Fault, Monitor};

use super::command::{command, neutralise, redact};
use super::console::{Console, Severity, absolute};
use crate::step::Outcome;

/// Speaks to the agent.
pub struct AzureConsole<W: Write + Send> {
    out: Mutex<State<W>>,
    secrets: Vec<String>,
    cancelled: &'static AtomicBool,
}

struct State<W> {
    out: W,
    percent: Option<(String, u64)>,
}

impl AzureConsole<io::Stdout> {
    /// Speaks on standard output.
    pub fn stdout(secrets: Vec<String>, cancelled: &'static AtomicBool) -> Self {
        Self::new(io::stdout(), secrets, cancelled)
    }
}

impl<W: Write + Send> AzureConsole<W> {
    /// Speaks on `out`; the secrets are masked before anything else is said.
    pub fn new(out: W, secrets: Vec<String>, cancelled: &'static AtomicBool) -> Self {
        let console = Self { out: Mutex::new(State { out, percent: None }), secrets, cancelled };
        for secret in &console.secrets {
            console.write(&command("task.setsecret", &[], secret));
        }
        console
    }

    fn write(&self, line: &str) {
        let mut state = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // An agent that no longer listens is no reason to fail the work.
        let _ = writeln!(state.out, "{line}");
        let _ = state.out.flush();
    }

    fn say(&self, text: &str) {
        for line in redact(text, &self.secrets).lines() {
            self.write(&neutralise(line));
        }
    }

    fn issue(&self, kind: &str, text: &str) {
        let text = redact(text, &self.secrets);
        self.write(&command("task.logissue", &[("type", kind)], &neutralise(&text)));
    }
}

impl<W: Write + Send> Monitor for AzureConsole<W> {
    fn progress(&self, what: &str, done: u64, total: u64) {
        let percent = (done.min(total) * 100).checked_div(total).unwrap_or(100);
        let mut state = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Each command is a line in the log: one per percent is enough.
        if state.percent.as_ref().is_none_or(|(last, shown)| last != what || *shown < percent) {
            state.percent = Some((what.to_owned(), percent));
            let line = command("task.setprogress", &[("value", &percent.to_string())], &neutralise(what));
            let _ = writeln!(state.out, "{line}");
            let _ = state.out.flush();
        }
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl<W: Write + Send> Console for AzureConsole<W> {
    fn log(&self, severity: Severity, text: &str) {
        match severity {
            Severity::Debug => {
                let text = redact(text, &self.secrets);
                self.write(&command("task.debug", &[], &neutralise(&text)));
            }
            Severity::Info => self.say(text),
            Severity::Warning => self.issue("warning", text),
            Severity::Error => self.issue("error", text),
        }
    }

    fn result(&self, text: &str) {
        self.say(text);
    }

    fn finished(&self, outcome: &Outcome) {
        self.say(&outcome.headline);
        for (name, value) in &outcome.variables {
            let value = redact(value, &self.secrets);
            self.write(&command("task.setvariable", &[("variable", name), ("isOutput", "true")], &value));
        }
        self.publish(outcome);
    }

    fn failed(&self, fault: &Fault) {
        let mut text = fault.chain();
        if let Some(hint) = fault.hint() {
            text.push_str(". Hint: ");
            text.push_str(&hint);
        }
        self.issue("error", &text);
        let result =
            if fault.kind() == mynah_contracts::FaultKind::Cancelled { "Canceled" } else { "Failed" };
        self.write(&command(
            "task.complete",
            &[("result", result)],
            &neutralise(&redact(&text, &self.secrets)),
        ));
    }
}

impl<W: Write + Send> AzureConsole<W> {
    /// Hands over the files for the run's pages, also those of a step that failed a gate.
    fn publish(&self, outcome: &Outcome) {
        if let Some(summary) = &outcome.summary {
            self.write(&command("task.uploadsummary", &[], &absolute(summary)));
        }
        if let Some(results) = &outcome.test_results {
            let file = absolute(results);
            self.write(&command(
                "results.publish",
                &[
                    ("type", "JUnit"),
                    ("resultFiles", &file),
                    ("runTitle", "Mynah"),
                    ("failTaskOnFailedTests", "false"),
                ],
                "",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    static CALM: AtomicBool = AtomicBool::new(false);

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn said(secrets: &[&str], speak: impl FnOnce(&AzureConsole<Shared>)) -> String {
        let out = Shared::default();
        let console = AzureConsole::new(out.clone(), secrets.iter().map(|&s| s.to_owned()).collect(), &CALM);
        speak(&console);
        String::from_utf8(out.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn secrets_are_masked_first_and_never_written_after() {
        let text = said(&["hunter22"], |console| {
            console.log(Severity::Info, "the key is hunter22");
            console.log(Severity::Warning, "hunter22");
        });
        assert_eq!(
            text,
            "##vso[task.setsecret]hunter22\nthe key is ***\n##vso[task.logissue type=warning]***\n"
        );
    }

    #[test]
    fn progress_is_one_line_a_percent() {
        let text = said(&[], |console| (0..=1000).for_each(|done| console.progress("embedding", done, 1000)));
        assert_eq!(text.lines().count(), 101);
        assert!(text.ends_with("##vso[task.setprogress value=100]embedding\n"));
    }

    #[test]
    fn variables_and_summary_follow_the_headline() {
        let outcome = Outcome {
            headline: "3 photos".into(),
            variables: vec![("photos", "3".into())],
            summary: Some("/a/report.md".into()),
            test_results: None,
            missed: None,
        };
        let text = said(&[], |console| console.finished(&outcome));
        assert_eq!(
            text,
            "3 photos\n##vso[task.setvariable variable=photos;isOutput=true]3\n##vso[task.uploadsummary]/a/report.md\n"
        );
    }
}
