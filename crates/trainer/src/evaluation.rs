//! Predictions and truth to the figures people read.

use mynah_contracts::{CalibrationBin, Evaluation, EvaluationSummary, Label, LabelScore, Mistake, Photo};

use crate::calibration::best;

/// Bins of the reliability diagram.
const BINS: usize = 15;

/// The smallest probability a logarithm is taken of; a single wrong photo cannot make the mean infinite.
const LEAST_PROBABILITY: f64 = 1e-15;

/// A photo and the probabilities a model gave it.
#[derive(Clone, Debug)]
pub struct Prediction<'a> {
    /// The photo.
    pub photo: &'a Photo,
    /// The index of its label.
    pub truth: usize,
    /// One probability per label.
    pub probabilities: Vec<f32>,
}

/// Sums predictions up. `folds` is 0 where the photos were kept apart.
pub fn evaluate(
    predictions: &[Prediction<'_>],
    labels: &[Label],
    reject_threshold: f32,
    folds: u8,
) -> Evaluation {
    let judged: Vec<Judged<'_>> = predictions.iter().map(Judged::of).collect();
    let mut confusion = vec![vec![0u32; labels.len()]; labels.len()];
    for judged in &judged {
        if let Some(cell) = confusion.get_mut(judged.truth).and_then(|row| row.get_mut(judged.predicted)) {
            *cell += 1;
        }
    }
    let per_label = per_label(labels, &confusion);
    let calibration_bins = calibration_bins(&judged);
    let sure: Vec<&Judged<'_>> = judged.iter().filter(|j| j.probability >= reject_threshold).collect();
    let total = judged.len();
    let summary = EvaluationSummary {
        photos: total as u32,
        folds,
        accuracy: share(judged.iter().filter(|j| j.is_right()).count(), total),
        macro_f1: per_label.iter().map(|score| score.f1).sum::<f64>() / labels.len().max(1) as f64,
        log_loss: judged.iter().map(|j| j.log_loss).sum::<f64>() / total.max(1) as f64,
        calibration_error: calibration_bins
            .iter()
            .map(|bin| f64::from(bin.photos) / total.max(1) as f64 * (bin.accuracy - bin.confidence).abs())
            .sum(),
        coverage: share(sure.len(), total),
        accuracy_when_sure: share(sure.iter().filter(|j| j.is_right()).count(), sure.len()),
    };
    Evaluation { summary, per_label, confusion, calibration_bins, mistakes: mistakes(&judged, labels) }
}

/// A prediction reduced to what the figures need.
struct Judged<'a> {
    photo: &'a Photo,
    truth: usize,
    predicted: usize,
    probability: f32,
    log_loss: f64,
}

impl<'a> Judged<'a> {
    fn of(prediction: &Prediction<'a>) -> Self {
        let (predicted, probability) = best(&prediction.probabilities);
        let of_truth = prediction.probabilities.get(prediction.truth).copied().unwrap_or(0.0);
        Self {
            photo: prediction.photo,
            truth: prediction.truth,
            predicted,
            probability,
            log_loss: -f64::from(of_truth).max(LEAST_PROBABILITY).ln(),
        }
    }

