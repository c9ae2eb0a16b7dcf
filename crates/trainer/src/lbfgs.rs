//! Minimises a smooth function of many variables: limited-memory BFGS with a line search that satisfies the
//! strong Wolfe conditions (Nocedal & Wright, "Numerical Optimization", 2nd ed.: algorithms 7.4, 7.5, 3.5, 3.6).

use std::collections::VecDeque;

/// Pairs of steps and gradient changes that stand for the Hessian.
const MEMORY: usize = 10;
/// Sufficient decrease (N&W eq. 3.7a).
const C1: f64 = 1e-4;
/// Curvature (N&W eq. 3.7b); 0.9 is their advice for quasi-Newton directions.
const C2: f64 = 0.9;
/// Trials of one line search: in exact arithmetic a handful are enough.
const MAX_TRIALS: usize = 30;

/// When to stop.
#[derive(Clone, Copy)]
pub(crate) struct Stop<'a> {
    /// Converged: no component of the gradient is larger.
    pub(crate) gradient: f64,
    /// Give up after so many iterations.
    pub(crate) iterations: u32,
    /// Looked at before each iteration.
    pub(crate) cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// How the search ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// The gradient is as small as asked.
    Converged,
    /// No step lowers the value or its gradient any more: the limit of 64-bit arithmetic.
    Stalled,
    /// Too many iterations.
    Exhausted,
    /// Someone asked to stop.
    Cancelled,
}

/// Where the search ended.
#[derive(Clone, Debug)]
pub(crate) struct Minimum {
    pub(crate) point: Vec<f64>,
    /// The largest component of the gradient, without its sign.
    pub(crate) gradient: f64,
    pub(crate) iterations: u32,
    pub(crate) ending: Ending,
}

/// Minimises `function`, which returns its value at a point and writes its gradient there.
pub(crate) fn minimise(
    start: Vec<f64>,
    mut function: impl FnMut(&[f64], &mut [f64]) -> f64,
    stop: Stop<'_>,
) -> Minimum {
    let mut gradient = vec![0.0; start.len()];
    let value = function(&start, &mut gradient);
    let mut at = Place { point: start, value, gradient };
    let mut memory = Memory::default();
    let mut iterations = 0;
    let ending = loop {
        if largest(&at.gradient) <= stop.gradient {
            break Ending::Converged;
        }
        if iterations >= stop.iterations {
            break Ending::Exhausted;
        }
        if (stop.cancelled)() {
            break Ending::Cancelled;
        }
        let mut direction = memory.direction(&at.gradient);
        if dot(&direction, &at.gradient) >= 0.0 {
            // Rounding has spoilt the curvature pairs: begin again with the steepest descent.
            memory = Memory::default();
            direction = memory.direction(&at.gradient);
        }
        // The first direction has no scale yet; later ones have the natural length 1 (N&W §7.2).
        let first = if memory.is_empty() { 1.0f64.min(1.0 / norm(&at.gradient)) } else { 1.0 };
        let Some(next) = line_search(&at, &direction, first, &mut function) else {
            if memory.is_empty() {
                break Ending::Stalled;
            }
            memory = Memory::default();
            continue;
        };
        if next.value >= at.value && largest(&next.gradient) >= largest(&at.gradient) {
            break Ending::Stalled;
        }
        memory.remember(&at, &next);
        at = next;
        iterations += 1;
    };
    Minimum { gradient: largest(&at.gradient), point: at.point, iterations, ending }
}

/// A point with the function's value and gradient there.
struct Place {
    point: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

#[derive(Default)]
struct Memory {
    pairs: VecDeque<Pair>,
}

struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    rho: f64,
}

