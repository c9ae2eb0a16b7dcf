//! The processes below this one, read from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use rustix::process::Pid;

/// A process that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: Pid,
    /// The file name of the program, from the command line; empty for one that hides it.
    pub program: String,
}

/// Everything below `root`, its children first; what ended but was not waited for is left out.
pub fn below(root: Pid) -> Vec<Process> {
    let mut parents: BTreeMap<i32, i32> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(parent) = parent(&stat) {
            parents.insert(pid, parent);
        }
    }
    let mut known = BTreeSet::from([root.as_raw_nonzero().get()]);
    let mut found = Vec::new();
    loop {
        let next: Vec<i32> = parents
            .iter()
            .filter(|(pid, parent)| known.contains(parent) && !known.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if next.is_empty() {
            break;
        }
        found.extend(next.iter().copied());
        known.extend(next);
    }
    found
        .into_iter()
        .filter_map(|pid| Some(Process { pid: Pid::from_raw(pid)?, program: program(pid) }))
        .collect()
}

/// The parent of a living process, from its `stat` (proc_pid_stat(5)): the name in brackets may hold anything.
fn parent(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.next()?.parse().ok()
}

fn program(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(first);
    Path::new(text.as_ref()).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_may_hold_brackets() {
        assert_eq!(parent("12 (a) b) S 7 12 12 0"), Some(7));
        assert_eq!(parent("12 (a) Z 7 12"), None);
        assert_eq!(parent(""), None);
    }

    #[test]
    fn a_child_is_found_with_its_program() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = loop {
            let below = below(rustix::process::getpid());
            // Between fork and exec it still has our own name.
            if let Some(process) = below.into_iter().find(|process| process.program == "sleep") {
                break process;
            }
        };
        assert_eq!(found.pid, Pid::from_child(&child));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(stat in ".{0,60}") {
            let _ = parent(&stat);
        }
    }
}