    fn is_right(&self) -> bool {
        self.predicted == self.truth
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn per_label(labels: &[Label], confusion: &[Vec<u32>]) -> Vec<LabelScore> {
    labels
        .iter()
        .zip(confusion)
        .enumerate()
        .map(|(i, (label, row))| {
            let right = row.get(i).copied().unwrap_or(0) as usize;
            let photos: u32 = row.iter().sum();
            let predicted: u32 = confusion.iter().filter_map(|row| row.get(i)).sum();
            let (precision, recall) = (share(right, predicted as usize), share(right, photos as usize));
            let f1 = if right == 0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
            LabelScore { label: label.clone(), photos, precision, recall, f1 }
        })
        .collect()
}

fn calibration_bins(judged: &[Judged<'_>]) -> Vec<CalibrationBin> {
    let mut bins = [(0usize, 0.0f64, 0usize); BINS];
    for judged in judged {
        // Lower bounds are exclusive: a probability on a bound belongs to the bin below it.
        let index = (f64::from(judged.probability) * BINS as f64).ceil() as usize;
        if let Some(bin) = bins.get_mut(index.clamp(1, BINS) - 1) {
            bin.0 += 1;
            bin.1 += f64::from(judged.probability);
            bin.2 += usize::from(judged.is_right());
        }
    }
    bins.iter()
        .enumerate()
        .map(|(i, &(photos, sum, right))| CalibrationBin {
            lower: i as f64 / BINS as f64,
            upper: (i + 1) as f64 / BINS as f64,
            photos: photos as u32,
            confidence: sum / photos.max(1) as f64,
            accuracy: share(right, photos),
        })
        .collect()
}

fn mistakes(judged: &[Judged<'_>], labels: &[Label]) -> Vec<Mistake> {
    let mut wrong: Vec<&Judged<'_>> = judged.iter().filter(|j| !j.is_right()).collect();
    wrong.sort_by(|a, b| {
        b.probability.total_cmp(&a.probability).then_with(|| a.photo.sha256.cmp(&b.photo.sha256))
    });
    wrong
        .iter()
        .take(Evaluation::MAX_MISTAKES)
        .filter_map(|judged| {
            Some(Mistake {
                sha256: judged.photo.sha256,
                source: judged.photo.source.clone(),
                label: judged.photo.label.clone(),
                predicted: labels.get(judged.predicted)?.clone(),
                probability: judged.probability,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_hand_counted_case_has_the_hand_counted_figures() {
        let labels = sample::labels(&["a", "b", "c"]);
        let photos: Vec<Photo> =
            [(0, "a"), (1, "a"), (2, "b"), (3, "b"), (4, "c")].map(|(i, l)| sample::photo(i, l, 0)).to_vec();
        let given: [(usize, [f32; 3]); 5] = [
            (0, [0.9, 0.05, 0.05]),
            (0, [0.2, 0.7, 0.1]),
            (1, [0.1, 0.8, 0.1]),
            (1, [0.3, 0.4, 0.3]),
            (2, [0.5, 0.25, 0.25]),
        ];
        let predictions: Vec<_> = photos
            .iter()
            .zip(given)
            .map(|(photo, (truth, p))| Prediction { photo, truth, probabilities: p.to_vec() })
            .collect();
        let found = evaluate(&predictions, &labels, 0.6, 5);

        assert_eq!(found.confusion, vec![vec![1, 1, 0], vec![0, 2, 0], vec![1, 0, 0]]);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} is not {b}");
        close(found.summary.accuracy, 0.6);
        close(found.per_label[0].precision, 0.5);
        close(found.per_label[0].recall, 0.5);
        close(found.per_label[1].precision, 2.0 / 3.0);
        close(found.per_label[1].recall, 1.0);
        close(found.per_label[1].f1, 0.8);
        close(found.per_label[2].f1, 0.0);
        close(found.summary.macro_f1, (0.5 + 0.8 + 0.0) / 3.0);
        close(found.summary.log_loss, -(0.9f64 * 0.2 * 0.8 * 0.4 * 0.25).ln() / 5.0);
        close(found.summary.coverage, 0.6);
        close(found.summary.accuracy_when_sure, 2.0 / 3.0);
        // Each prediction is alone in its bin.
        close(found.summary.calibration_error, (0.1 + 0.7 + 0.2 + 0.6 + 0.5) / 5.0);
        assert_eq!(found.calibration_bins.iter().map(|bin| bin.photos).sum::<u32>(), 5);
        let wrong: Vec<_> =
            found.mistakes.iter().map(|m| (m.source.as_str(), m.predicted.as_str())).collect();
        assert_eq!(wrong, [("1", "b"), ("4", "a")]);
    }

    #[test]
    fn probabilities_on_a_bound_belong_to_the_bin_below() {
        let labels = sample::labels(&["a", "b"]);
        let photos: Vec<Photo> = (0..3).map(|i| sample::photo(i, "a", 0)).collect();
        let predictions: Vec<_> = [1.0f32, 0.6, 0.0]
            .iter()
            .zip(&photos)
            .map(|(p, photo)| Prediction { photo, truth: 0, probabilities: vec![*p, 0.0] })
            .collect();
        let bins = evaluate(&predictions, &labels, 0.0, 0).calibration_bins;
        let filled: Vec<usize> =
            bins.iter().enumerate().filter(|(_, bin)| bin.photos > 0).map(|(i, _)| i).collect();
        // 0.6 as a 32-bit float is a little more than nine fifteenths.
        assert_eq!(filled, [0, 9, 14]);
    }

    #[test]
    fn nothing_to_predict_is_not_a_division_by_zero() {
        let found = evaluate(&[], &sample::labels(&["a", "b"]), 0.5, 0);
        assert!(found.summary.accuracy == 0.0 && found.summary.log_loss == 0.0 && found.mistakes.is_empty());
    }
}
