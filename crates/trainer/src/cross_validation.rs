//! Chooses the L2 penalty by cross-validation on the folds the dataset records, and keeps what each photo got from
//! the head that had not learnt from it.

use crate::calibration::HeldOut;
use crate::dual::{self, Member};
use crate::head::{Cancelled, softmax};
use crate::kernel::Kernel;
use crate::matrix::Matrix;

/// Penalties, from strong to weak, as multiples of the embeddings' mean squared distance from their mean: so they
/// fit any backbone. Half a decade apart.
const PENALTIES: [f64; 9] = [1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6];

/// The search begins here and goes where the loss falls.
const FIRST: usize = 4;

/// After so many penalties without a better loss the search goes no further that way.
const PATIENCE: usize = 2;

/// How long the gradient of a fit may be that is only compared with others; embeddings have length 1. The
/// logits it leaves differ by a few hundredths from the minimum's.
const TRIAL_GRADIENT: f64 = 1e-4;

/// The same for the fit to all photos, which [`crate::head::fit`] completes in 64 bits.
const FINAL_GRADIENT: f64 = 2e-5;

/// The photos of a dataset as numbers.
#[derive(Clone, Debug)]
pub struct Samples {
    /// `copies` rows per photo, side by side; the first is the photo as it is.
    pub embeddings: Matrix,
    /// Rows per photo.
    pub copies: usize,
    /// Each photo's label.
    pub truth: Vec<usize>,
    /// Each photo's fold.
    pub folds: Vec<u8>,
    /// How many labels there are.
    pub labels: usize,
}

impl Samples {
    /// The rows of the photos for which `wanted` holds, all copies, with their labels.
    fn rows(&self, wanted: impl Fn(u8) -> bool) -> Vec<(usize, usize)> {
        self.truth
            .iter()
            .zip(&self.folds)
            .enumerate()
            .filter(|(_, (_, fold))| wanted(**fold))
            .flat_map(|(photo, (truth, _))| {
                (photo * self.copies..(photo + 1) * self.copies).map(|row| (row, *truth))
            })
            .collect()
    }

    /// Every row.
    pub fn all_rows(&self) -> Vec<(usize, usize)> {
        self.rows(|_| true)
    }

    /// The embedding of the photo as it is.
    pub fn original(&self, photo: usize) -> &[f32] {
        self.embeddings.row(photo * self.copies)
    }
}

/// What cross-validation found.
#[derive(Clone, Debug)]
pub struct CrossValidation {
    /// The penalty with the least mean log loss.
    pub l2: f64,
    /// Mean log loss for each penalty tried, in the order tried.
    pub path: Vec<(f64, f64)>,
    /// For each photo, the logits of the head that had not learnt from its fold.
    pub logits: Vec<Vec<f64>>,
    /// How many folds hold photos.
    pub folds: u8,
    /// Where the fit to all photos with that penalty may begin: nearly its [`Fit::parameters`].
    ///
    /// [`Fit::parameters`]: crate::head::Fit::parameters
    pub start: Vec<f64>,
}

impl CrossValidation {
    /// The logits beside the truth.
    pub fn held_out<'a>(&'a self, samples: &'a Samples) -> Vec<HeldOut<'a>> {
        self.logits
            .iter()
            .zip(&samples.truth)
            .map(|(logits, truth)| HeldOut { logits, truth: *truth })
            .collect()
    }
}

/// Why there can be no cross-validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CrossValidationError {
    /// Nothing to hold out.
    #[error("the photos lie in {folds} fold(s), cross-validation needs at least 2")]
    TooFewFolds {
        /// How many folds hold photos.
        folds: usize,
    },
    /// Someone asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Fits a head per fold and penalty and keeps the penalty with the least mean log loss over all photos.
