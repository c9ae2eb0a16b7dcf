//! The adapter for an Azure Pipelines agent: logging commands on standard output.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mynah_contracts::{Fault, Monitor};

use super::command::{command, neutralise};
use super::console::{Console, Severity, absolute};
use crate::secret::Masks;
use crate::step::Outcome;

/// Speaks to the agent.
pub struct AzureConsole<W: Write + Send> {
    out: Mutex<State<W>>,
    masks: &'static Masks,
    cancelled: &'static AtomicBool,
}

struct State<W> {
    out: W,
    /// How many masks the agent was told.
    masked: usize,
    percent: Option<(String, u64)>,
}

impl AzureConsole<io::Stdout> {
    /// Speaks on standard output.
    pub fn stdout(masks: &'static Masks, cancelled: &'static AtomicBool) -> Self {
        Self::new(io::stdout(), masks, cancelled)
    }
}

impl<W: Write + Send> AzureConsole<W> {
    /// Speaks on `out`; what `masks` holds is masked before anything else is said, what it comes to hold before
    /// the next line.
    pub fn new(out: W, masks: &'static Masks, cancelled: &'static AtomicBool) -> Self {
        let console = Self { out: Mutex::new(State { out, masked: 0, percent: None }), masks, cancelled };
        console.tell_masks(&mut console.lock());
        console
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_masks(&self, state: &mut State<W>) {
        for secret in self.masks.after(state.masked) {
            let _ = writeln!(state.out, "{}", command("task.setsecret", &[], &secret));
            state.masked += 1;
        }
    }

    fn write(&self, line: &str) {
        let mut state = self.lock();
        self.tell_masks(&mut state);
        // An agent that no longer listens is no reason to fail the work.
        let _ = writeln!(state.out, "{line}");
        let _ = state.out.flush();
    }

    fn say(&self, text: &str) {
        for line in self.masks.hide(text).lines() {
            self.write(&neutralise(line));
        }
    }

    fn issue(&self, kind: &str, text: &str) {
        let text = self.masks.hide(text);
        self.write(&command("task.logissue", &[("type", kind)], &neutralise(&text)));
    }
}

impl<W: Write + Send> Monitor for AzureConsole<W> {
    fn progress(&self, what: &str, done: u64, total: u64) {
        let percent = (done.min(total) * 100).checked_div(total).unwrap_or(100);
        let mut state = self.lock();
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
                let text = self.masks.hide(text);
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
            let value = self.masks.hide(value);
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
        self.write(&command("task.complete", &[("result", result)], &neutralise(&self.masks.hide(&text))));
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
        let masks: &'static Masks = Box::leak(Box::default());
        for secret in secrets {
            masks.add(secret);
        }
        let console = AzureConsole::new(out.clone(), masks, &CALM);
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
    fn a_secret_that_comes_later_is_masked_before_the_next_line() {
        let text = said(&[], |console| {
            console.log(Severity::Info, "signing in");
            console.masks.add("token4711");
            console.log(Severity::Info, "got token4711");
            console.log(Severity::Info, "done");
        });
        assert_eq!(text, "signing in\n##vso[task.setsecret]token4711\ngot ***\ndone\n");
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
