//! Two numbers learnt from held-out logits: the temperature that makes probabilities honest, and the probability
//! below which the model says "unknown".

use mynah_contracts::Calibration;

use crate::head::softmax;

/// The temperatures that are considered.
const TEMPERATURES: std::ops::RangeInclusive<f64> = 0.1..=10.0;
/// Wanted accuracy among the predictions that are not rejected.
const SURE_ACCURACY: f64 = 0.95;
/// Wanted share of predictions that are not rejected.
const SURE_COVERAGE: f64 = 0.5;
/// The share of the correct predictions that may always be rejected: what is less sure than nearly every correct
/// prediction is more likely something the model has never seen.
const SPARED: f64 = 0.05;
/// No threshold above it: a model that is never sure enough says nothing at all.
const MAX_THRESHOLD: f32 = 0.99;

/// Logits of a photo the model had not learnt from, and its true label.
#[derive(Clone, Copy, Debug)]
pub struct HeldOut<'a> {
    /// One number per label.
    pub logits: &'a [f64],
    /// The index of the true label.
    pub truth: usize,
}

/// The probabilities of logits at a temperature (Guo et al. 2017, "On Calibration of Modern Neural Networks",
/// §4.2), computed in 64 bits.
pub fn probabilities(logits: &[f64], temperature: f32) -> Vec<f32> {
    let scaled: Vec<f64> = logits.iter().map(|z| z / f64::from(temperature)).collect();
    softmax(&scaled).into_iter().map(|p| p as f32).collect()
}

/// The most probable label's index (the first of equals) and its probability.
pub fn best(probabilities: &[f32]) -> (usize, f32) {
    probabilities
        .iter()
        .copied()
        .enumerate()
        .fold((0, f32::NEG_INFINITY), |best, (i, p)| if p > best.1 { (i, p) } else { best })
}

/// The temperature that minimises the negative log likelihood of `held_out`, between 0.1 and 10.
///
/// The likelihood is convex in 1/temperature, so its slope's only root is found by bisection. The true labels
/// are smoothed as if one photo more of every label had been seen (the idea of Platt 1999, §2.2): without it, a
/// few photos that are all right would ask for infinite certainty. With many photos the smoothing vanishes.
pub fn temperature(held_out: &[HeldOut<'_>]) -> f32 {
    let slope = |inverse: f64| -> f64 {
        held_out
            .iter()
            .map(|HeldOut { logits, truth }| {
                let labels = logits.len() as f64;
                let other = 1.0 / (held_out.len() as f64 + labels);
                let scaled: Vec<f64> = logits.iter().map(|z| z * inverse).collect();
                softmax(&scaled)
                    .iter()
                    .zip(*logits)
                    .enumerate()
                    .map(|(label, (p, z))| {
                        let target = if label == *truth { 1.0 - (labels - 1.0) * other } else { other };
                        (p - target) * z
                    })
                    .sum::<f64>()
            })
            .sum()
    };
    // Bisect the logarithm: the range spans two decades.
    let (mut low, mut high) = (TEMPERATURES.start().ln(), TEMPERATURES.end().ln());
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        // A positive slope in 1/temperature: less certainty, a higher temperature.
        if slope((-middle).exp()) > 0.0 { low = middle } else { high = middle }
    }
    f64::midpoint(low, high).exp() as f32
}

/// The probability below which a prediction is better called "unknown".
///
/// It is the smallest that leaves 95 % of the remaining predictions right and at least half of them standing, but
/// not below what 95 % of the right predictions reach. Where no threshold does so: the one that keeps the most of
/// the right predictions for the least of the wrong ones (the largest difference of both shares).
/// `predictions` are each photo's best probability and whether it was right.
pub fn reject_threshold(predictions: &[(f32, bool)]) -> f32 {
    let mut sorted = predictions.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let total = sorted.len() as f64;
    let right_total = sorted.iter().filter(|(_, right)| *right).count();
    let (rights, wrongs) = (right_total.max(1) as f64, (sorted.len() - right_total).max(1) as f64);

    // Each distinct probability as a threshold: it keeps a prefix of `sorted`.
    let mut right = 0;
    let mut sure = None;
    let mut separating = (f64::NEG_INFINITY, 0.0);
    for (i, &(probability, is_right)) in sorted.iter().enumerate() {
        right += usize::from(is_right);
        if sorted.get(i + 1).is_some_and(|next| next.0.total_cmp(&probability).is_eq()) {
            continue;
        }
        let kept = (i + 1) as f64;
        if right as f64 / kept >= SURE_ACCURACY && kept / total >= SURE_COVERAGE {
            sure = Some(probability);
        }
        let gain = right as f64 / rights - (kept - right as f64) / wrongs;
        if gain > separating.0 {
            separating = (gain, probability);
        }
    }
    let spared = {
        let mut rights: Vec<f32> = sorted.iter().filter(|(_, right)| *right).map(|(p, _)| *p).collect();
        rights.reverse();
        rights.get((rights.len() as f64 * SPARED) as usize).copied().unwrap_or(0.0)
    };
    sure.map_or(separating.1, |sure| sure.max(spared)).min(MAX_THRESHOLD)
}