///
/// # Errors
/// Where fewer than two folds hold photos, or someone asks to stop. `progress` is told how many of how many fits
/// are done at most.
pub fn cross_validate(
    samples: &Samples,
    progress: &(dyn Fn(u64, u64) + Sync),
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<CrossValidation, CrossValidationError> {
    let mut present = samples.folds.clone();
    present.sort_unstable();
    present.dedup();
    if present.len() < 2 {
        return Err(CrossValidationError::TooFewFolds { folds: present.len() });
    }
    let kernel = Kernel::of(&samples.embeddings);
    let folds: Vec<Fold> = present.iter().map(|fold| Fold::new(samples, *fold)).collect();
    let mut search = Search { samples, kernel: &kernel, folds: &folds, path: Vec::new(), best: None };
    let fits = ((PENALTIES.len() + 1) * folds.len()) as u64;
    let told = |search: &Search<'_>| progress((search.path.len() * folds.len()) as u64, fits);

    let (stronger, weaker) = PENALTIES.split_at(FIRST);
    search.walk(weaker.iter(), &told, cancelled)?;
    if search.best.as_ref().is_some_and(|best| Some(&best.penalty) == weaker.first()) {
        search.walk(stronger.iter().rev(), &told, cancelled)?;
    }
    let Search { path, best, .. } = search;
    let Best { penalty, logits, .. } = best.unwrap_or_default();
    let mut all = [Member::new(samples.all_rows(), samples.labels)];
    dual::fit(&kernel, &mut all, (penalty, FINAL_GRADIENT), cancelled)?;
    progress(fits, fits);
    let [all] = all;
    Ok(CrossValidation {
        l2: penalty * kernel.spread(),
        path: path.into_iter().map(|(penalty, loss)| (penalty * kernel.spread(), loss)).collect(),
        logits,
        folds: present.len() as u8,
        start: all.parameters(&kernel),
    })
}

/// Penalties tried so far.
struct Search<'a> {
    samples: &'a Samples,
    kernel: &'a Kernel<'a>,
    folds: &'a [Fold],
    path: Vec<(f64, f64)>,
    best: Option<Best>,
}

#[derive(Default)]
struct Best {
    penalty: f64,
    loss: f64,
    logits: Vec<Vec<f64>>,
}