impl Memory {
    fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The two-loop recursion (N&W algorithm 7.4).
    fn direction(&self, gradient: &[f64]) -> Vec<f64> {
        let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let mut alphas = Vec::with_capacity(self.pairs.len());
        for pair in self.pairs.iter().rev() {
            let alpha = pair.rho * dot(&pair.step, &q);
            add(&mut q, -alpha, &pair.change);
            alphas.push(alpha);
        }
        if let Some(last) = self.pairs.back() {
            let gamma = 1.0 / (last.rho * dot(&last.change, &last.change));
            for q in &mut q {
                *q *= gamma;
            }
        }
        for (pair, alpha) in self.pairs.iter().zip(alphas.into_iter().rev()) {
            let beta = pair.rho * dot(&pair.change, &q);
            add(&mut q, alpha - beta, &pair.step);
        }
        q
    }

    fn remember(&mut self, from: &Place, to: &Place) {
        let step = difference(&to.point, &from.point);
        let change = difference(&to.gradient, &from.gradient);
        let curvature = dot(&step, &change);
        // The Wolfe conditions give a positive curvature; rounding near the minimum may not.
        if curvature > f64::EPSILON * dot(&change, &change) {
            if self.pairs.len() == MEMORY {
                self.pairs.pop_front();
            }
            self.pairs.push_back(Pair { step, change, rho: 1.0 / curvature });
        }
    }
}

/// A step length tried: the value there and its slope along the direction.
#[derive(Clone, Copy)]
struct Trial {
    length: f64,
    value: f64,
    slope: f64,
}

/// Finds a step length that satisfies the strong Wolfe conditions (N&W algorithms 3.5 and 3.6).
fn line_search(
    from: &Place,
    direction: &[f64],
    first: f64,
    function: &mut impl FnMut(&[f64], &mut [f64]) -> f64,
) -> Option<Place> {
    let zero = Trial { length: 0.0, value: from.value, slope: dot(&from.gradient, direction) };
    let mut place = Place { point: from.point.clone(), value: from.value, gradient: from.gradient.clone() };
    let mut evaluate = |length: f64, place: &mut Place| {
        for ((to, from), d) in place.point.iter_mut().zip(&from.point).zip(direction) {
            *to = from + length * d;
        }
        place.value = function(&place.point, &mut place.gradient);
        Trial { length, value: place.value, slope: dot(&place.gradient, direction) }
    };
    let too_high = |t: &Trial| t.value.is_nan() || t.value > zero.value + C1 * t.length * zero.slope;
    let flat_enough = |t: &Trial| t.slope.abs() <= -C2 * zero.slope;

    // Grow the step until it brackets an acceptable one. `low` is the best end, `high` the other.
    let mut previous = zero;
    let mut length = first;
    let mut trials = 0;
    let (mut low, mut high) = loop {
        if trials == MAX_TRIALS {
            return None;
        }
        let trial = evaluate(length, &mut place);
        trials += 1;
        if too_high(&trial) || (trials > 1 && trial.value >= previous.value) {
            break (previous, trial);
        }
        if flat_enough(&trial) {
            return Some(place);
        }
        if trial.slope >= 0.0 {
            break (trial, previous);
        }
        previous = trial;
        length *= 2.0;
    };
    // Shrink the bracket.
    while trials < MAX_TRIALS {
        let trial = evaluate(between(&low, &high), &mut place);
        trials += 1;
        if too_high(&trial) || trial.value >= low.value {
            high = trial;
        } else {
            if flat_enough(&trial) {
                return Some(place);
            }
            if trial.slope * (high.length - low.length) >= 0.0 {
                high = low;
            }
            low = trial;
        }
        if (high.length - low.length).abs() <= f64::EPSILON * low.length.abs() {
            break;
        }
    }
    // No strong Wolfe point within rounding: any decrease is still progress.
    if low.length > 0.0 && low.value < zero.value {
        evaluate(low.length, &mut place);
        return Some(place);
    }
    None
}