/// Both numbers, from held-out logits.
pub fn calibrate(held_out: &[HeldOut<'_>]) -> Calibration {
    let temperature = temperature(held_out);
    let predictions: Vec<(f32, bool)> = held_out
        .iter()
        .map(|photo| {
            let (label, probability) = best(&probabilities(photo.logits, temperature));
            (probability, label == photo.truth)
        })
        .collect();
    Calibration { temperature, reject_threshold: reject_threshold(&predictions) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `n` photos of two labels whose log odds are `odds`, of which the share that honest odds promise is right.
    fn honest(n: usize, odds: f64, stretch: f64) -> Vec<(Vec<f64>, usize)> {
        let right = (n as f64 / (1.0 + (-odds).exp())).round() as usize;
        (0..n).map(|i| (vec![odds * stretch, 0.0], usize::from(i >= right))).collect()
    }

    fn held_out(photos: &[(Vec<f64>, usize)]) -> Vec<HeldOut<'_>> {
        photos.iter().map(|(logits, truth)| HeldOut { logits, truth: *truth }).collect()
    }

    #[test]
    fn exaggerated_logits_are_cooled_by_their_exaggeration() {
        for stretch in [0.5, 1.0, 3.0] {
            let photos: Vec<_> =
                [0.5, 1.0, 2.0].iter().flat_map(|odds| honest(10_000, *odds, stretch)).collect();
            let found = f64::from(temperature(&held_out(&photos)));
            assert!((found - stretch).abs() < 0.01 * stretch, "{stretch}: {found}");
        }
    }

    #[test]
    fn twenty_right_answers_are_not_certainty() {
        let photos: Vec<_> =
            (0..20).map(|i| if i % 2 == 0 { (vec![2.0, 0.0], 0) } else { (vec![0.0, 2.0], 1) }).collect();
        let found = temperature(&held_out(&photos));
        let (_, probability) = best(&probabilities(&[2.0, 0.0], found));
        assert!(probability > 0.9 && probability < 0.99, "{probability}");
    }

    #[test]
    fn a_threshold_rejects_just_enough() {
        // 80 sure and right, 20 unsure of which half are wrong: keeping 84 with 80 right is 95.2 %.
        let mut predictions: Vec<(f32, bool)> = (0..80).map(|i| (0.8 + i as f32 / 1000.0, true)).collect();
        predictions.extend((0..20).map(|i| (0.6 - i as f32 / 1000.0, i % 2 == 1)));
        let threshold = reject_threshold(&predictions);
        let kept: Vec<_> = predictions.iter().filter(|(p, _)| *p >= threshold).collect();
        let right = kept.iter().filter(|(_, right)| *right).count();
        assert!(right as f64 / kept.len() as f64 >= 0.95);
        // The next lower threshold would keep too many wrong ones.
        let more = predictions.iter().filter(|(p, _)| *p >= threshold - 0.003).collect::<Vec<_>>();
        assert!((more.iter().filter(|(_, right)| *right).count() as f64) < 0.95 * more.len() as f64);
    }

    #[test]
    fn a_perfect_model_still_rejects_what_is_less_sure_than_its_photos() {
        let predictions: Vec<(f32, bool)> = (0..100).map(|i| (0.9 + i as f32 / 1000.0, true)).collect();
        let threshold = reject_threshold(&predictions);
        assert!((threshold - 0.905).abs() < 1e-6, "{threshold}");
        assert!((reject_threshold(&[(1.0, true), (1.0, true)]) - 0.99).abs() < 1e-6);
    }

    #[test]
    fn a_poor_model_keeps_right_rather_than_wrong() {
        let predictions: Vec<(f32, bool)> =
            (0..100).map(|i| (i as f32 / 100.0, i >= 50 && i % 4 != 0)).collect();
        let threshold = reject_threshold(&predictions);
        assert!((0.45..0.55).contains(&threshold), "{threshold}");
    }

    proptest! {
        #[test]
        fn any_predictions_give_a_valid_calibration(
            photos in proptest::collection::vec((proptest::collection::vec(-50.0f64..50.0, 3), 0usize..3), 0..40),
        ) {
            let found = calibrate(&held_out(&photos));
            prop_assert!(found.validate().is_ok(), "{:?}", found);
        }
    }
}
