//! `mynah run`: what a newcomer types first.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::given::{binary, root, run, runtime};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_samples_are_learnt_and_spoken_as_the_readme_shows() {
    runtime();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("mynah-out");
    let ran: crate::given::Ran =
        binary("mynah").current_dir(folder.path()).args(["run"]).output().unwrap().into();
    let table = ran.well().stdout;

    // What stands in the README is what one sees, up to digests, sizes and the last digit of a share.
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let shown = readme.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let shape = |text: &str| -> Vec<Vec<String>> {
        text.lines()
            .map(|line| {
                line.split_whitespace()
                    .filter(|word| word.contains(".jpg") || !word.contains(|c: char| c.is_ascii_digit()))
                    .map(str::to_owned)
                    .collect()
            })
            .filter(|words: &Vec<String>| !words.is_empty())
            .collect()
    };
    assert_eq!(shape(shown), shape(&table), "README:\n{shown}\nnow:\n{table}");

    // The device spoke each label once, and kept silent at the picture that is none of them.
    let words: Vec<String> = fs::read_to_string(out.join("device/sightings.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|sighting| sighting["said"].as_str().map(str::to_owned))
        .collect();
    for label in ["fish", "hammer", "mammal", "windmill"] {
        assert!(words.iter().any(|word| word == label), "{label} was not said: {words:?}");
    }
    let spoken: Vec<_> =
        fs::read_dir(out.join("device/spoken")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(spoken.len(), words.len());
    for wav in spoken {
        assert!(fs::read(&wav).unwrap().starts_with(b"RIFF"), "{}", wav.display());
    }

    // One identity from the exported file to the running device.
    let card = json(&out.join("model/model.json"));
    let model = &card["model"]["sha256"];
    assert_eq!(&json(&out.join("images/modules.json"))["modules"][0]["model"], model);
    assert_eq!(&json(&out.join("device/deployment-record.json"))["modules"][0]["model"], model);
    assert_eq!(&json(&out.join("device/status.json"))["model"], model);
    let pinned =
        json(&out.join("images/modules.json"))["modules"][0]["index"]["digest"].as_str().unwrap().to_owned();
    assert!(fs::read_to_string(out.join("deployment.json")).unwrap().contains(&format!("@{pinned}")));
    assert_eq!(card["dataset"]["digest"], json(&out.join("dataset/dataset.json"))["digest"]);
}

#[test]
fn a_second_walk_with_nothing_new_changes_no_byte() {
    runtime();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let source = crate::given::small_source(folder.path());
    let walk =
        || run("mynah", ["run".as_ref(), source.as_os_str(), "--out".as_ref(), out.as_os_str()]).well();
    walk();
    let before: Vec<_> = ["dataset", "training", "model", "images"]
        .iter()
        .map(|part| crate::given::files(&out.join(part)))
        .collect();
    let said = walk();
    let after: Vec<_> = ["dataset", "training", "model", "images"]
        .iter()
        .map(|part| crate::given::files(&out.join(part)))
        .collect();
    assert!(before == after);
    assert!(said.stdout.contains("photos it learnt from"), "{}", said.stdout);
}

#[test]
fn no_file_under_src_names_the_crates_that_link_the_inference_engine() {
    for entry in walkdir::WalkDir::new(root().join("src")) {
        let entry = entry.unwrap();
        if entry.path().extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(entry.path()).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                // As a path: figures of devices are called `mynah_model_info`.
                for name in ["mynah_model::", "mynah_trainer::", "tract_onnx::"] {
                    assert!(!line.contains(name), "{}: {line}", entry.path().display());
                }
            }
        }
    }
}
