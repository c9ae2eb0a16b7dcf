//! Training and exporting with Custom Vision, against its double, from the built binaries with an agent's
//! environment.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use mynah_testkit::customvision::{BASE, CustomVision, PixelRange, Settings, Snapshot, Style};
use mynah_testkit::faults::Fault;
use mynah_testkit::{BLUE, GREEN, RED, solid_colour_jpeg};
use serde_json::Value;

use crate::given::{Ran, binary, files, run};

/// A key of the service's form.
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Photos of three colours, ten each, imported.
fn dataset(root: &Path) -> PathBuf {
    photos(root);
    import(root)
}

/// Photos of three colours, ten each, below `source`.
fn photos(root: &Path) {
    for (number, (label, colour)) in [("blue", BLUE), ("green", GREEN), ("red", RED)].into_iter().enumerate()
    {
        let folder = root.join("source").join(label);
        fs::create_dir_all(&folder).unwrap();
        for seed in 0..10 {
            let photo = solid_colour_jpeg(colour, seed + 100 * number as u64);
            fs::write(folder.join(format!("{seed}.jpg")), photo).unwrap();
        }
    }
}

fn import(root: &Path) -> PathBuf {
    let (source, out) = (root.join("source"), root.join("dataset"));
    run("import-images", ["--source".as_ref(), source.as_os_str(), "--out".as_ref(), out.as_os_str()]).well();
    out
}

fn trainer(vision: &CustomVision, root: &Path, more: &[(&str, &str)]) -> Command {
    let mut command = binary("train-model");
    command
        .env("TF_BUILD", "True")
        .env("SECRET_CUSTOMVISIONKEY", KEY)
        .env("INPUT_CUSTOMVISIONKEY", KEY)
        .env("INPUT_DATASET", root.join("dataset"))
        .env("INPUT_OUT", root.join("training"))
        .env("INPUT_TRAINER", "custom-vision")
        .env("INPUT_ENDPOINT", vision.endpoint())
        .env("INPUT_PROJECT", "colours");
    for (input, value) in more {
        command.env(format!("INPUT_{}", input.to_uppercase()), value);
    }
    command
}

fn train(vision: &CustomVision, root: &Path, more: &[(&str, &str)]) -> Ran {
    trainer(vision, root, more).output().unwrap().into()
}

fn export(root: &Path, more: &[(&str, &str)]) -> Ran {
    let mut command = binary("export-model");
    command
        .env("TF_BUILD", "True")
        .env("SECRET_CUSTOMVISIONKEY", KEY)
        .env("INPUT_CUSTOMVISIONKEY", KEY)
        .env("INPUT_TRAINING", root.join("training"))
        .env("INPUT_OUT", root.join("model"));
    for (input, value) in more {
        command.env(format!("INPUT_{}", input.to_uppercase()), value);
    }
    command.output().unwrap().into()
}

fn training(root: &Path) -> Value {
    serde_json::from_slice(&fs::read(root.join("training/training.json")).unwrap()).unwrap()
}

/// Each test ends with it: the double was asked nothing that the service would not understand.
#[track_caller]
fn clean(vision: &CustomVision) {
    assert_eq!(vision.wire().violations(), Vec::<String>::new());
    assert_eq!(vision.wire().faults.left(), 0, "a scripted fault was never met");
}

/// Failing steps tell an agent on standard output.
#[track_caller]
fn ill(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, Some(code), "stdout:\n{}\nstderr:\n{}", ran.stdout, ran.stderr);
    for word in words {
        assert!(ran.stdout.contains(word), "`{word}` is not in:\n{}", ran.stdout);
    }
}

fn only(snapshot: &Snapshot) -> &mynah_testkit::customvision::ProjectSnapshot {
    assert_eq!(snapshot.projects.len(), 1);
    &snapshot.projects[0]
}

