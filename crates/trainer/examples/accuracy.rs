//! Measures what `docs/accuracy.md` states: augmentations against each other, with cross-validation on the photos of
//! `train.txt` and, once chosen, on those of `test.txt`.
//!
//! ```sh
//! cargo run --release -p mynah-trainer --example accuracy -- SET [SET…]
//! ```
//!
//! A SET is a folder of `<label>/<photo>` with `train.txt` and perhaps `test.txt`, one `<label>/<photo>` per line.
#![expect(clippy::print_stdout, reason = "its output is the measurement")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mynah_contracts::{
    Dataset, FOLDS, Label, LabelCount, Photo, Quiet, RelativePath, SchemaVersion, Sha256Digest, Tool,
    TrainRequest, Trainer as _,
};
use mynah_photo::{Likeness, Limits, decode};
use mynah_trainer::Embedded;
use mynah_trainer::augment::Augmentation::{self, CenterCrop, Colour, HorizontalFlip, RandomCrop, Squash};
use mynah_trainer::augment::Augmentations;

const CHOICES: [&[Augmentation]; 9] = [
    &[],
    &[HorizontalFlip],
    &[Squash],
    &[CenterCrop],
    &[RandomCrop],
    &[Colour],
    &[HorizontalFlip, Squash],
    &[HorizontalFlip, Squash, CenterCrop],
    &[HorizontalFlip, Squash, CenterCrop, RandomCrop, Colour],
];

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "| set | copies | seconds | l2 | cv accuracy | cv log loss | test accuracy | macro F1 | ECE | log loss | temperature | threshold | coverage | accuracy when sure |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for set in std::env::args_os().skip(1) {
        measure(&PathBuf::from(set))?;
    }
    Ok(())
}

fn measure(set: &Path) -> Result<(), Box<dyn Error>> {
    let work = tempfile::tempdir()?;
    let train = dataset(set, "train.txt")?;
    let test = if set.join("test.txt").exists() { Some(dataset(set, "test.txt")?) } else { None };
    let backbone = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/efficientnet-lite0-224.onnx");
    for choice in CHOICES {
        let trainer = Embedded::new(&backbone).with_augmentations(Augmentations::These(choice.to_vec()));
        let out = tempfile::tempdir()?;
        let request = TrainRequest {
            dataset: &train,
            dataset_folder: set,
            holdout: test.as_ref().map(|test| (test, set)),
            cache: &work.path().join("cache"),
            seed: 1,
            out: out.path(),
        };
        // Everything in the cache, so that the time is that of cross-validation and fit.
        trainer.train(&request, &Quiet).map_err(|fault| fault.chain())?;
        let started = Instant::now();
        let training = trainer.train(&request, &Quiet).map_err(|fault| fault.chain())?;
        let seconds = started.elapsed().as_secs_f64();
        let names: Vec<_> = choice.iter().map(|augmentation| augmentation.name()).collect();
        let cv = &training.cross_validation.summary;
        let apart = training.holdout.as_ref().map_or_else(String::new, |test| {
            let test = &test.summary;
            format!(
                "{:.3} | {:.3} | {:.3} | {:.3} | {:.2} | {:.2} | {:.3} | {:.3}",
                test.accuracy,
                test.macro_f1,
                test.calibration_error,
                test.log_loss,
                training.calibration.temperature,
                training.calibration.reject_threshold,
                test.coverage,
                test.accuracy_when_sure
            )
        });
        println!(
            "| {} | {} | {seconds:.1} | {:.4} | {:.4} | {:.4} | {apart} |",
            set.file_name().unwrap_or_default().display(),
            if names.is_empty() { "none".to_owned() } else { names.join(", ") },
            training.head.map_or(0.0, |head| head.l2),
            cv.accuracy,
            cv.log_loss,
        );
    }
    Ok(())
}

/// The photos a list names, dealt into folds in the order of their digests, label by label.
fn dataset(set: &Path, list: &str) -> Result<Dataset, Box<dyn Error>> {
    let mut photos = Vec::new();
    for line in fs::read_to_string(set.join(list))?.lines().filter(|line| !line.is_empty()) {
        let (label, _) = line.split_once('/').ok_or("no label")?;
        let bytes = fs::read(set.join(line))?;
        let decoded = decode(&bytes, &Limits::default())?;
        photos.push(Photo {
            sha256: Sha256Digest::of(&bytes),
            label: label.parse()?,
            file: RelativePath::new(line)?,
            source: line.to_owned(),
            format: decoded.format,
            width: decoded.image.width(),
            height: decoded.image.height(),
            bytes: bytes.len() as u64,
            likeness: Likeness::of(&decoded.image).to_string(),
            fold: 0,
        });
    }
    photos.sort_by(|a, b| (&a.label, a.sha256).cmp(&(&b.label, b.sha256)));
    photos.dedup_by(|a, b| a.sha256 == b.sha256);
    let mut counts: BTreeMap<Label, u32> = BTreeMap::new();
    for photo in &mut photos {
        let count = counts.entry(photo.label.clone()).or_default();
        photo.fold = (*count % u32::from(FOLDS)) as u8;
        *count += 1;
    }
    Ok(Dataset {
        schema_version: SchemaVersion::CURRENT,
        tool: Tool::current(),
        seed: 0,
        digest: Dataset::content_digest(0, &photos),
        labels: counts.into_iter().map(|(label, photos)| LabelCount { label, photos }).collect(),
        photos,
        skipped: Vec::new(),
        near_duplicates: Vec::new(),
        snapshot: None,
    })
}