impl Search<'_> {
    /// Tries `penalties` one after another, each beginning where the last one ended, until the loss only rises.
    fn walk<'p>(
        &mut self,
        penalties: impl Iterator<Item = &'p f64>,
        told: &dyn Fn(&Self),
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), Cancelled> {
        let mut members: Vec<Member> = self.folds.iter().map(Fold::member).collect();
        let mut worse = 0;
        for &penalty in penalties {
            dual::fit(self.kernel, &mut members, (penalty, TRIAL_GRADIENT), cancelled)?;
            let known = dual::logits(self.kernel, &members);
            let mut logits = vec![Vec::new(); self.samples.truth.len()];
            for (fold, known) in self.folds.iter().zip(&known) {
                for photo in &fold.held_out {
                    logits[*photo] = fold.logits(known, photo * self.samples.copies, self.samples.labels);
                }
            }
            let loss = mean_log_loss(&logits, &self.samples.truth);
            self.path.push((penalty, loss));
            told(self);
            if self.best.as_ref().is_none_or(|best| loss < best.loss) {
                self.best = Some(Best { penalty, loss, logits });
                worse = 0;
            } else {
                worse += 1;
                if worse == PATIENCE {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// One fold: what is learnt from the others, and which photos are then predicted.
struct Fold {
    /// The labels that its training part holds; a label may be missing where all its photos look alike.
    present: Vec<usize>,
    /// Rows to learn from, with indices into `present`.
    rows: Vec<(usize, usize)>,
    held_out: Vec<usize>,
}

impl Fold {
    fn new(samples: &Samples, fold: u8) -> Self {
        let rows = samples.rows(|other| other != fold);
        let mut present: Vec<usize> = rows.iter().map(|(_, label)| *label).collect();
        present.sort_unstable();
        present.dedup();
        let rows = rows
            .into_iter()
            .filter_map(|(row, label)| Some((row, present.binary_search(&label).ok()?)))
            .collect();
        let held_out = (0..samples.truth.len()).filter(|photo| samples.folds[*photo] == fold).collect();
        Self { present, rows, held_out }
    }

    fn member(&self) -> Member {
        Member::new(self.rows.clone(), self.present.len())
    }

    /// The logits of a row over all labels, from those of all rows over the labels that were learnt. One that was not
    /// is as improbable as the least probable one that was: the true likelihood would be zero, and one photo would
    /// then decide the mean.
    fn logits(&self, known: &[f64], row: usize, labels: usize) -> Vec<f64> {
        let known = &known[row * self.present.len()..(row + 1) * self.present.len()];
        let least = known.iter().copied().fold(f64::INFINITY, f64::min);
        let mut logits = vec![least; labels];
        for (label, logit) in self.present.iter().zip(known) {
            logits[*label] = *logit;
        }
        logits
    }
}

fn mean_log_loss(logits: &[Vec<f64>], truth: &[usize]) -> f64 {
    let sum: f64 = logits
        .iter()
        .zip(truth)
        .map(|(logits, truth)| -softmax(logits)[*truth].max(f64::MIN_POSITIVE).ln())
        .sum();
    sum / truth.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    const NEVER: &(dyn Fn() -> bool + Sync) = &|| false;

    fn samples(labels: usize, each: usize, noise: f32, fold: impl Fn(usize) -> u8) -> Samples {
        let (embeddings, rows) = sample::clusters(labels, each, 12, noise);
        let truth: Vec<usize> = rows.iter().map(|(_, label)| *label).collect();
        let folds = (0..truth.len()).map(fold).collect();
        Samples { embeddings, copies: 1, truth, folds, labels }
    }

    fn accuracy(found: &CrossValidation, samples: &Samples) -> f64 {
        let right = found.held_out(samples).into_iter().filter(|photo| {
            let top = photo.logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            photo.logits[photo.truth] >= top
        });
        right.count() as f64 / samples.truth.len() as f64
    }

    #[test]
    fn what_can_be_learnt_is_learnt_and_what_cannot_is_not() {
        let easy = samples(4, 50, 1.0, |i| (i % 5) as u8);
        let found = cross_validate(&easy, &|_, _| (), NEVER).unwrap();
        assert!(accuracy(&found, &easy) > 0.95);
        assert_eq!(found.folds, 5);
        // Labels dealt at random: held-out photos must not be guessed better than chance, or something leaks.
        let mut noise = samples(4, 50, 1.0, |i| (i % 5) as u8);
        for (i, truth) in noise.truth.iter_mut().enumerate() {
            *truth = ((i * 2_654_435_761) >> 7) % 4;
        }
        let found = cross_validate(&noise, &|_, _| (), NEVER).unwrap();
        assert!(accuracy(&found, &noise) < 0.4, "{}", accuracy(&found, &noise));
    }

    #[test]
    fn a_photos_copies_stay_in_its_fold() {
        // Each photo is unlike all others, and its copies are like it: whoever saw a copy would know the label.
        let photos = 60;
        let mut embeddings = Matrix::zeros(photos * 3, photos);
        for row in 0..photos * 3 {
            embeddings.row_mut(row)[row / 3] = 10.0;
        }
        let truth: Vec<usize> = (0..photos).map(|i| ((i * 2_654_435_761) >> 9) % 2).collect();
        let folds = (0..photos).map(|i| (i % 5) as u8).collect();
        let samples = Samples { embeddings, copies: 3, truth, folds, labels: 2 };
        let found = cross_validate(&samples, &|_, _| (), NEVER).unwrap();
        assert!(accuracy(&found, &samples) < 0.7, "{}", accuracy(&found, &samples));
    }

    #[test]
    fn a_label_that_one_fold_holds_alone_is_wrong_but_not_infinitely() {
        let samples = samples(3, 10, 0.5, |i| if i % 3 == 2 { 0 } else { 1 + (i % 4) as u8 });
        let found = cross_validate(&samples, &|_, _| (), NEVER).unwrap();
        let truth_of_lone: Vec<f64> = found
            .held_out(&samples)
            .iter()
            .filter(|photo| photo.truth == 2)
            .map(|photo| softmax(photo.logits)[2])
            .collect();
        assert!(truth_of_lone.iter().all(|p| *p > 0.0 && *p <= 0.5), "{truth_of_lone:?}");
        assert!(found.path.iter().all(|(_, loss)| loss.is_finite()));
    }

    #[test]
    fn one_fold_is_too_few() {
        let samples = samples(2, 5, 0.5, |_| 3);
        let error = cross_validate(&samples, &|_, _| (), NEVER).unwrap_err();
        assert_eq!(error, CrossValidationError::TooFewFolds { folds: 1 });
    }

    #[test]
    fn threads_change_no_bit() {
        let samples = samples(4, 60, 3.0, |i| (i % 5) as u8);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| cross_validate(&samples, &|_, _| (), NEVER).unwrap())
        };
        let (one, two) = (on(1), on(2));
        assert_eq!(one.logits, two.logits);
        assert_eq!(one.path, two.path);
    }
}