#[test]
fn a_service_trains_is_judged_exported_and_not_asked_twice() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    dataset(root);
    let vision = CustomVision::start(Settings::default()).unwrap();
    let first = train(&vision, root, &[("minAccuracy", "0.9")]).well();
    assert!(!first.stdout.contains(&format!("={KEY}")) && !first.stderr.contains(KEY), "{}", first.stdout);
    let told = training(root);
    assert_eq!(told["trainer"], "custom-vision");
    assert_eq!(told["crossValidation"]["folds"], 0);
    assert_eq!(told["crossValidation"]["photos"], 6);
    assert_eq!(told["crossValidation"]["accuracy"], 1.0);
    assert_eq!(told["customVision"]["photos"], 24);
    assert_eq!(told["customVision"]["heldOutFold"], 0);
    assert_eq!(told["customVision"]["domain"], "General (compact)");
    assert_eq!(told["preprocess"]["channels"], "bgr");
    let report = fs::read_to_string(root.join("training/report.md")).unwrap();
    assert!(
        report.contains("Azure Custom Vision") && report.contains("fold 0 was never uploaded"),
        "{report}"
    );

    let state = vision.snapshot();
    let project = only(&state);
    assert_eq!((project.name.as_str(), project.domain.as_str()), ("colours", "General (compact)"));
    assert_eq!(project.tags, ["blue", "green", "red"]);
    assert_eq!(project.images.len(), 24);
    assert_eq!(project.iterations, [("Iteration 1".to_owned(), "Completed".to_owned())]);
    // The photos go as they are, so each image's own digest is the one in its metadata.
    for (digest, _, metadata) in &project.images {
        assert_eq!(format!("sha256:{}", metadata["mynahSha256"]), *digest);
    }
    // What judged the model was never sent.
    let dataset: Value =
        serde_json::from_slice(&fs::read(root.join("dataset/dataset.json")).unwrap()).unwrap();
    for photo in dataset["photos"].as_array().unwrap() {
        let there = project.images.iter().any(|(digest, _, _)| *digest == photo["sha256"].as_str().unwrap());
        assert_eq!(there, photo["fold"] != 0, "{photo}");
    }

    let (photos, ours) = (root.join("dataset"), root.join("model"));
    let more = [("dataset", photos.to_str().unwrap()), ("also", "tensorflow, docker")];
    export(root, &more).well();
    assert_eq!(fs::read_to_string(ours.join("labels.txt")).unwrap(), "blue\ngreen\nred\n");
    for kept in ["metadata_properties.json", "cvexport.manifest", "tensorflow.zip", "docker.zip"] {
        assert!(ours.join("custom-vision").join(kept).is_file(), "{kept}");
    }

    let state = vision.snapshot();
    assert_eq!(only(&state).exports, 3);
    let (before, model) = (files(&root.join("training")), files(&ours));
    let trainings = vision.wire().count("POST", "/train");
    train(&vision, root, &[("minAccuracy", "0.9")]).well();
    export(root, &more).well();
    assert!(
        before == files(&root.join("training")) && model == files(&ours),
        "a second run made other bytes"
    );
    assert_eq!(vision.snapshot(), state);
    assert_eq!(vision.wire().count("POST", "/images/files"), 1, "photos were sent twice");
    assert_eq!(vision.wire().count("POST", "/train"), trainings + 1);
    assert_eq!(vision.wire().count("POST", "/export"), 3);
    clean(&vision);
    judge(&vision);
}

/// The published description of the service agrees with all that was said, where Python and the description are.
fn judge(vision: &CustomVision) {
    let root = crate::given::root();
    let contract = root.join("../shared/contracts/customvision/training-v3.3/Training.json");
    let python = std::env::var_os("MYNAH_PYTHON").unwrap_or_else(|| "python3".into());
    let there = Command::new(&python).args(["-c", "import jsonschema"]).stderr(Stdio::null()).status();
    if !contract.is_file() || !there.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no jsonschema for Python, or no published description beside the repository");
        return;
    }
    let record = tempfile::NamedTempFile::new().unwrap();
    fs::write(record.path(), vision.wire().record().unwrap()).unwrap();
    let judged = Command::new(&python)
        .arg(root.join("tests/judges/openapi_agrees.py"))
        .args([record.path(), &contract])
        .arg(BASE)
        .output()
        .unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
}

