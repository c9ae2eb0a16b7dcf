//! A model package: the folder that export-model writes and everything else reads.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use mynah_contracts::{FileRef, ModelCard, Sha256Digest, from_json};
use mynah_photo::{Limits, RgbImage, decode};

use crate::{GraphError, MAX_MODEL_BYTES, ModelError, Network, input_values};

/// How far a probability may be from the one training gave for the same photo.
///
/// 16-bit weights move a probability by less than 1e-3 (measured), and a processor's order of additions by
/// less than 1e-5; another geometry, channel order or resize filter moves it by far more.
pub const PROBE_TOLERANCE: f32 = 1e-3;

/// The most a card, a labels file or a probe may weigh, in bytes.
const MAX_SMALL_FILE: u64 = 64 << 20;

/// A model whose files are the ones its card names.
#[derive(Clone, Debug)]
pub struct ModelPackage {
    card: ModelCard,
    network: Network,
}

impl ModelPackage {
    /// Reads and verifies the package in `folder`: the card, then every file it names against its digest,
    /// the labels against `labels.txt`, the network's output against the labels.
    ///
    /// # Errors
    /// Names the first file that is missing, unreadable or changed, or says why the graph is refused.
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        let card_bytes = read(&folder.join(<ModelCard as mynah_contracts::Artifact>::FILE), MAX_SMALL_FILE)?;
        let card: ModelCard = from_json(&card_bytes).map_err(ModelError::Card)?;
        let labels = read_verified(folder, &card.labels_file, MAX_SMALL_FILE)?;
        check_labels(&card, &labels)?;
        for probe in &card.probes {
            read_verified(folder, &probe.file, MAX_SMALL_FILE)?;
        }
        let onnx = read_verified(folder, &card.model, MAX_MODEL_BYTES)?;
        Self::from_parts(card, &onnx)
    }

    /// A package whose files are not on disk yet: export checks a model with it before it writes.
    ///
    /// # Errors
    /// Says why the graph is refused, or that its output does not fit the labels or its digest the card.
    pub fn from_parts(card: ModelCard, onnx: &[u8]) -> Result<Self, ModelError> {
        check_digest(&card.model, onnx)?;
        let network = Network::from_onnx(onnx, &card.input, &card.output, card.preprocess.size)?;
        if network.output_len() != card.labels.len() {
            return Err(ModelError::OutputLength {
                outputs: network.output_len(),
                labels: card.labels.len(),
            });
        }
        Ok(Self { card, network })
    }

    /// The model's card.
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// One probability per label of the card, in its order.
    ///
    /// # Errors
    /// Where the picture cannot be resized, or the network gives no finite numbers for it.
    pub fn classify(&self, image: &RgbImage) -> Result<Vec<f32>, ModelError> {
        self.network.run(&input_values(image, &self.card.preprocess)?)
    }

    /// Runs every probe of the package in `folder` and compares with what training gave it.
    ///
    /// # Errors
    /// [`ModelError::ProbeMismatch`] names the first probe that is off by more than [`PROBE_TOLERANCE`].
    pub fn self_test(&self, folder: &Path) -> Result<(), ModelError> {
        for probe in &self.card.probes {
            let bytes = read_verified(folder, &probe.file, MAX_SMALL_FILE)?;
            let decoded = decode(&bytes, &Limits::default())
                .map_err(|source| ModelError::ProbePhoto { probe: probe.file.path.clone(), source })?;
            let got = self.classify(&decoded.image)?;
            let worst = got
                .iter()
                .zip(&probe.probabilities)
                .zip(&self.card.labels)
                .max_by(|((a, b), _), ((c, d), _)| (*a - *b).abs().total_cmp(&(*c - *d).abs()));
            if let Some(((&got, &expected), label)) = worst
                && (got - expected).abs() > PROBE_TOLERANCE
            {
                let (probe, label) = (probe.file.path.clone(), label.clone());
                return Err(ModelError::ProbeMismatch { probe, label, expected, got });
            }
        }
        Ok(())
    }
}

/// The bytes of a file that must not be larger than `limit`.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ModelError> {
    let failed = |source| ModelError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // One byte more than allowed is enough to know, whatever the file's metadata claim.
    fs::File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(GraphError::TooLarge { file: path.display().to_string(), limit }.into());
    }
    Ok(bytes)
}

fn read_verified(folder: &Path, file: &FileRef, limit: u64) -> Result<Vec<u8>, ModelError> {
    let bytes = read(&file.path.below(folder), limit)?;
    check_digest(file, &bytes)?;
    Ok(bytes)
}

fn check_digest(file: &FileRef, bytes: &[u8]) -> Result<(), ModelError> {
    let found = Sha256Digest::of(bytes);
    if found == file.sha256 {
        return Ok(());
    }
    Err(ModelError::Digest { file: file.path.clone(), expected: file.sha256, found })
}

/// Whether `labels.txt` names the card's labels, one a line, in its order.
fn check_labels(card: &ModelCard, bytes: &[u8]) -> Result<(), ModelError> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let mut labels = card.labels.iter();
    for line in 1.. {
        let (found, expected) = match (lines.next(), labels.next()) {
            (None, None) => break,
            (Some(found), Some(expected)) if found == expected.as_str() => continue,
            (found, expected) => (found.unwrap_or_default(), expected.map_or("", |label| label.as_str())),
        };
        return Err(ModelError::Labels {
            file: card.labels_file.path.clone(),
            line,
            found: found.chars().take(80).collect(),
            expected: expected.to_owned(),
        });
    }
    Ok(())
}
