//! The linear layer on top of the frozen backbone: multinomial logistic regression with an L2 penalty on the
//! weights, fitted to convergence.
//!
//! Minimised is the mean over rows of the negative log likelihood of the row's label, plus
//! ½ · l2 · ‖weight‖². The bias carries no penalty (Hastie, Tibshirani & Friedman, "The Elements of Statistical
//! Learning", 2nd ed., §4.4.1 and §4.4.4), which also makes the minimum independent of where the embeddings'
//! origin lies. So they are centred for the fit and the shift is folded into the bias afterwards: the same
//! minimum, in about a third of the iterations (measured).

use rayon::prelude::*;

use crate::lbfgs::{self, Ending, Stop};
use crate::matrix::{Matrix, add_transposed_product, product_transposed};

/// Rows that are worked on together.
const BLOCK: usize = 256;

/// Sums are formed in at most so many parts, which threads share. How the rows fall into parts depends on their
/// number alone, so the order of additions, and every bit of the result, is the same on any number of threads.
const MAX_PARTS: usize = 16;

/// The largest gradient component a final fit may leave: in units of mean log loss per unit of weight.
pub const FINAL_GRADIENT: f64 = 1e-6;

const MAX_ITERATIONS: u32 = 5000;

/// Logits = weight · embedding + bias.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// labels × embedding length, row-major.
    pub weight: Vec<f32>,
    /// One number per label.
    pub bias: Vec<f32>,
}

impl Head {
    /// How many labels.
    pub fn labels(&self) -> usize {
        self.bias.len()
    }

    /// Numbers in the embeddings it takes.
    pub fn embedding_length(&self) -> usize {
        self.weight.len().checked_div(self.bias.len()).unwrap_or(0)
    }

    /// The logits of one embedding, summed in 64 bits.
    pub fn logits(&self, embedding: &[f32]) -> Vec<f64> {
        let length = self.embedding_length().max(1);
        self.weight
            .chunks_exact(length)
            .zip(&self.bias)
            .map(|(row, bias)| {
                f64::from(*bias)
                    + row.iter().zip(embedding).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>()
            })
            .collect()
    }
}

/// What a head is fitted to: some rows of a matrix, each with its label's index.
#[derive(Clone, Copy)]
pub struct Examples<'a> {
    /// One embedding per row.
    pub embeddings: &'a Matrix,
    /// Which rows, and the label of each (below `labels`).
    pub rows: &'a [(usize, usize)],
    /// How many labels there are.
    pub labels: usize,
}

/// A fitted head, and where to begin a similar fit.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The head, rounded to 32 bits.
    pub head: Head,
    /// Iterations of L-BFGS.
    pub iterations: u32,
    /// The largest gradient component left.
    pub gradient: f64,
    /// Whether the gradient is as small as asked, or as small as 64-bit arithmetic can make it.
    pub converged: bool,
    /// The parameters in centred coordinates: weight, then bias.
    pub parameters: Vec<f64>,
}

/// Someone asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fitting was cancelled")]
pub struct Cancelled;

/// Fits a head to `examples`, until no gradient component exceeds `gradient`. `start` are the
/// [`Fit::parameters`] of a similar fit; the minimum is unique, they only shorten the way.
///
/// # Errors
/// [`Cancelled`] when `cancelled` says so between two iterations.
pub fn fit(
    examples: Examples<'_>,
    l2: f64,
    gradient: f64,
    start: Option<&[f64]>,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Fit, Cancelled> {
    let columns = examples.embeddings.columns();
    let parameters = examples.labels * (columns + 1);
    let start = match start {
        Some(start) if start.len() == parameters => start.to_vec(),
        _ => vec![0.0; parameters],
    };
    let objective = Objective { examples, l2, mean: mean(&examples) };
    let minimum = lbfgs::minimise(
        start,
        |point, gradient| objective.evaluate(point, gradient),
        Stop { gradient, iterations: MAX_ITERATIONS, cancelled },
    );
    if minimum.ending == Ending::Cancelled {
        return Err(Cancelled);
    }
    Ok(Fit {
        head: objective.head(&minimum.point),
        iterations: minimum.iterations,
        gradient: minimum.gradient,
        converged: minimum.ending != Ending::Exhausted,
        parameters: minimum.point,
    })
}

/// Softmax in 64 bits.
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut values: Vec<f64> = logits.iter().map(|z| (z - top).exp()).collect();
    let sum: f64 = values.iter().sum();
    for value in &mut values {
        *value /= sum;
    }
    values
}