#[test]
fn the_walk_with_a_service_ends_on_a_device_that_says_what_it_learnt() {
    crate::given::runtime();
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    photos(root);
    let vision = CustomVision::start(Settings::default()).unwrap();
    let walk = |more: &[&str]| -> Ran {
        let mut command = binary("mynah");
        command.env("CUSTOM_VISION_KEY", KEY).arg("run").arg(root.join("source"));
        command.arg("--out").arg(root.join("out")).args([
            "--trainer",
            "custom-vision",
            "--project",
            "colours",
        ]);
        command.args(["--endpoint", &vision.endpoint(), "--min-accuracy", "0.9"]).args(more);
        command.output().unwrap().into()
    };
    let json = |file: &str| -> Value {
        serde_json::from_slice(&fs::read(root.join("out").join(file)).unwrap()).unwrap()
    };
    walk(&["--dry-run"]).well();
    assert!(vision.wire().exchanges().is_empty() && !root.join("out").exists());
    let first = walk(&[]).well();
    assert!(!first.stdout.contains(KEY) && !first.stderr.contains(KEY));
    assert_eq!(json("training/training.json")["trainer"], "custom-vision");
    assert_eq!(json("device/status.json")["model"], json("model/model.json")["model"]["sha256"]);
    let said: std::collections::BTreeSet<String> =
        fs::read_to_string(root.join("out/device/sightings.jsonl"))
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter_map(|sighting| sighting["said"].as_str().map(str::to_owned))
            .collect();
    assert_eq!(said.into_iter().collect::<Vec<_>>(), ["blue", "green", "red"]);

    let (model, state) = (files(&root.join("out/model")), vision.snapshot());
    walk(&[]).well();
    assert!(model == files(&root.join("out/model")), "a second walk made another model");
    assert_eq!(vision.snapshot(), state);

    // What the service refuses ends the walk at its step, with what it made before untouched.
    vision.set(|settings| settings.key = "another".into());
    walk(&[]).ill(3, &["401", "check the training key"]);
    assert!(model == files(&root.join("out/model")));
    clean(&vision);
}

#[test]
fn only_what_changed_is_sent_moved_or_removed() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    dataset(root);
    let vision = CustomVision::start(Settings::default()).unwrap();
    train(&vision, root, &[]).well();
    let source = root.join("source");
    // Two photos come, two go, and one was under the wrong label.
    for seed in [500, 501] {
        fs::write(source.join(format!("red/{seed}.jpg")), solid_colour_jpeg(RED, seed)).unwrap();
    }
    fs::remove_file(source.join("red/3.jpg")).unwrap();
    fs::remove_file(source.join("red/4.jpg")).unwrap();
    fs::rename(source.join("green/5.jpg"), source.join("blue/55.jpg")).unwrap();
    import(root);
    train(&vision, root, &[("pruneImages", "true")]).well();

    let dataset: Value =
        serde_json::from_slice(&fs::read(root.join("dataset/dataset.json")).unwrap()).unwrap();
    let mut expected: Vec<(String, String)> = dataset["photos"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|photo| photo["fold"] != 0)
        .map(|photo| (photo["sha256"].as_str().unwrap().into(), photo["label"].as_str().unwrap().into()))
        .collect();
    expected.sort();
    let state = vision.snapshot();
    let found: Vec<(String, String)> =
        only(&state).images.iter().map(|(digest, tags, _)| (digest.clone(), tags.join(","))).collect();
    assert_eq!(found, expected);
    assert_eq!(only(&state).iterations.len(), 2);
    clean(&vision);
}

