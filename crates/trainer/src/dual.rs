//! Many heads fitted to the same photos at once, as coefficients of the photos instead of weights.
//!
//! The search is the L-BFGS of [`crate::lbfgs`], its inner product that of the weights. A weight is kept as its
//! coefficients, one per row and label, and as its *image*, the logits it gives the rows. Both are linear, so
//! directions and steps need no product with the embeddings, nor does a trial step; only a new gradient does, and
//! the gradients of all heads take one product together. That is what makes cross-validation cheap.

use std::collections::VecDeque;

use rayon::prelude::*;

use crate::head::Cancelled;
use crate::kernel::Kernel;
use crate::lbfgs::dot;

/// Pairs of steps and gradient changes that stand for the Hessian; more than five saved no product (measured).
const MEMORY: usize = 5;
/// A step is long enough when the slope along it has fallen to this share.
const FLAT: f64 = 0.1;
const MAX_TRIALS: usize = 12;
const MAX_ITERATIONS: u32 = 500;

/// A head to be fitted, and how far that has come.
pub(crate) struct Member {
    /// Rows to learn from, each with its label's index.
    rows: Vec<(usize, usize)>,
    labels: usize,
    l2: f64,
    tolerance: f64,
    point: Vector,
    gradient: Option<Vector>,
    /// The gradient at `point`, still without its image.
    next: Vector,
    step: Option<Vector>,
    pairs: VecDeque<Pair>,
    iterations: u32,
    done: bool,
}

/// A direction in the space of weights and biases.
#[derive(Clone, Debug)]
struct Vector {
    /// A number for each row learnt from and label.
    coefficients: Vec<f64>,
    bias: Vec<f64>,
    /// The logits of those rows, without the bias.
    image: Vec<f64>,
}

struct Pair {
    step: Vector,
    change: Vector,
    rho: f64,
}

impl Vector {
    fn zero(numbers: usize, labels: usize) -> Self {
        Self { coefficients: vec![0.0; numbers], bias: vec![0.0; labels], image: vec![0.0; numbers] }
    }

    fn dot(&self, other: &Self) -> f64 {
        dot(&self.coefficients, &other.image) + dot(&self.bias, &other.bias)
    }

    fn add(&mut self, factor: f64, other: &Self) {
        let parts = [
            (&mut self.coefficients, &other.coefficients),
            (&mut self.bias, &other.bias),
            (&mut self.image, &other.image),
        ];
        for (to, from) in parts {
            for (to, from) in to.iter_mut().zip(from) {
                *to += factor * from;
            }
        }
    }

    fn scale(&mut self, factor: f64) {
        for part in [&mut self.coefficients, &mut self.bias, &mut self.image] {
            for x in part {
                *x *= factor;
            }
        }
    }
}

