//! Keeps a panic of the inference engine from reaching the process.
//!
//! tract checks much of what a file claims, not all of it: a hostile graph can still reach an assertion
//! inside it. Loading and the first inference therefore run under [`catch`], which turns a panic into its
//! message. Nothing that was touched by the panicking code is used afterwards: the half-built model is
//! dropped with the closure, which is what makes `AssertUnwindSafe` right here.
//!
//! A build with `panic = "abort"` has no unwinding to catch; there the process ends, with nothing written.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Whether this thread is inside [`catch`].
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic inside it becomes `Err` with the panic's message, and prints nothing.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    silence_guarded_threads();
    let outer = GUARDED.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    outcome.map_err(|payload| {
        payload
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a message".into())
    })
}

/// Puts a hook before the process' own one, once: it says nothing for a guarded thread and hands every
/// other panic on. The hook is process-wide, so swapping it around each call would race between threads.
fn silence_guarded_threads() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                previous(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        let text = String::from("formatted");
        assert_eq!(catch(|| panic!("{text}")), Err::<(), _>("formatted".into()));
        assert_eq!(catch(|| panic!("plain")), Err::<(), _>("plain".into()));
        assert_eq!(catch(|| 7), Ok(7));
        assert!(!GUARDED.get());
    }
}