#[test]
fn faults_on_the_way_change_nothing_about_the_end() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    dataset(root);
    let calm = CustomVision::start(Settings::default()).unwrap();
    train(&calm, root, &[]).well();
    let expected = files(&root.join("training"));
    fs::remove_dir_all(root.join("training")).unwrap();

    let vision = CustomVision::start(Settings::default()).unwrap();
    vision.set(|settings| {
        settings.image_statuses = VecDeque::from(["ErrorStorage", "ErrorUnknown"]);
    });
    let at = |path: &str| format!("{BASE}{path}");
    let faults = &vision.wire().faults;
    faults.script("GET", &at("/domains"), Fault::Refuse { status: 429, retry_after: Some(1) }, 1);
    faults.script("POST", &at("/projects"), Fault::Lose { status: 500 }, 1);
    faults.script("POST", &at("/projects/*/tags"), Fault::Duplicate, 1);
    faults.script("GET", &at("/projects/*/images"), Fault::Slow { pause: Duration::from_millis(5) }, 1);
    faults.script_after(1, "POST", &at("/projects/*/images/files"), Fault::Lose { status: 503 }, 1);
    faults.script("POST", &at("/projects/*/images/metadata"), Fault::Cut, 1);
    faults.script("POST", &at("/projects/*/train"), Fault::Lose { status: 502 }, 1);
    faults.script(
        "GET",
        &at("/projects/*/iterations/*"),
        Fault::Refuse { status: 503, retry_after: None },
        1,
    );
    faults.script("POST", &at("/projects/*/iterations/*/export"), Fault::Duplicate, 1);
    faults.script("GET", "/blobs/**", Fault::Cut, 1);
    train(&vision, root, &[]).well();
    let state = vision.snapshot();
    assert_eq!(only(&state).images.len(), 24);
    assert!(only(&state).images.iter().all(|(_, tags, metadata)| tags.len() == 1 && metadata.len() == 1));
    assert_eq!(only(&state).iterations.len(), 1, "something was trained twice");
    // The two doubles number their things alike only where nothing was retried: what was learnt is compared.
    let kept = |all: &[(PathBuf, Vec<u8>)]| -> Vec<(PathBuf, Vec<u8>)> {
        all.iter()
            .filter(|(path, _)| path.starts_with("probes") || path.ends_with("confusion.png"))
            .cloned()
            .collect()
    };
    assert!(!kept(&expected).is_empty());
    assert!(kept(&expected) == kept(&files(&root.join("training"))));
    clean(&vision);
}

#[test]
fn an_answer_that_is_no_answer_ends_the_step_in_words() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    dataset(root);
    let vision = CustomVision::start(Settings::default()).unwrap();
    let projects = format!("{BASE}/projects");
    for fault in [Fault::WrongJson, Fault::NoJson] {
        vision.wire().faults.script("GET", &projects, fault, 1);
        ill(&train(&vision, root, &[]), 3, &["cannot understand the answer", "GET", "/projects"]);
    }
    assert!(!root.join("training").exists());
    clean(&vision);
}

#[test]
fn killed_anywhere_and_run_again_ends_the_same_and_makes_nothing_twice() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    dataset(root);
    let calm = CustomVision::start(Settings::default()).unwrap();
    train(&calm, root, &[]).well();
    let expected = calm.snapshot();
    let told = training(root);
    fs::remove_dir_all(root.join("training")).unwrap();

    let vision =
        CustomVision::start(Settings { training_polls: 3, export_polls: 2, ..Settings::default() }).unwrap();
    for round in 0..10_u64 {
        let mut child =
            trainer(&vision, root, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + 45 * round));
        let _ = child.kill();
        let _ = child.wait();
    }
    train(&vision, root, &[]).well();
    let state = vision.snapshot();
    assert_eq!(state, expected);
    assert_eq!(training(root)["crossValidation"], told["crossValidation"]);
    assert_eq!(training(root)["probes"], told["probes"]);
    clean(&vision);
}

#[test]
fn every_form_of_export_trains_judges_and_packs() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    dataset(root);
    let styles = [
        Style { float16: true, ..Style::default() },
        Style { bgr: false, range: PixelRange::BytesSaidUnit, ..Style::default() },
        Style {
            range: PixelRange::Unit,
            single_output: true,
            folder: "export/deep/".into(),
            ..Style::default()
        },
    ];
    for style in styles {
        let settings = Settings { style: style.clone(), relative_downloads: true, ..Settings::default() };
        let vision = CustomVision::start(settings).unwrap();
        let ran = train(&vision, root, &[]).well();
        assert_eq!(training(root)["crossValidation"]["accuracy"], 1.0, "{style:?}");
        assert_eq!(ran.stdout.contains("the photos show"), style.range == PixelRange::BytesSaidUnit);
        export(root, &[]).well();
        let card: Value = serde_json::from_slice(&fs::read(root.join("model/model.json")).unwrap()).unwrap();
        assert_eq!(card["weights"], if style.float16 { "f16" } else { "f32" });
        agrees_with_onnxruntime(root);
        clean(&vision);
    }
}

/// onnxruntime reads the packed model and gives the probes their probabilities.
fn agrees_with_onnxruntime(root: &Path) {
    let python = std::env::var_os("MYNAH_PYTHON").unwrap_or_else(|| "python3".into());
    let there = Command::new(&python).args(["-c", "import onnxruntime, PIL"]).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no onnxruntime for Python");
        return;
    }
    let script = crate::given::root().join("tests/judges/foreign_package_agrees.py");
    let judged = Command::new(&python).arg(script).arg(root.join("model")).output().unwrap();
    assert!(
        judged.status.success(),
        "{}{}",
        String::from_utf8_lossy(&judged.stdout),
        String::from_utf8_lossy(&judged.stderr)
    );
}

