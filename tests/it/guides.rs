//! The guides, held against the programs: every command of ours is one that they take, every snippet can be read.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::given::{Ran, binary, root};

/// The programs whose commands are tried.
const PROGRAMS: [&str; 7] = [
    "mynah",
    "import-images",
    "train-model",
    "export-model",
    "build-modules",
    "generate-manifest",
    "deploy-modules",
];

/// A fenced piece of a page.
struct Snippet {
    page: PathBuf,
    language: String,
    text: String,
}

fn snippets() -> Vec<Snippet> {
    let mut pages: Vec<PathBuf> =
        fs::read_dir(root().join("docs/guides")).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.push(root().join("docs/kubernetes.md"));
    pages.sort();
    let mut all = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let mut parts = text.split("\n```");
        parts.next();
        while let (Some(inside), after) = (parts.next(), parts.next()) {
            assert!(after.is_some(), "{}: a snippet does not end", page.display());
            let (language, text) = inside.split_once('\n').unwrap();
            all.push(Snippet { page: page.clone(), language: language.to_owned(), text: text.to_owned() });
        }
    }
    all
}

/// The commands of a shell snippet, as words; quotes hold words together.
fn commands(text: &str) -> Vec<Vec<String>> {
    let whole = text.replace("\\\n", " ");
    let lines = whole.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
            for c in line.chars() {
                match (c, quote) {
                    ('\'' | '"', None) => quote = Some(c),
                    (c, Some(open)) if c == open => quote = None,
                    (' ', None) => words.push(std::mem::take(&mut word)),
                    (c, _) => word.push(c),
                }
            }
            words.push(word);
            words.retain(|word| !word.is_empty());
            words
        })
        .collect()
}

#[test]
fn every_command_is_one_that_its_program_takes() {
    let empty = tempfile::tempdir().unwrap();
    let mut tried = 0;
    for snippet in snippets().iter().filter(|snippet| snippet.language == "sh") {
        for words in commands(&snippet.text) {
            let Some(program) = PROGRAMS.iter().find(|program| **program == words[0]) else { continue };
            let shown = format!("{}: {}", snippet.page.display(), words.join(" "));
            tried += 1;
            let mut command = binary(program);
            command.current_dir(empty.path()).args(&words[1..]);
            if *program == "mynah" {
                // These look at the machine: it is enough that they would.
                command.arg("--help");
            } else if !words.iter().any(|word| word == "--dry-run") {
                command.arg("--dry-run");
            }
            let ran = Ran::from(command.output().unwrap());
            // A dry run that would ask a service ends at the first file that is not in an empty folder.
            let understood = ran.code == Some(0) || ran.stderr.starts_with("error: cannot read ");
            assert!(understood, "{shown}\n{}", ran.stderr);
            let told: &[&str] = if ran.code == Some(0) { &[&ran.stdout] } else { &[] };
            assert!(told.iter().all(|text| !text.is_empty()), "{shown}: it says nothing");
        }
    }
    assert!(tried >= 15, "only {tried} commands were found in the guides");
}

#[test]
fn every_snippet_can_be_read_and_pipelines_are_sound() {
    let folder = tempfile::tempdir().unwrap();
    let (mut objects, mut pipelines) = (Vec::new(), 0);
    for (number, snippet) in snippets().iter().enumerate() {
        let page = snippet.page.display();
        match snippet.language.as_str() {
            "json" => drop(
                serde_json::from_str::<Value>(&snippet.text)
                    .unwrap_or_else(|error| panic!("{page}: {error}")),
            ),
            "yaml" => {
                let value: Value =
                    serde_saphyr::from_str(&snippet.text).unwrap_or_else(|error| panic!("{page}: {error}"));
                if value.get("apiVersion").is_some() {
                    objects.push(value.to_string());
                    continue;
                }
                pipelines += 1;
                let file = folder.path().join(format!("{number}.yml"));
                fs::write(&file, &snippet.text).unwrap();
                let ran = Ran::from(binary("mynah").args(["pipeline", "check"]).arg(&file).output().unwrap());
                assert_eq!(ran.code, Some(0), "{page}\n{}{}", ran.stdout, ran.stderr);
            }
            "sh" => {}
            other => panic!("{page}: a snippet in `{other}`"),
        }
    }
    assert!(pipelines >= 2 && objects.len() >= 2, "{pipelines} pipelines, {} objects", objects.len());
    let python = std::env::var_os("MYNAH_PYTHON").unwrap_or_else(|| "python3".into());
    let probe = Command::new(&python).args(["-c", "import kubernetes_validate"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: Python's kubernetes-validate is not here");
        return;
    }
    let file = folder.path().join("objects.jsonl");
    fs::write(&file, objects.join("\n")).unwrap();
    let judge = root().join("tests/judges/objects_validate.py");
    let judged = Command::new(python).arg(judge).arg(&file).output().unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
}

#[test]
fn links_between_the_guides_lead_somewhere() {
    for page in fs::read_dir(root().join("docs/guides")).unwrap().map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            if !link.contains("://") {
                assert!(page.parent().unwrap().join(file).exists(), "{}: {link}", page.display());
            }
        }
    }
}
