//! Bad input ends with a clear message and the right code, and leaves nothing that looks whole.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::given::{Ran, photos, run, small_dataset, small_source};

fn import(source: &Path, out: &Path) -> Ran {
    run("import-images", ["--source".as_ref(), source.as_os_str(), "--out".as_ref(), out.as_os_str()])
}

fn train(dataset: &Path, out: &Path) -> Ran {
    run("train-model", ["--dataset".as_ref(), dataset.as_os_str(), "--out".as_ref(), out.as_os_str()])
}

/// Changes the JSON document at `path`.
fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut document: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut document);
    fs::write(path, serde_json::to_vec(&document).unwrap()).unwrap();
}

#[test]
fn no_folder_no_photos_one_label_few_photos() {
    let root = tempfile::tempdir().unwrap();
    let (source, out) = (root.path().join("source"), root.path().join("out"));
    import(&source, &out).ill(2, &["source"]);
    fs::create_dir(&source).unwrap();
    import(&source, &out).ill(2, &["hint:"]);
    photos("fish", 5, &source.join("fish"));
    import(&source, &out).ill(2, &["label", "fish", "hint:"]);
    photos("hammer", 4, &source.join("hammer"));
    import(&source, &out).ill(2, &["hammer", "4", "5", "hint:"]);
    assert!(!out.exists(), "something was left behind");
}

#[test]
fn the_same_photo_under_two_labels_is_refused_with_both_places() {
    let root = tempfile::tempdir().unwrap();
    let (source, out) = (small_source(root.path()), root.path().join("out"));
    fs::copy(source.join("fish/fish1.jpg"), source.join("hammer/odd.jpg")).unwrap();
    import(&source, &out).ill(2, &["fish/fish1.jpg", "hammer/odd.jpg"]);
    assert!(!out.join("dataset.json").exists());
}

#[test]
fn words_that_yaml_would_bend_go_through_and_case_twins_do_not() {
    let root = tempfile::tempdir().unwrap();
    let (source, out) = (root.path().join("source"), root.path().join("out"));
    for (label, sample) in [("no", "fish"), ("on", "hammer"), ("yes", "mammal"), ("Ünïcode", "windmill")] {
        photos(sample, 5, &source.join(label));
    }
    import(&source, &out).well();
    let dataset: Value = serde_json::from_slice(&fs::read(out.join("dataset.json")).unwrap()).unwrap();
    let labels: Vec<&str> =
        dataset["labels"].as_array().unwrap().iter().map(|l| l["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["no", "on", "yes", "Ünïcode"]);

    fs::rename(source.join("yes"), source.join("NO")).unwrap();
    import(&source, &out).ill(2, &["NO", "no", "case"]);
    let after: Value = serde_json::from_slice(&fs::read(out.join("dataset.json")).unwrap()).unwrap();
    assert_eq!(dataset, after, "a refused import changed the dataset");
}

#[test]
fn an_output_folder_that_is_not_ours_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let (source, dataset) = (small_source(root.path()), small_dataset(root.path()));
    let precious = root.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("thesis.txt"), "years").unwrap();
    import(&source, &precious).ill(2, &["precious", "dataset.json"]);
    train(&dataset, &precious).ill(2, &["precious", "training.json"]);
    assert_eq!(fs::read_dir(&precious).unwrap().count(), 1);
}

#[test]
fn an_artifact_that_is_missing_newer_damaged_or_contradictory_is_told_apart() {
    let root = tempfile::tempdir().unwrap();
    let (dataset, out) = (small_dataset(root.path()), root.path().join("training"));
    let file = dataset.join("dataset.json");
    let whole = fs::read(&file).unwrap();

    train(&root.path().join("nowhere"), &out).ill(2, &["nowhere", "does not exist", "hint:"]);
    edit(&file, |d| d["schemaVersion"] = "2.0".into());
    train(&dataset, &out).ill(2, &["schema version 2.0", "newer version"]);
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    train(&dataset, &out).ill(2, &["dataset.json", "hint:"]);
    fs::write(&file, &whole).unwrap();
    edit(&file, |d| d["photos"][0]["label"] = "pear".into());
    train(&dataset, &out).ill(2, &["contradicts itself"]);
    for bad in ["a/b", "..", &"x".repeat(300)] {
        fs::write(&file, &whole).unwrap();
        edit(&file, |d| d["labels"][0]["label"] = bad.into());
        train(&dataset, &out).ill(2, &["dataset.json", "label"]);
    }
    for bad in ["../outside.jpg", "/etc/passwd"] {
        fs::write(&file, &whole).unwrap();
        edit(&file, |d| d["photos"][0]["file"] = bad.into());
        train(&dataset, &out).ill(2, &["is not a path below its folder"]);
    }
    assert!(!out.exists());
}

