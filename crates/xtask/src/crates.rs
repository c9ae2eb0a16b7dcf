//! The crates inside the device's program, for the list of software that goes with its image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::process::{cargo, run};

/// Where the list is kept; it is compiled into whoever pushes images.
const LIST: &str = "src/provenance/runtime-crates.json";

/// The platforms the program is built for: a crate that any of them needs is in the list.
const TARGETS: [&str; 3] =
    ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "armv7-unknown-linux-gnueabihf"];

/// Writes the list.
pub(crate) fn write() -> Result<()> {
    fs::write(crate::root().join(LIST), list()?)?;
    Ok(())
}

/// Fails where the list is not what the lock file says.
pub(crate) fn check() -> Result<()> {
    let kept = fs::read_to_string(crate::root().join(LIST)).unwrap_or_default();
    ensure!(kept == list()?, "{LIST} is not what Cargo.lock says; run `cargo xtask crates`");
    crate::say("crates: the list is up to date");
    Ok(())
}

fn list() -> Result<String> {
    let root = crate::root();
    let mut found: BTreeSet<(String, String, String)> = BTreeSet::new();
    for target in TARGETS {
        // Macros run in the compiler; nothing of them is in the program.
        let arguments = [
            "tree",
            "--locked",
            "--package",
            "mynah-runtime",
            // As `dist` builds it.
            "--features",
            "sound-card",
            "--edges",
            "normal,no-proc-macro",
            "--target",
            target,
            "--prefix",
            "none",
            "--no-dedupe",
            "--format",
            "{p}|{l}",
        ];
        let output = run(&root, cargo(), arguments, &[])?;
        for line in String::from_utf8(output.stdout)?.lines().filter(|line| !line.is_empty()) {
            found.insert(parse(line).with_context(|| format!("`cargo tree` said `{line}`"))?);
        }
    }
    let digests = digests(&fs::read_to_string(root.join("Cargo.lock"))?);
    let mut entries = Vec::new();
    for (name, version, licence) in found.into_iter().filter(|(name, ..)| name != "mynah-runtime") {
        let mut entry = json!({ "name": name, "version": version });
        if !licence.is_empty() {
            // The slash of old manifests means `OR` (Cargo reference, `license`).
            entry["licence"] = json!(licence.replace('/', " OR "));
        }
        if let Some(sha256) = digests.get(&(name.clone(), version.clone())) {
            entry["sha256"] = json!(sha256);
        }
        entries.push(entry);
    }
    ensure!(entries.len() > 20, "`cargo tree` named only {} crates", entries.len());
    let lines: Vec<String> = entries.iter().map(Value::to_string).collect();
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

/// `serde v1.0.0 (/path)|MIT` → name, version, licence.
fn parse(line: &str) -> Option<(String, String, String)> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split_whitespace();
    let name = words.next()?;
    let version = words.next()?.strip_prefix('v')?;
    Some((name.to_owned(), version.to_owned(), licence.trim().to_owned()))
}

/// The checksums of a lock file, by name and version.
fn digests(lock: &str) -> BTreeMap<(String, String), String> {
    let field = |paragraph: &str, name: &str| {
        let start = format!("{name} = \"");
        let line = paragraph.lines().find_map(|line| line.strip_prefix(&start))?;
        line.strip_suffix('"').map(str::to_owned)
    };
    lock.split("[[package]]")
        .filter_map(|paragraph| {
            Some(((field(paragraph, "name")?, field(paragraph, "version")?), field(paragraph, "checksum")?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_cargo_tree_is_taken_apart() {
        let parsed = parse("serde v1.0.2 (proc-macro)|MIT/Apache-2.0").unwrap();
        assert_eq!(parsed, ("serde".into(), "1.0.2".into(), "MIT/Apache-2.0".into()));
        assert_eq!(parse("mynah v0.1.0 (/somewhere)|").unwrap().2, "");
        assert_eq!(parse("serde"), None);
    }

    #[test]
    fn checksums_are_found_by_name_and_version() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"ab\"\n\n\
                    [[package]]\nname = \"b\"\nversion = \"0.1.0\"\n";
        let digests = digests(lock);
        assert_eq!(digests.get(&("a".into(), "1.0.0".into())).map(String::as_str), Some("ab"));
        assert_eq!(digests.len(), 1);
    }
}