/// The minimum of the cubic through both ends (N&W eq. 3.59), kept away from them.
fn between(low: &Trial, high: &Trial) -> f64 {
    let width = high.length - low.length;
    let d1 = low.slope + high.slope - 3.0 * (low.value - high.value) / (low.length - high.length);
    let d2 = width.signum() * (d1 * d1 - low.slope * high.slope).sqrt();
    let cubic = high.length - width * (high.slope + d2 - d1) / (high.slope - low.slope + 2.0 * d2);
    let (a, b) = (low.length + 0.1 * width, low.length + 0.9 * width);
    if cubic.is_finite() && (cubic - a) * (cubic - b) <= 0.0 { cubic } else { low.length + 0.5 * width }
}

/// The inner product; both are of one length.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Eight sums side by side: the compiler may not reorder one sum of floats.
    let mut sums = [0.0; 8];
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    for (a, b) in a8.iter().zip(b8) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

fn add(to: &mut [f64], factor: f64, values: &[f64]) {
    for (to, value) in to.iter_mut().zip(values) {
        *to += factor * value;
    }
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn largest(a: &[f64]) -> f64 {
    a.iter().fold(0.0, |largest: f64, a| largest.max(a.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: &(dyn Fn() -> bool + Sync) = &|| false;

    /// The standard curved valley; its minimum is at (1, 1, …).
    fn rosenbrock(x: &[f64], gradient: &mut [f64]) -> f64 {
        gradient.fill(0.0);
        let mut value = 0.0;
        for i in 0..x.len() - 1 {
            let (a, b) = (1.0 - x[i], x[i + 1] - x[i] * x[i]);
            value += a * a + 100.0 * b * b;
            gradient[i] += -2.0 * a - 400.0 * x[i] * b;
            gradient[i + 1] += 200.0 * b;
        }
        value
    }

    #[test]
    fn rosenbrocks_valley_is_followed_to_its_end() {
        let stop = Stop { gradient: 1e-9, iterations: 500, cancelled: NEVER };
        let found = minimise(vec![-1.2, 1.0, -1.2, 1.0, 0.5, 2.0], rosenbrock, stop);
        assert_eq!(found.ending, Ending::Converged, "{found:?}");
        assert!(found.point.iter().all(|x| (x - 1.0).abs() < 1e-8), "{:?}", found.point);
    }

    #[test]
    fn an_ill_scaled_bowl_is_no_obstacle() {
        let scales: Vec<f64> = (0..50).map(|i| 10f64.powf(f64::from(i) / 10.0)).collect();
        let bowl = |x: &[f64], gradient: &mut [f64]| {
            for i in 0..x.len() {
                gradient[i] = scales[i] * (x[i] - i as f64);
            }
            x.iter().zip(gradient.iter()).enumerate().map(|(i, (x, g))| 0.5 * g * (x - i as f64)).sum()
        };
        let stop = Stop { gradient: 1e-6, iterations: 5000, cancelled: NEVER };
        let found = minimise(vec![0.0; 50], bowl, stop);
        assert_eq!(found.ending, Ending::Converged, "{found:?}");
        assert!(found.point.iter().enumerate().all(|(i, x)| (x - i as f64).abs() < 1e-5));
    }

    #[test]
    fn it_stops_where_it_is_told_to() {
        let start = vec![-1.2, 1.0];
        let stop = Stop { gradient: 1e-9, iterations: 3, cancelled: NEVER };
        assert_eq!(minimise(start.clone(), rosenbrock, stop).ending, Ending::Exhausted);
        let stop = Stop { gradient: 1e-9, iterations: 300, cancelled: &|| true };
        assert_eq!(minimise(start.clone(), rosenbrock, stop).ending, Ending::Cancelled);
        // No 64-bit number has a gradient of exactly zero here: the search must end all the same.
        let stop = Stop { gradient: -1.0, iterations: 100_000, cancelled: NEVER };
        let stalled = minimise(start, |x, g| rosenbrock(x, g) + 1e9, stop);
        assert_eq!(stalled.ending, Ending::Stalled);
    }
}