/// Fits all members with the penalty `l2`, each from where it stands, until the gradient's length (in units of mean
/// log loss per unit of weight, for embeddings of the kernel's scale) is at most `tolerance`.
pub(crate) fn fit(
    kernel: &Kernel<'_>,
    members: &mut [Member],
    (l2, tolerance): (f64, f64),
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<(), Cancelled> {
    members.par_iter_mut().for_each(|member| member.begin(l2, tolerance));
    loop {
        let mut active: Vec<&mut Member> = members.iter_mut().filter(|member| !member.done).collect();
        if active.is_empty() {
            return Ok(());
        }
        if cancelled() {
            return Err(Cancelled);
        }
        let asked: Vec<(&Member, &[f64])> =
            active.iter().map(|member| (&**member, member.next.coefficients.as_slice())).collect();
        let images = Images::of(kernel, &asked);
        active.par_iter_mut().enumerate().for_each(|(number, member)| {
            member.receive(&images, number);
            if !member.done {
                member.advance();
            }
        });
    }
}

/// The logits that each member gives every row of the kernel, row-major.
pub(crate) fn logits(kernel: &Kernel<'_>, members: &[Member]) -> Vec<Vec<f64>> {
    let asked: Vec<(&Member, &[f64])> =
        members.iter().map(|member| (member, member.point.coefficients.as_slice())).collect();
    let images = Images::of(kernel, &asked);
    members
        .iter()
        .enumerate()
        .map(|(number, member)| {
            let rows =
                (0..kernel.rows()).flat_map(|row| images.row(number, row).iter().zip(&member.point.bias));
            rows.map(|(image, bias)| f64::from(*image) + bias).collect()
        })
        .collect()
}

/// The images of some members' coefficients, side by side.
struct Images {
    values: Vec<f32>,
    columns: usize,
    /// Where each member's columns begin and end.
    places: Vec<(usize, usize)>,
}

impl Images {
    fn of(kernel: &Kernel<'_>, asked: &[(&Member, &[f64])]) -> Self {
        let mut columns = 0;
        let mut places = Vec::with_capacity(asked.len());
        for (member, _) in asked {
            places.push((columns, columns + member.labels));
            columns += member.labels;
        }
        let mut together = vec![0.0f32; kernel.rows() * columns];
        for ((member, coefficients), &(start, end)) in asked.iter().zip(&places) {
            for (&(row, _), numbers) in member.rows.iter().zip(coefficients.chunks_exact(member.labels)) {
                for (to, from) in together[row * columns + start..row * columns + end].iter_mut().zip(numbers)
                {
                    *to = *from as f32;
                }
            }
        }
        Self { values: kernel.times(&together, columns), columns, places }
    }

    fn row(&self, member: usize, row: usize) -> &[f32] {
        let (start, end) = self.places[member];
        &self.values[row * self.columns + start..row * self.columns + end]
    }
}

impl Member {
    /// A head of `labels` labels that has learnt nothing yet.
    pub(crate) fn new(rows: Vec<(usize, usize)>, labels: usize) -> Self {
        let zero = Vector::zero(rows.len() * labels, labels);
        Self {
            rows,
            labels,
            l2: 0.0,
            tolerance: 0.0,
            point: zero.clone(),
            gradient: None,
            next: zero,
            step: None,
            pairs: VecDeque::new(),
            iterations: 0,
            done: false,
        }
    }

    /// The weight (labels × embedding length, for centred embeddings), then the bias.
    pub(crate) fn parameters(&self, kernel: &Kernel<'_>) -> Vec<f64> {
        let length = kernel.mean().len();
        let mut parameters = vec![0.0; self.labels * length];
        for (&(row, _), numbers) in self.rows.iter().zip(self.point.coefficients.chunks_exact(self.labels)) {
            let embedding: Vec<f64> = kernel.centred(row).collect();
            for (weight, number) in parameters.chunks_exact_mut(length.max(1)).zip(numbers) {
                let factor = number / kernel.spread();
                for (w, x) in weight.iter_mut().zip(&embedding) {
                    *w += factor * x;
                }
            }
        }
        parameters.extend(&self.point.bias);
        parameters
    }

    fn begin(&mut self, l2: f64, tolerance: f64) {
        (self.l2, self.tolerance) = (l2, tolerance);
        (self.gradient, self.step) = (None, None);
        (self.iterations, self.done) = (0, self.rows.is_empty());
        self.pairs.clear();
        self.derive();
    }

    /// Prepares the gradient at `point`, all but its image.
    fn derive(&mut self) {
        let per_row = 1.0 / self.rows.len().max(1) as f64;
        self.next.bias.fill(0.0);
        let logits = self.point.image.chunks_exact(self.labels);
        let coefficients = self.next.coefficients.chunks_exact_mut(self.labels);
        for ((residual, logits), &(_, label)) in coefficients.zip(logits).zip(&self.rows) {
            for ((r, z), bias) in residual.iter_mut().zip(logits).zip(&self.point.bias) {
                *r = z + bias;
            }
            exponentiate(residual);
            residual[label] -= 1.0;
            for (r, bias) in residual.iter_mut().zip(&mut self.next.bias) {
                *r *= per_row;
                *bias += *r;
            }
        }
        for (g, a) in self.next.coefficients.iter_mut().zip(&self.point.coefficients) {
            *g += self.l2 * a;
        }
    }

    /// Completes the gradient with its image.
    fn receive(&mut self, images: &Images, number: usize) {
        for (to, &(row, _)) in self.next.image.chunks_exact_mut(self.labels).zip(&self.rows) {
            for (to, from) in to.iter_mut().zip(images.row(number, row)) {
                *to = f64::from(*from);
            }
        }
        if let (Some(step), Some(before)) = (self.step.take(), &self.gradient) {
            let mut change = self.next.clone();
            change.add(-1.0, before);
            let curvature = step.dot(&change);
            // Convexity gives a positive curvature; rounding near the minimum may not.
            if curvature > f64::EPSILON * change.dot(&change).abs() {
                if self.pairs.len() == MEMORY {
                    self.pairs.pop_front();
                }
                self.pairs.push_back(Pair { step, change, rho: 1.0 / curvature });
            }
        }
        // Rounding may make the square of a tiny length negative.
        let length = self.next.dot(&self.next).max(0.0).sqrt();
        self.done = length <= self.tolerance || self.iterations >= MAX_ITERATIONS;
        self.gradient = Some(self.next.clone());
    }

    /// One step of L-BFGS; afterwards `next` awaits its image.
    fn advance(&mut self) {
        let Some(gradient) = &self.gradient else { return };
        let mut direction = direction(gradient, &self.pairs);
        if direction.dot(gradient) >= 0.0 {
            // Rounding has spoilt the pairs: begin again with the steepest descent.
            self.pairs.clear();
            direction = self::direction(gradient, &self.pairs);
        }
        match self.length(&direction) {
            Some(length) => {
                direction.scale(length);
                self.point.add(1.0, &direction);
                self.step = Some(direction);
                self.iterations += 1;
                self.derive();
            }
            None => self.done = true,
        }
    }

    /// How far to go along `direction`: until the slope is nearly flat. The loss is convex along it, so Newton's
    /// method within a bracket finds the place. [`None`] where the slope does not fall from here.
    fn length(&self, direction: &Vector) -> Option<f64> {
        let bend = self.l2 * dot(&direction.coefficients, &direction.image);
        let pull = self.l2 * dot(&self.point.coefficients, &direction.image);
        let slope = |length: f64| {
            let (first, second) = self.derivatives(direction, length);
            (first + pull + length * bend, second + bend)
        };
        let (from, curvature) = slope(0.0);
        if from >= 0.0 || !from.is_finite() {
            return None;
        }
        let (mut low, mut high) = (0.0, f64::INFINITY);
        // The first direction has no scale yet; later ones have the natural length 1.
        let mut length = if self.pairs.is_empty() { -from / curvature } else { 1.0 };
        for _ in 0..MAX_TRIALS {
            let (first, second) = slope(length);
            if first.abs() <= -FLAT * from {
                break;
            }
            if first < 0.0 {
                low = length;
            } else {
                high = length;
            }
            let newton = length - first / second;
            let within = newton > low && newton < high && newton <= 10.0 * length;
            length = match (within, high.is_finite()) {
                (true, _) => newton,
                (false, true) => f64::midpoint(low, high),
                (false, false) => 2.0 * length,
            };
        }
        (length.is_finite() && length > 0.0).then_some(length)
    }

    /// The first and second derivative of the mean log loss `length` along `direction`.
    fn derivatives(&self, direction: &Vector, length: f64) -> (f64, f64) {
        let per_row = 1.0 / self.rows.len().max(1) as f64;
        let (mut first, mut second) = (0.0, 0.0);
        let mut probabilities = vec![0.0; self.labels];
        let mut along = vec![0.0; self.labels];
        let images =
            self.point.image.chunks_exact(self.labels).zip(direction.image.chunks_exact(self.labels));
        for ((at, towards), &(_, label)) in images.zip(&self.rows) {
            for (i, (p, d)) in probabilities.iter_mut().zip(&mut along).enumerate() {
                *d = towards[i] + direction.bias[i];
                *p = at[i] + self.point.bias[i] + length * *d;
            }
            exponentiate(&mut probabilities);
            let (mut mean, mut square) = (0.0, 0.0);
            for (p, d) in probabilities.iter().zip(&along) {
                mean += p * d;
                square += p * d * d;
            }
            first += mean - along[label];
            second += square - mean * mean;
        }
        (first * per_row, second * per_row)
    }
}

/// The two-loop recursion (Nocedal & Wright, "Numerical Optimization", 2nd ed., algorithm 7.4).
fn direction(gradient: &Vector, pairs: &VecDeque<Pair>) -> Vector {
    let mut q = gradient.clone();
    q.scale(-1.0);
    let mut alphas = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let alpha = pair.rho * pair.step.dot(&q);
        q.add(-alpha, &pair.change);
        alphas.push(alpha);
    }
    if let Some(last) = pairs.back() {
        q.scale(1.0 / (last.rho * last.change.dot(&last.change)));
    }
    for (pair, alpha) in pairs.iter().zip(alphas.into_iter().rev()) {
        let beta = pair.rho * pair.change.dot(&q);
        q.add(alpha - beta, &pair.step);
    }
    q
}

