//! Trainings made up for tests: the figures follow from a confusion matrix, as they do in a real one.

use std::path::{Path, PathBuf};

use mynah_contracts::{
    Backbone, Calibration, CalibrationBin, ChannelOrder, Dataset, DatasetRef, Evaluation, EvaluationSummary,
    FileRef, Geometry, Head, Label, LabelCount, LabelScore, Mistake, NearDuplicate, Preprocess, RelativePath,
    ResizeFilter, SchemaVersion, Sha256Digest, SkipReason, Skipped, Tool, TrainerKind, Training,
};

use super::Report;

/// What a report is made of, owned.
pub(super) struct Case {
    pub(super) training: Training,
    pub(super) dataset: Dataset,
    pub(super) folder: PathBuf,
}

impl Case {
    pub(super) fn report(&self) -> Report<'_> {
        Report {
            training: &self.training,
            dataset: &self.dataset,
            dataset_folder: &self.folder,
            holdout: None,
            gates: &[],
        }
    }
}

pub(super) fn labels(names: &[&str]) -> Vec<Label> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// A training over `training`'s labels with an import that left nothing out.
pub(super) fn case(training: Training) -> Case {
    let dataset = Dataset {
        schema_version: SchemaVersion::CURRENT,
        tool: tool(),
        seed: training.seed,
        digest: training.dataset.digest,
        labels: training
            .cross_validation
            .per_label
            .iter()
            .map(|score| LabelCount { label: score.label.clone(), photos: score.photos })
            .collect(),
        photos: Vec::new(),
        skipped: Vec::new(),
        near_duplicates: Vec::new(),
        snapshot: None,
    };
    Case { training, dataset, folder: Path::new("no such folder").into() }
}

/// Six labels, 600 photos, 91.5 % right, with notes of the import.
pub(super) fn six_labels() -> Case {
    let labels = labels(&["cardboard", "glass", "metal", "paper", "plastic", "trash"]);
    let mut case = case(training(
        &labels,
        &[
            vec![96, 0, 0, 3, 0, 1],
            vec![0, 92, 3, 0, 5, 0],
            vec![0, 4, 93, 1, 2, 0],
            vec![2, 0, 0, 95, 1, 2],
            vec![0, 7, 2, 1, 88, 2],
            vec![1, 1, 3, 6, 4, 85],
        ],
    ));
    case.dataset.skipped = ["notes.txt", "paper/12.jpg", "paper/12 copy.jpg", "trash/0.png"]
        .into_iter()
        .zip([SkipReason::Unlabelled, SkipReason::Corrupt, SkipReason::Duplicate, SkipReason::Duplicate])
        .map(|(source, reason)| Skipped { source: source.into(), reason, detail: reason.words().into() })
        .collect();
    case.dataset.near_duplicates = vec![NearDuplicate {
        first: "glass/bottle_3.jpg".into(),
        second: "plastic/bottle_17.jpg".into(),
        distance: 9,
    }];
    case
}

/// Labels and file names of someone who wishes us ill.
pub(super) fn hostile() -> Case {
    let labels =
        labels(&["##[error]", "##vso[task.x]y", "<script>alert(1)<", "a|b", "[x](http)`*_", "Ünïcode"]);
    let mut case = case(training(
        &labels,
        &[
            vec![8, 2, 0, 0, 0, 0],
            vec![3, 7, 0, 0, 0, 0],
            vec![0, 0, 9, 1, 0, 0],
            vec![0, 0, 0, 10, 0, 0],
            vec![0, 0, 0, 0, 9, 1],
            vec![0, 0, 0, 0, 0, 10],
        ],
    ));
    let source = "a|b/\n##vso[task.complete result=Succeeded]\u{202E}<img src=x onerror=alert(1)>.jpg";
    for mistake in &mut case.training.cross_validation.mistakes {
        mistake.source = source.into();
    }
    case.dataset.near_duplicates =
        vec![NearDuplicate { first: source.into(), second: "# x".into(), distance: 3 }];
    case
}

