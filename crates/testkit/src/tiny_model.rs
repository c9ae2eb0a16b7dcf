//! A whole model package of a few kilobytes that tells red, green and blue pictures apart.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context as _, Result};
use image::{ImageFormat, RgbImage};
use mynah_contracts::{
    Artifact as _, Calibration, ChannelOrder, DatasetRef, EvaluationSummary, FileRef, Geometry, Label,
    ModelCard, Preprocess, Probe, RelativePath, ResizeFilter, SchemaVersion, Sha256Digest, Tool, TrainerKind,
    Weights, from_json, to_json,
};

use crate::photos::{BLUE, GREEN, RED, noisy};

/// The graph; `fixtures/make_tiny_onnx.py` wrote it.
const ONNX: &[u8] = include_bytes!("../fixtures/tiny.onnx");

/// The input's side, in pixels.
const SIZE: u32 = 16;

/// How strongly the graph weighs a channel against the others.
const GAIN: f64 = 12.0;

/// `red`, `green`, `blue`: the order of the probabilities.
#[expect(clippy::expect_used, reason = "three constants; the tests of every user of this crate run it")]
pub fn tiny_labels() -> [Label; 3] {
    ["red", "green", "blue"].map(|name| name.parse().expect("a plain word is a label"))
}

/// Writes `model.json`, `model.onnx`, `labels.txt` and `probes/` below `folder`, which is made.
///
/// The network averages each channel and takes the softmax of their differences: pictures of one clear
/// colour get more than 0.99 for its label, grey ones a third each; the reject threshold is 0.6. The probes'
/// probabilities are computed here from their pixels, not by any inference engine.
///
/// # Errors
/// A file cannot be written.
pub fn tiny_model_package(folder: &Path) -> Result<ModelCard> {
    let labels = tiny_labels();
    let write = |name: &str, bytes: &[u8]| -> Result<FileRef> {
        let path = RelativePath::new(name).map_err(anyhow::Error::msg)?;
        let file = path.below(folder);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&file, bytes).with_context(|| file.display().to_string())?;
        Ok(FileRef::new(path, bytes))
    };

    let mut probes = Vec::new();
    for (label, colour) in labels.iter().zip([RED, GREEN, BLUE]) {
        // Of the input's own size and without loss: the pixels written are those the network gets.
        let picture = noisy(SIZE, SIZE, colour, 7);
        let mut png = Cursor::new(Vec::new());
        picture.write_to(&mut png, ImageFormat::Png)?;
        probes.push(Probe {
            file: write(&format!("probes/{label}.png"), png.get_ref())?,
            label: label.clone(),
            probabilities: probabilities(&picture).to_vec(),
        });
    }
    let lines = labels.iter().map(Label::as_str).collect::<Vec<_>>().join("\n") + "\n";
    let card = ModelCard {
        schema_version: SchemaVersion::CURRENT,
        tool: Tool::current(),
        created: None,
        trainer: TrainerKind::Embedded,
        dataset: DatasetRef { digest: Sha256Digest::of(b"three colours"), photos: 3 },
        labels: labels.to_vec(),
        model: write("model.onnx", ONNX)?,
        labels_file: write("labels.txt", lines.as_bytes())?,
        input: "image".into(),
        output: "probabilities".into(),
        preprocess: Preprocess {
            size: SIZE,
            geometry: Geometry::Squash,
            filter: ResizeFilter::Bilinear,
            channels: ChannelOrder::Rgb,
            mean: [0.0; 3],
            scale: [255.0; 3],
        },
        weights: Weights::F32,
        calibration: Calibration { temperature: 1.0, reject_threshold: 0.6 },
        cross_validation: EvaluationSummary {
            photos: 3,
            folds: 5,
            accuracy: 1.0,
            macro_f1: 1.0,
            log_loss: 0.0,
            calibration_error: 0.0,
            coverage: 1.0,
            accuracy_when_sure: 1.0,
        },
        backbone: None,
        probes,
    };
    write(ModelCard::FILE, &to_json(&card))?;
    Ok(card)
}

/// Changes the card of the package in `folder`.
///
/// # Errors
/// The card cannot be read or written.
pub fn edit_card(folder: &Path, change: impl FnOnce(&mut ModelCard)) -> Result<()> {
    let path = folder.join(ModelCard::FILE);
    let mut card = from_json(&std::fs::read(&path)?)?;
    change(&mut card);
    std::fs::write(&path, to_json(&card))?;
    Ok(())
}

/// What the graph makes of a picture, worked out apart from it.
fn probabilities(picture: &RgbImage) -> [f32; 3] {
    let pixels = f64::from(picture.width() * picture.height());
    let means = [0, 1, 2].map(|channel| {
        picture.pixels().map(|pixel| f64::from(pixel.0[channel]) / 255.0).sum::<f64>() / pixels
    });
    let total: f64 = means.iter().sum();
    let powers = means.map(|mean| (GAIN * (mean - (total - mean) / 2.0)).exp());
    let sum: f64 = powers.iter().sum();
    powers.map(|power| (power / sum) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let card = tiny_model_package(folder.path()).unwrap();
        let read: ModelCard = from_json(&std::fs::read(folder.path().join("model.json")).unwrap()).unwrap();
        assert_eq!(read, card);
        for (position, probe) in card.probes.iter().enumerate() {
            assert!(probe.probabilities[position] > 0.99, "{:?}", probe.probabilities);
            let bytes = std::fs::read(probe.file.path.below(folder.path())).unwrap();
            assert_eq!(Sha256Digest::of(&bytes), probe.file.sha256);
        }
    }
}
