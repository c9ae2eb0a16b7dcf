//! Fault scripts for the doubles: what goes wrong on which route, and how often.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What goes wrong with one exchange.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The service refuses before it does anything.
    Refuse {
        /// The status, such as 429 or 503.
        status: u16,
        /// The seconds of a `Retry-After` header.
        retry_after: Option<u64>,
    },
    /// The service does its work, then answers with this status: the caller cannot know it was done.
    Lose {
        /// The status, such as 500.
        status: u16,
    },
    /// The service does its work; the connection ends in the middle of the answer's body.
    Cut,
    /// The service does its work; the answer's body arrives in pieces with this pause between them.
    Slow {
        /// The pause.
        pause: Duration,
    },
    /// The service does its work; the answer's body is well-formed JSON of another form.
    WrongJson,
    /// The service does its work; the answer's body is no JSON at all.
    NoJson,
    /// The request is delivered twice, as a proxy may do; the second answer is given.
    Duplicate,
}

/// Faults by route, each used as often as it was scripted.
#[derive(Debug, Default)]
pub struct Faults(Mutex<VecDeque<Scripted>>);

#[derive(Debug)]
struct Scripted {
    method: String,
    pattern: String,
    fault: Fault,
    skip: u32,
    times: u32,
}

impl Faults {
    /// Makes the next `times` requests of this route go wrong. `pattern` is a path in which `*` stands for
    /// one segment, and a last `**` for any rest; `method` may be `*`.
    pub fn script(&self, method: &str, pattern: &str, fault: Fault, times: u32) {
        self.script_after(0, method, pattern, fault, times);
    }

    /// As [`Faults::script`], once `skip` requests of the route have gone well.
    pub fn script_after(&self, skip: u32, method: &str, pattern: &str, fault: Fault, times: u32) {
        let (method, pattern) = (method.to_owned(), pattern.to_owned());
        self.lock().push_back(Scripted { method, pattern, fault, skip, times });
    }

    /// The fault for a request, used up by this call.
    pub fn next(&self, method: &str, path: &str) -> Option<Fault> {
        let mut scripts = self.lock();
        let at = scripts.iter().position(|scripted| {
            (scripted.method == "*" || scripted.method == method) && matches(&scripted.pattern, path)
        })?;
        let scripted = scripts.get_mut(at)?;
        if scripted.skip > 0 {
            scripted.skip -= 1;
            return None;
        }
        let fault = scripted.fault.clone();
        scripted.times = scripted.times.saturating_sub(1);
        if scripted.times == 0 {
            scripts.remove(at);
        }
        Some(fault)
    }

    /// How many scripted faults were not met.
    pub fn left(&self) -> u32 {
        self.lock().iter().map(|scripted| scripted.times).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Scripted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `path` is one of those that `pattern` stands for.
fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    for wanted in pattern.split('/') {
        match (wanted, parts.next()) {
            ("**", _) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(part)) if wanted == part => {}
            _ => return false,
        }
    }
    parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_whole_segments() {
        for (pattern, path, expected) in [
            ("/projects/*/train", "/projects/7/train", true),
            ("/projects/*/train", "/projects/7/8/train", false),
            ("/projects/*", "/projects", false),
            ("/projects/**", "/projects/7/tags", true),
            ("/projects", "/projects/7", false),
            ("/**", "/anything/at/all", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_script_is_used_up_in_its_order() {
        let faults = Faults::default();
        faults.script("POST", "/a", Fault::Refuse { status: 429, retry_after: Some(1) }, 2);
        faults.script_after(1, "*", "/b", Fault::Cut, 1);
        assert_eq!(faults.next("GET", "/a"), None);
        assert_eq!(faults.left(), 3);
        for _ in 0..2 {
            assert_eq!(faults.next("POST", "/a"), Some(Fault::Refuse { status: 429, retry_after: Some(1) }));
        }
        assert_eq!(faults.next("POST", "/a"), None);
        assert_eq!([faults.next("GET", "/b"), faults.next("PUT", "/b")], [None, Some(Fault::Cut)]);
        assert_eq!(faults.left(), 0);
    }
}
