//! The adapter for a person at a terminal: results on standard output, the rest on standard error.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mynah_contracts::{Fault, Monitor};

use super::console::{Console, Severity};
use crate::secret::Masks;
use crate::step::Outcome;

/// Speaks to a person.
pub struct LocalConsole {
    bar: ProgressBar,
    shown: Mutex<String>,
    least: Severity,
    masks: &'static Masks,
    cancelled: &'static AtomicBool,
}

impl LocalConsole {
    /// Speaks on the terminal; lines less grave than `least` are left out.
    pub fn new(least: Severity, masks: &'static Masks, cancelled: &'static AtomicBool) -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        if let Ok(style) = ProgressStyle::with_template("{msg:28} [{bar:32}] {pos}/{len}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar, shown: Mutex::new(String::new()), least, masks, cancelled }
    }

    fn stderr(&self, text: &str) {
        let text = self.masks.hide(text);
        self.bar.suspend(|| {
            // Nobody left to read is no reason to fail the work.
            let _ = writeln!(io::stderr(), "{text}");
        });
    }
}

impl Monitor for LocalConsole {
    fn progress(&self, what: &str, done: u64, total: u64) {
        let mut shown = self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *shown != what {
            what.clone_into(&mut shown);
            self.bar.set_message(what.to_owned());
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
        if done >= total {
            shown.clear();
            self.bar.finish_and_clear();
        }
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl Console for LocalConsole {
    fn log(&self, severity: Severity, text: &str) {
        if severity < self.least {
            return;
        }
        match severity {
            Severity::Debug => self.stderr(&format!("debug: {text}")),
            Severity::Info => self.stderr(text),
            Severity::Warning => self.stderr(&format!("warning: {text}")),
            Severity::Error => self.stderr(&format!("error: {text}")),
        }
    }

    fn result(&self, text: &str) {
        let text = self.masks.hide(text);
        self.bar.suspend(|| {
            let _ = writeln!(io::stdout(), "{text}");
        });
    }

    fn finished(&self, outcome: &Outcome) {
        self.bar.finish_and_clear();
        if !outcome.headline.is_empty() {
            self.result(&outcome.headline);
        }
    }

    fn failed(&self, fault: &Fault) {
        self.bar.finish_and_clear();
        self.stderr(&format!("error: {}", fault.chain()));
        if let Some(hint) = fault.hint() {
            self.stderr(&format!("\nhint: {hint}"));
        }
    }
}