/// Logits to probabilities, in place.
fn exponentiate(logits: &mut [f64]) {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for z in &mut *logits {
        *z = (*z - top).exp();
        sum += *z;
    }
    for z in logits {
        *z /= sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{self, Examples};
    use crate::sample;

    const NEVER: &(dyn Fn() -> bool + Sync) = &|| false;

    #[test]
    fn coefficients_and_weights_have_one_minimum() {
        // More rows than dimensions and fewer: the coefficients are not unique, the weights are.
        for (each, dimensions) in [(40, 6), (8, 60)] {
            let (embeddings, rows) = sample::clusters(4, each, dimensions, 2.0);
            let kernel = Kernel::of(&embeddings);
            for penalty in [1e-1, 1e-3] {
                let mut members = [Member::new(rows.clone(), 4)];
                fit(&kernel, &mut members, (penalty, 1e-5), NEVER).unwrap();
                let examples = Examples { embeddings: &embeddings, rows: &rows, labels: 4 };
                let exact = head::fit(examples, penalty * kernel.spread(), 1e-10, None, NEVER).unwrap();
                let found = logits(&kernel, &members);
                for (row, found) in found[0].chunks_exact(4).enumerate() {
                    let expected = head::softmax(&exact.head.logits(embeddings.row(row)));
                    for (a, b) in head::softmax(found).iter().zip(&expected) {
                        assert!((a - b).abs() < 2e-3, "{each} {dimensions} {penalty}: {a} {b}");
                    }
                }
                // From there the exact fit has hardly anything left to do.
                let start = members[0].parameters(&kernel);
                let warm = head::fit(examples, penalty * kernel.spread(), 1e-6, Some(&start), NEVER).unwrap();
                let cold = head::fit(examples, penalty * kernel.spread(), 1e-6, None, NEVER).unwrap();
                assert!(warm.iterations < cold.iterations, "{} {}", warm.iterations, cold.iterations);
            }
        }
    }

    #[test]
    fn members_do_not_disturb_each_other() {
        let (embeddings, rows) = sample::clusters(3, 30, 5, 2.0);
        let kernel = Kernel::of(&embeddings);
        let half: Vec<_> = rows.iter().copied().step_by(2).collect();
        let mut together = [Member::new(rows.clone(), 3), Member::new(half.clone(), 3)];
        fit(&kernel, &mut together, (1e-3, 1e-5), NEVER).unwrap();
        let mut alone = [Member::new(half, 3)];
        fit(&kernel, &mut alone, (1e-3, 1e-5), NEVER).unwrap();
        let (together, alone) = (logits(&kernel, &together), logits(&kernel, &alone));
        assert!(together[1].iter().zip(&alone[0]).all(|(a, b)| (a - b).abs() < 1e-2));
        assert!(together[0].iter().zip(&together[1]).any(|(a, b)| (a - b).abs() > 1e-2));
    }

    #[test]
    fn labels_dealt_in_one_place_leave_only_the_bias() {
        // All embeddings equal: the best head says how frequent each label is.
        let embeddings = crate::matrix::Matrix::zeros(10, 3);
        let rows: Vec<_> = (0..10).map(|row| (row, usize::from(row < 3))).collect();
        let kernel = Kernel::of(&embeddings);
        let mut members = [Member::new(rows, 2)];
        fit(&kernel, &mut members, (1e-3, 1e-7), NEVER).unwrap();
        let found = logits(&kernel, &members);
        assert!((head::softmax(&found[0][..2])[1] - 0.3).abs() < 1e-5);
    }

    #[test]
    fn a_request_to_stop_is_heard() {
        let (embeddings, rows) = sample::clusters(3, 7, 5, 1.0);
        let kernel = Kernel::of(&embeddings);
        assert!(fit(&kernel, &mut [Member::new(rows, 3)], (1e-3, 1e-6), &|| true).is_err());
    }
}