#[test]
fn a_photo_changed_after_import_is_named() {
    let root = tempfile::tempdir().unwrap();
    let (dataset, out) = (small_dataset(root.path()), root.path().join("training"));
    let photo = fs::read_dir(dataset.join("fish")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&photo).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&photo, bytes).unwrap();
    let ran = train(&dataset, &out);
    assert!(matches!(ran.code, Some(1 | 2)), "{}", ran.stderr);
    assert!(ran.stderr.contains(photo.file_name().unwrap().to_str().unwrap()), "{}", ran.stderr);
    assert!(!out.exists());
}

#[test]
fn a_missed_gate_fails_names_the_confused_and_keeps_the_earlier_training() {
    let root = tempfile::tempdir().unwrap();
    let source = root.path().join("source");
    // Two heaps of the same things cannot be told apart.
    let mut files: Vec<_> = ["fish", "hammer", "mammal", "windmill"]
        .iter()
        .flat_map(|sample| fs::read_dir(crate::given::root().join("samples/photos").join(sample)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for (number, file) in files.iter().take(28).enumerate() {
        let folder = source.join(if number % 2 == 0 { "left" } else { "right" });
        fs::create_dir_all(&folder).unwrap();
        fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
    }
    let (dataset, out) = (root.path().join("dataset"), root.path().join("training"));
    import(&source, &dataset).well();
    train(&dataset, &out).well();
    let before = crate::given::files(&out);
    let arguments: [&OsStr; 6] = [
        "--dataset".as_ref(),
        dataset.as_os_str(),
        "--out".as_ref(),
        out.as_os_str(),
        "--min-accuracy".as_ref(),
        "0.99".as_ref(),
    ];
    run("train-model", arguments).ill(1, &["at least 0.99", "taken for", "training-rejected", "hint:"]);
    assert_eq!(before, crate::given::files(&out));
    let rejected = root.path().join("training-rejected");
    assert!(rejected.join("report.html").is_file() && !rejected.join("training.json").exists());
    assert!(fs::read_to_string(rejected.join("junit.xml")).unwrap().contains("<failure"));
}

#[test]
fn a_model_that_is_not_what_its_card_says_is_not_built_in() {
    let root = tempfile::tempdir().unwrap();
    let model = root.path().join("model");
    mynah_testkit::tiny_model_package(&model).unwrap();
    crate::given::runtime();
    let out = root.path().join("images");
    let build =
        || run("build-modules", ["--model".as_ref(), model.as_os_str(), "--out".as_ref(), out.as_os_str()]);
    let onnx = fs::read(model.join("model.onnx")).unwrap();
    fs::write(model.join("model.onnx"), b"garbage").unwrap();
    build().ill(2, &["model.onnx", "hint:"]);
    assert!(!out.join("modules.json").exists());
    fs::write(model.join("model.onnx"), onnx).unwrap();
    edit(&model.join("model.json"), |card| card["schemaVersion"] = "7.1".into());
    build().ill(2, &["schema version 7.1"]);
    assert!(!out.join("modules.json").exists());
}

#[test]
fn a_full_disk_fails_in_words_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let source = small_source(root.path());
    let disk = root.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "mynah-test"])
        .arg(&disk)
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        eprintln!("SKIPPED: a small file system cannot be mounted here (needs root)");
        return;
    }
    let ran = import(&source, &disk.join("dataset"));
    let left = disk.join("dataset/dataset.json").exists();
    let unmounted = std::process::Command::new("umount").arg(&disk).status().unwrap();
    assert!(unmounted.success());
    ran.ill(1, &["No space left on device", "hint:"]);
    assert!(!left);
}