fn parts(rows: &[(usize, usize)]) -> impl IndexedParallelIterator<Item = &[(usize, usize)]> {
    rows.par_chunks(rows.len().div_ceil(MAX_PARTS).max(BLOCK))
}

fn mean(examples: &Examples<'_>) -> Vec<f64> {
    let mut mean = vec![0.0; examples.embeddings.columns()];
    for &(row, _) in examples.rows {
        for (sum, x) in mean.iter_mut().zip(examples.embeddings.row(row)) {
            *sum += f64::from(*x);
        }
    }
    let count = examples.rows.len().max(1) as f64;
    for sum in &mut mean {
        *sum /= count;
    }
    mean
}

struct Objective<'a> {
    examples: Examples<'a>,
    l2: f64,
    mean: Vec<f64>,
}

impl Objective<'_> {
    /// The penalised mean log loss at `point`, and its gradient.
    fn evaluate(&self, point: &[f64], gradient: &mut [f64]) -> f64 {
        let weights = self.examples.labels * self.mean.len();
        let (weight, bias) = point.split_at(weights);
        let sums: Vec<(f64, Vec<f64>)> = parts(self.examples.rows)
            .map(|rows| {
                let mut gradient = vec![0.0; point.len()];
                let loss =
                    rows.chunks(BLOCK).map(|rows| self.add_block(rows, weight, bias, &mut gradient)).sum();
                (loss, gradient)
            })
            .collect();
        gradient.fill(0.0);
        let mut loss = 0.0;
        for (part_loss, part_gradient) in &sums {
            loss += part_loss;
            for (to, from) in gradient.iter_mut().zip(part_gradient) {
                *to += from;
            }
        }
        let per_row = 1.0 / self.examples.rows.len().max(1) as f64;
        for g in &mut *gradient {
            *g *= per_row;
        }
        let mut squares = 0.0;
        for (g, w) in gradient.iter_mut().zip(weight) {
            *g += self.l2 * w;
            squares += w * w;
        }
        loss * per_row + 0.5 * self.l2 * squares
    }

    /// The loss of some rows; their part of the gradient is added to `gradient`.
    fn add_block(&self, rows: &[(usize, usize)], weight: &[f64], bias: &[f64], gradient: &mut [f64]) -> f64 {
        let (columns, labels) = (self.mean.len(), self.examples.labels);
        let mut centred = Vec::with_capacity(rows.len() * columns);
        for &(row, _) in rows {
            let embedding = self.examples.embeddings.row(row);
            centred.extend(embedding.iter().zip(&self.mean).map(|(x, mean)| f64::from(*x) - mean));
        }
        let mut logits = vec![0.0; rows.len() * labels];
        product_transposed(&centred, weight, columns, &mut logits);
        let (weight_gradient, bias_gradient) = gradient.split_at_mut(labels * columns);
        let mut loss = 0.0;
        for (residual, &(_, label)) in logits.chunks_exact_mut(labels).zip(rows) {
            for (z, bias) in residual.iter_mut().zip(bias) {
                *z += bias;
            }
            let truth = residual[label];
            let top = residual.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut sum = 0.0;
            for z in &mut *residual {
                *z = (*z - top).exp();
                sum += *z;
            }
            loss += top + sum.ln() - truth;
            for z in &mut *residual {
                *z /= sum;
            }
            residual[label] -= 1.0;
            for (g, r) in bias_gradient.iter_mut().zip(&*residual) {
                *g += r;
            }
        }
        add_transposed_product(&logits, &centred, rows.len(), weight_gradient);
        loss
    }

    /// The head for embeddings that are not centred.
    fn head(&self, point: &[f64]) -> Head {
        let columns = self.mean.len();
        let (weight, bias) = point.split_at(self.examples.labels * columns);
        let bias = bias
            .iter()
            .zip(weight.chunks_exact(columns))
            .map(|(bias, row)| {
                (bias - row.iter().zip(&self.mean).map(|(w, mean)| w * mean).sum::<f64>()) as f32
            })
            .collect();
        Head { weight: weight.iter().map(|w| *w as f32).collect(), bias }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    const NEVER: &(dyn Fn() -> bool + Sync) = &|| false;

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let (embeddings, rows) = sample::clusters(3, 7, 5, 1.0);
        let examples = Examples { embeddings: &embeddings, rows: &rows, labels: 3 };
        let objective = Objective { examples, l2: 0.1, mean: mean(&examples) };
        let point: Vec<f64> = (0..18).map(|i| f64::from(i * 7 % 11) / 10.0 - 0.5).collect();
        let mut gradient = vec![0.0; 18];
        objective.evaluate(&point, &mut gradient);
        let h = 1e-6;
        for i in 0..point.len() {
            let mut there = point.clone();
            let mut ignored = vec![0.0; 18];
            there[i] += h;
            let above = objective.evaluate(&there, &mut ignored);
            there[i] -= 2.0 * h;
            let below = objective.evaluate(&there, &mut ignored);
            let slope = (above - below) / (2.0 * h);
            assert!((slope - gradient[i]).abs() < 1e-8, "{i}: {slope} {}", gradient[i]);
        }
    }

    #[test]
    fn a_small_problem_has_the_minimum_known_in_closed_form() {
        // Two labels, at -1 and at +1, twice each.
        let mut embeddings = Matrix::zeros(4, 1);
        for (i, x) in [-1.0, -1.0, 1.0, 1.0].into_iter().enumerate() {
            embeddings.row_mut(i)[0] = x;
        }
        let rows = [(0, 0), (1, 0), (2, 1), (3, 1)];
        let examples = Examples { embeddings: &embeddings, rows: &rows, labels: 2 };
        let l2 = 0.05;
        let found = fit(examples, l2, 1e-10, None, NEVER).unwrap();
        // By symmetry weight = (-w, w): minimise ln(1 + e^(-2w)) + l2·w², so 2·l2·w = 2/(1 + e^(2w)).
        let (mut low, mut high) = (0.0f64, 100.0f64);
        for _ in 0..200 {
            let w = f64::midpoint(low, high);
            if l2 * w < 1.0 / (1.0 + (2.0 * w).exp()) { low = w } else { high = w }
        }
        assert!(found.converged);
        assert!((f64::from(found.head.weight[1]) - low).abs() < 1e-6, "{:?} {low}", found.head);
        assert!((f64::from(found.head.weight[0]) + low).abs() < 1e-6);
        assert!(found.head.bias.iter().all(|b| b.abs() < 1e-6));
    }

    #[test]
    fn moving_the_origin_moves_no_prediction() {
        let (embeddings, rows) = sample::clusters(3, 20, 6, 2.0);
        let mut moved = embeddings.clone();
        for row in 0..moved.rows() {
            moved.row_mut(row).iter_mut().for_each(|x| *x += 100.0);
        }
        let here = fit(Examples { embeddings: &embeddings, rows: &rows, labels: 3 }, 0.01, 1e-9, None, NEVER)
            .unwrap();
        let there =
            fit(Examples { embeddings: &moved, rows: &rows, labels: 3 }, 0.01, 1e-9, None, NEVER).unwrap();
        for row in 0..embeddings.rows() {
            let a = softmax(&here.head.logits(embeddings.row(row)));
            let b = softmax(&there.head.logits(moved.row(row)));
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4), "{a:?} {b:?}");
        }
    }

    #[test]
    fn the_bits_do_not_depend_on_the_threads_nor_the_end_on_the_start() {
        let (embeddings, rows) = sample::clusters(4, 300, 8, 3.0);
        let examples = Examples { embeddings: &embeddings, rows: &rows, labels: 4 };
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| fit(examples, 0.01, FINAL_GRADIENT, None, NEVER).unwrap())
        };
        let (one, three) = (on(1), on(3));
        assert_eq!(one.parameters, three.parameters);
        let warm = fit(
            examples,
            0.01,
            1e-9,
            Some(&fit(examples, 1.0, 1e-4, None, NEVER).unwrap().parameters),
            NEVER,
        )
        .unwrap();
        let cold = fit(examples, 0.01, 1e-9, None, NEVER).unwrap();
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(&warm.parameters, &cold.parameters));
    }

    #[test]
    fn a_request_to_stop_is_heard() {
        let (embeddings, rows) = sample::clusters(3, 7, 5, 1.0);
        let examples = Examples { embeddings: &embeddings, rows: &rows, labels: 3 };
        assert_eq!(fit(examples, 0.1, 1e-6, None, &|| true).unwrap_err(), Cancelled);
    }
}