/// A training of the embedded trainer with this cross-validation.
pub(super) fn training(labels: &[Label], confusion: &[Vec<u32>]) -> Training {
    let photos = confusion.iter().flatten().sum();
    Training {
        schema_version: SchemaVersion::CURRENT,
        tool: tool(),
        created: None,
        trainer: TrainerKind::Embedded,
        seed: 7,
        dataset: DatasetRef { digest: Sha256Digest::of(b"dataset"), photos },
        labels: labels.to_vec(),
        preprocess: Preprocess {
            size: 224,
            geometry: Geometry::CenterCrop { fraction: 0.875 },
            filter: ResizeFilter::CatmullRom,
            channels: ChannelOrder::Rgb,
            mean: [127.0; 3],
            scale: [128.0; 3],
        },
        backbone: Some(Backbone {
            name: "efficientnet-lite0-224".into(),
            sha256: Sha256Digest::of(b"backbone"),
            embedding_length: 1280,
        }),
        augmentations: vec!["flip".into(), "crop-80".into()],
        head: Some(Head {
            file: FileRef::new(RelativePath::new("head.safetensors").unwrap(), b"head"),
            l2: 0.001,
            iterations: 31,
        }),
        custom_vision: None,
        calibration: Calibration { temperature: 0.92, reject_threshold: 0.58 },
        cross_validation: evaluation(labels, confusion, 5),
        holdout: None,
        probes: Vec::new(),
    }
}

/// The evaluation that this matrix tells of, with made-up probabilities.
pub(super) fn evaluation(labels: &[Label], confusion: &[Vec<u32>], folds: u8) -> Evaluation {
    let photos: u32 = confusion.iter().flatten().sum();
    let right: u32 = (0..labels.len()).map(|i| confusion[i][i]).sum();
    let ratio = |a: u32, b: u32| if b == 0 { 0.0 } else { f64::from(a) / f64::from(b) };
    let per_label: Vec<LabelScore> = labels
        .iter()
        .enumerate()
        .map(|(i, label)| {
            let of: u32 = confusion[i].iter().sum();
            let precision = ratio(confusion[i][i], confusion.iter().map(|row| row[i]).sum());
            let recall = ratio(confusion[i][i], of);
            let f1 =
                if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
            LabelScore { label: label.clone(), photos: of, precision, recall, f1 }
        })
        .collect();
    let mut mistakes = Vec::new();
    for (i, row) in confusion.iter().enumerate() {
        for (j, &count) in row.iter().enumerate() {
            for n in 0..if i == j { 0 } else { count } {
                let source = format!("{}/IMG_{:04}.jpg", labels[i], i * 1000 + j * 100 + n as usize);
                mistakes.push(Mistake {
                    sha256: Sha256Digest::of(source.as_bytes()),
                    source,
                    label: labels[i].clone(),
                    predicted: labels[j].clone(),
                    probability: 0.97 - 0.017 * mistakes.len() as f32,
                });
            }
        }
    }
    mistakes.truncate(Evaluation::MAX_MISTAKES);
    let accuracy = ratio(right, photos);
    Evaluation {
        summary: EvaluationSummary {
            photos,
            folds,
            accuracy,
            macro_f1: per_label.iter().map(|score| score.f1).sum::<f64>() / labels.len() as f64,
            log_loss: 0.281,
            calibration_error: 0.023,
            coverage: 0.935,
            accuracy_when_sure: (accuracy + 0.04).min(1.0),
        },
        per_label,
        confusion: confusion.to_vec(),
        calibration_bins: bins(photos),
        mistakes,
    }
}

/// Most predictions sure and nearly right, some less sure, none below a fifth.
fn bins(photos: u32) -> Vec<CalibrationBin> {
    (0..15_u32)
        .map(|i| {
            let (lower, upper) = (f64::from(i) / 15.0, f64::from(i + 1) / 15.0);
            let photos = if i < 3 { 0 } else { photos / 150 * i.pow(4) / 1000 };
            let confidence = if photos == 0 { 0.0 } else { f64::midpoint(lower, upper) };
            let wobble = if i % 2 == 0 { 0.05 } else { -0.04 };
            let accuracy = if photos == 0 { 0.0 } else { (confidence + wobble).clamp(0.0, 1.0) };
            CalibrationBin { lower, upper, photos, confidence, accuracy }
        })
        .collect()
}

fn tool() -> Tool {
    Tool { name: "mynah".into(), version: "0.1.0".into() }
}