#[test]
fn refusals_say_what_is_wrong_and_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    dataset(root);
    let vision = CustomVision::start(Settings { key: "another".into(), ..Settings::default() }).unwrap();
    ill(&train(&vision, root, &[]), 3, &["401", "Hint: check the training key"]);
    vision.set(|settings| settings.key = KEY.into());

    ill(&train(&vision, root, &[("domain", "General")]), 2, &["`--domain`", "compact"]);
    ill(
        &train(&vision, root, &[("domain", "Food (compact)")]),
        2,
        &["`Food (compact)`", "`General (compact)`"],
    );
    ill(&train(&vision, root, &[("endpoint", "westeurope")]), 2, &["`westeurope`", "no endpoint"]);
    ill(&train(&vision, root, &[("endpoint", "http://example.com/")]), 2, &["not encrypted"]);
    ill(&train(&vision, root, &[("project", "")]), 2, &["`--project`", "required"]);
    ill(&train(&vision, root, &[("holdoutFold", "none")]), 2, &["`--holdout-fold`", "`--holdout`"]);
    assert!(vision.snapshot().projects.is_empty());

    vision.set(|settings| settings.training_fails = true);
    ill(&train(&vision, root, &[]), 3, &["`Iteration 1` failed", "Hint:"]);
    vision.set(|settings| settings.training_fails = false);
    ill(&train(&vision, root, &[("domain", "General (compact) [S1]")]), 2, &["`colours`", "--project"]);
    vision.set(|settings| settings.image_statuses = VecDeque::from(["ErrorLimitExceed"]));
    vision.forget_images();
    ill(&train(&vision, root, &[]), 3, &["ErrorLimitExceed", "--prune-images"]);
    vision.set(|settings| settings.export_fails = true);
    ill(&train(&vision, root, &[]), 3, &["export to ONNX", "failed"]);
    assert!(!root.join("training").exists());
    clean(&vision);
}

#[test]
fn too_few_photos_are_told_before_anything_is_sent() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    dataset(root);
    for seed in 5..10 {
        fs::remove_file(root.join(format!("source/blue/{seed}.jpg"))).unwrap();
    }
    import(root);
    let vision = CustomVision::start(Settings::default()).unwrap();
    ill(&train(&vision, root, &[]), 2, &["`blue` has 4 photos to train with", "held out"]);
    assert!(vision.wire().exchanges().is_empty());
}

#[test]
fn a_missed_gate_keeps_the_earlier_training() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    dataset(root);
    // Photos of one colour under two labels: nobody can tell them apart.
    for seed in 0..10 {
        fs::write(root.join(format!("source/blue/{seed}.jpg")), solid_colour_jpeg(RED, 900 + seed)).unwrap();
    }
    import(root);
    let vision = CustomVision::start(Settings::default()).unwrap();
    let ran = train(&vision, root, &[("minAccuracy", "0.99")]);
    ill(&ran, 1, &["at least 0.99 was asked", "##vso[task.uploadsummary]"]);
    assert!(!root.join("training").exists());
    assert!(root.join("training-rejected/report.md").is_file());
    clean(&vision);
}

#[test]
fn old_iterations_leave_and_the_newest_stay() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    dataset(root);
    let vision =
        CustomVision::start(Settings { training_polls: 0, export_polls: 0, ..Settings::default() }).unwrap();
    for round in 0..4_u64 {
        fs::write(root.join(format!("source/red/{round}.png.jpg")), solid_colour_jpeg(RED, 700 + round))
            .unwrap();
        fs::write(root.join(format!("source/blue/{round}.png.jpg")), solid_colour_jpeg(BLUE, 800 + round))
            .unwrap();
        import(root);
        train(&vision, root, &[("keepIterations", "2")]).well();
    }
    let state = vision.snapshot();
    let names: Vec<&str> = only(&state).iterations.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.len() == 2 && names.last() == Some(&"Iteration 4"), "{names:?}");
    clean(&vision);
}
