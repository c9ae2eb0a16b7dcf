//! A model package on disk: opened whole, refused when anything in it was changed.
#![expect(clippy::unwrap_used, reason = "a test helper fails as a test does")]

mod graphs;

use std::error::Error as _;
use std::fs;
use std::path::Path;

use mynah_contracts::{
    Calibration, ChannelOrder, DatasetRef, EvaluationSummary, FileRef, Geometry, ModelCard, Preprocess,
    Probe, RelativePath, ResizeFilter, SchemaVersion, Sha256Digest, Tool, TrainerKind, Weights, to_json,
};
use mynah_model::{ModelError, ModelPackage, PROBE_TOLERANCE};
use mynah_photo::{RgbImage, encode_png};

fn file(folder: &Path, path: &str, bytes: &[u8]) -> FileRef {
    let reference = FileRef::new(RelativePath::new(path).unwrap(), bytes);
    let path = reference.path.below(folder);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    reference
}

fn photo(colour: [u8; 3]) -> RgbImage {
    RgbImage::new(32, 32, colour.repeat(32 * 32)).unwrap()
}

/// Writes a package whose probes carry what its own model gives them.
fn package(folder: &Path, change: impl FnOnce(&mut ModelCard)) -> ModelCard {
    let onnx = graphs::bytes(graphs::classifier());
    let labels = ["red", "green", "blue"];
    let mut card = ModelCard {
        schema_version: SchemaVersion::CURRENT,
        tool: Tool::current(),
        created: None,
        trainer: TrainerKind::Embedded,
        dataset: DatasetRef { digest: Sha256Digest::of(b""), photos: 3 },
        labels: labels.iter().map(|label| label.parse().unwrap()).collect(),
        model: file(folder, "model.onnx", &onnx),
        labels_file: file(folder, "labels.txt", b"red\ngreen\nblue\n"),
        input: "input".into(),
        output: "scores".into(),
        preprocess: Preprocess {
            size: graphs::SIZE,
            geometry: Geometry::CenterCrop { fraction: 0.875 },
            filter: ResizeFilter::CatmullRom,
            channels: ChannelOrder::Rgb,
            mean: [0.0; 3],
            scale: [255.0; 3],
        },
        weights: Weights::F32,
        calibration: Calibration { temperature: 1.0, reject_threshold: 0.5 },
        cross_validation: EvaluationSummary {
            photos: 3,
            folds: 2,
            accuracy: 1.0,
            macro_f1: 1.0,
            log_loss: 0.1,
            calibration_error: 0.0,
            coverage: 1.0,
            accuracy_when_sure: 1.0,
        },
        backbone: None,
        probes: Vec::new(),
    };
    let model = ModelPackage::from_parts(card.clone(), &onnx).unwrap();
    for (label, colour) in labels.iter().zip([[250, 20, 20], [20, 250, 20], [20, 20, 250]]) {
        let photo = photo(colour);
        card.probes.push(Probe {
            file: file(folder, &format!("probes/{label}.png"), &encode_png(&photo).unwrap()),
            label: label.parse().unwrap(),
            probabilities: model.classify(&photo).unwrap(),
        });
    }
    change(&mut card);
    fs::write(folder.join("model.json"), to_json(&card)).unwrap();
    card
}

fn opened(change: impl FnOnce(&mut ModelCard)) -> Result<ModelPackage, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path(), change);
    let package = ModelPackage::open(folder.path())?;
    package.self_test(folder.path())?;
    Ok(package)
}

#[test]
fn a_whole_package_opens_tests_itself_and_classifies() {
    let package = opened(|_| {}).unwrap();
    let probabilities = package.classify(&photo([0, 255, 0])).unwrap();
    assert!(probabilities[1] > 0.8, "{probabilities:?}");
    assert_eq!(package.card().labels.len(), 3);
}

#[test]
fn every_changed_or_missing_file_is_named() {
    for path in ["model.onnx", "labels.txt", "probes/green.png"] {
        let folder = tempfile::tempdir().unwrap();
        package(folder.path(), |_| {});
        let place = folder.path().join(path);
        let mut bytes = fs::read(&place).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&place, bytes).unwrap();
        let error = ModelPackage::open(folder.path()).unwrap_err();
        assert!(matches!(&error, ModelError::Digest { file, .. } if file.as_str() == path), "{error:?}");
        fs::remove_file(&place).unwrap();
        let error = ModelPackage::open(folder.path()).unwrap_err();
        assert!(matches!(&error, ModelError::Read { path, .. } if *path == place), "{error:?}");
    }
    let error = ModelPackage::open(tempfile::tempdir().unwrap().path()).unwrap_err();
    assert!(matches!(&error, ModelError::Read { path, .. } if path.ends_with("model.json")), "{error:?}");
}

#[test]
fn a_card_that_speaks_of_another_model_is_refused() {
    let error = opened(|card| card.labels[1] = "yellow".parse().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "line 2 of `labels.txt` is `green`, `model.json` says `yellow`");
    let error = opened(|card| card.output = "probabilities".into()).unwrap_err();
    assert_eq!(
        error.source().unwrap().to_string(),
        "nothing in the graph computes the output `probabilities`"
    );
    let folder = tempfile::tempdir().unwrap();
    package(folder.path(), |card| {
        card.labels.pop();
        card.labels_file = file(folder.path(), "labels.txt", b"red\ngreen\n");
        card.probes.clear();
    });
    let error = ModelPackage::open(folder.path()).unwrap_err();
    assert_eq!(error.to_string(), "the network gives 3 numbers for 2 labels");
    fs::write(folder.path().join("model.json"), r#"{"schemaVersion":"7.0"}"#).unwrap();
    assert!(matches!(ModelPackage::open(folder.path()).unwrap_err(), ModelError::Card(_)));
}

#[test]
fn a_model_that_answers_otherwise_than_in_training_is_found_out() {
    let error = opened(|card| card.probes[2].probabilities[0] += 2.0 * PROBE_TOLERANCE).unwrap_err();
    let ModelError::ProbeMismatch { probe, label, expected, got } = error else { panic!("{error:?}") };
    assert_eq!((probe.as_str(), label.as_str()), ("probes/blue.png", "red"));
    assert!((expected - got - 2.0 * PROBE_TOLERANCE).abs() < 1e-5);
    assert!(opened(|card| card.probes[2].probabilities[0] += 0.5 * PROBE_TOLERANCE).is_ok());

    let error = opened(|card| card.preprocess.channels = ChannelOrder::Bgr).unwrap_err();
    assert!(matches!(error, ModelError::ProbeMismatch { .. }), "{error:?}");
}

#[test]
fn a_probe_that_is_no_photo_is_named() {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path(), |card| card.probes[0].file = file(folder.path(), "probes/red.png", b"no photo"));
    let package = ModelPackage::open(folder.path()).unwrap();
    let error = package.self_test(folder.path()).unwrap_err();
    assert!(
        matches!(&error, ModelError::ProbePhoto { probe, .. } if probe.as_str() == "probes/red.png"),
        "{error:?}"
    );
}
