//! The inner products of all embeddings with each other: what fitting many heads to the same photos shares.
//!
//! A head's weight is a combination of the embeddings it learns from (the representer theorem; Schölkopf, Herbrich &
//! Smola 2001), so a fit needs nothing of them but these products. They are taken of centred embeddings, divided by
//! the embeddings' mean squared distance from their mean: 1 is what an embedding has with itself, on average.

use rayon::prelude::*;

use crate::matrix::{Matrix, View, product};

/// Up to so many rows their products are kept, 4 bytes each; of more rows they are formed anew each time.
const KEPT: usize = 2048;

/// Rows that one thread works on. How rows fall into groups must not depend on the number of threads.
const GROUP: usize = 128;

/// Parts that a sum over all rows is formed in, which threads share.
const PARTS: usize = 16;

/// The products of all embeddings.
pub(crate) struct Kernel<'a> {
    embeddings: &'a Matrix,
    mean: Vec<f64>,
    spread: f64,
    /// Row-major, or empty where they are not kept.
    products: Vec<f32>,
}

impl<'a> Kernel<'a> {
    /// The products of `embeddings`.
    pub(crate) fn of(embeddings: &'a Matrix) -> Self {
        let rows = embeddings.rows();
        let count = rows.max(1) as f64;
        let mut mean = vec![0.0; embeddings.columns()];
        for row in 0..rows {
            for (sum, x) in mean.iter_mut().zip(embeddings.row(row)) {
                *sum += f64::from(*x);
            }
        }
        for sum in &mut mean {
            *sum /= count;
        }
        let squares: Vec<f64> = (0..rows)
            .into_par_iter()
            .map(|row| {
                embeddings.row(row).iter().zip(&mean).map(|(x, mean)| (f64::from(*x) - mean).powi(2)).sum()
            })
            .collect();
        let spread = squares.iter().sum::<f64>() / count;
        // Embeddings that are all equal have no spread; any penalty gives the same head.
        let spread = if spread > 0.0 { spread } else { 1.0 };
        let mut kernel = Self { embeddings, mean, spread, products: Vec::new() };
        if rows <= KEPT {
            kernel.products = kernel.all_products();
        }
        kernel
    }

    /// How many embeddings.
    pub(crate) fn rows(&self) -> usize {
        self.embeddings.rows()
    }

    /// The mean squared distance of the embeddings from their mean: the scale of a sensible L2 penalty.
    pub(crate) fn spread(&self) -> f64 {
        self.spread
    }

    /// The mean of the embeddings.
    pub(crate) fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The embedding at `row` less the mean.
    pub(crate) fn centred(&self, row: usize) -> impl Iterator<Item = f64> {
        self.embeddings.row(row).iter().zip(&self.mean).map(|(x, mean)| f64::from(*x) - mean)
    }

    /// products · `coefficients`, both row-major with `columns` numbers for each embedding.
    pub(crate) fn times(&self, coefficients: &[f32], columns: usize) -> Vec<f32> {
        let rows = self.rows();
        let mut result = vec![0.0; rows * columns];
        let columns = columns.max(1);
        if self.products.is_empty() {
            self.times_formed_anew(coefficients, columns, &mut result);
        } else {
            result.par_chunks_mut(GROUP * columns).zip(self.products.par_chunks(GROUP * rows)).for_each(
                |(result, products)| {
                    product(View::of(products, rows), View::of(coefficients, columns), result, columns);
                },
            );
        }
        result
    }

    /// Each row by each, without the upper right half, which is mirrored.
    fn all_products(&self) -> Vec<f32> {
        let (rows, length) = (self.rows(), self.mean.len());
        // (x − μ)·(y − μ) = x·y − x·μ − y·μ + μ·μ: no centred copy of the embeddings is needed.
        let with_mean: Vec<f64> = (0..rows).into_par_iter().map(|row| self.with_mean(row)).collect();
        let of_mean: f64 = self.mean.iter().map(|x| x * x).sum();
        let mut products = vec![0.0f32; rows * rows];
        products.par_chunks_mut((GROUP * rows).max(1)).enumerate().for_each(|(group, products)| {
            let start = group * GROUP;
            let end = start + products.len() / rows;
            let these = View::of(self.embeddings.rows_between(start, end), length);
            let until = View::of(self.embeddings.rows_between(0, end), length);
            product(these, until.transposed(), products, rows);
            for (row, own) in products.chunks_exact_mut(rows).zip(&with_mean[start..end]) {
                for (x, other) in row.iter_mut().zip(&with_mean[..end]) {
                    *x = ((f64::from(*x) - own - other + of_mean) / self.spread) as f32;
                }
            }
        });
        for row in 0..rows {
            for column in row + 1..rows {
                products[row * rows + column] = products[column * rows + row];
            }
        }
        products
    }

    fn with_mean(&self, row: usize) -> f64 {
        self.embeddings.row(row).iter().zip(&self.mean).map(|(x, mean)| f64::from(*x) * mean).sum()
    }

    /// [`Kernel::times`] by way of the weights that the coefficients stand for.
    fn times_formed_anew(&self, coefficients: &[f32], columns: usize, result: &mut [f32]) {
        let (rows, length) = (self.rows(), self.mean.len());
        let part = rows.div_ceil(PARTS).max(GROUP);
        let parts: Vec<Vec<f32>> = coefficients
            .par_chunks(part * columns)
            .enumerate()
            .map(|(number, coefficients)| {
                let start = number * part;
                let end = start + coefficients.len() / columns;
                let embeddings = View::of(self.embeddings.rows_between(start, end), length);
                let mut weights = vec![0.0; length * columns];
                product(embeddings.transposed(), View::of(coefficients, columns), &mut weights, columns);
                weights
            })
            .collect();
        let mut totals = vec![0.0f64; columns];
        for row in coefficients.chunks_exact(columns) {
            for (total, x) in totals.iter_mut().zip(row) {
                *total += f64::from(*x);
            }
        }
        let mut shifts = vec![0.0f64; columns];
        let mut weights = vec![0.0f32; length * columns];
        for (feature, (weights, mean)) in weights.chunks_exact_mut(columns).zip(&self.mean).enumerate() {
            for (column, weight) in weights.iter_mut().enumerate() {
                let sum: f64 = parts.iter().map(|part| f64::from(part[feature * columns + column])).sum();
                let centred = (sum - mean * totals[column]) / self.spread;
                shifts[column] += mean * centred;
                *weight = centred as f32;
            }
        }
        result.par_chunks_mut(GROUP * columns).enumerate().for_each(|(group, result)| {
            let start = group * GROUP;
            let embeddings = self.embeddings.rows_between(start, start + result.len() / columns);
            product(View::of(embeddings, length), View::of(&weights, columns), result, columns);
            for row in result.chunks_exact_mut(columns) {
                for (x, shift) in row.iter_mut().zip(&shifts) {
                    *x = (f64::from(*x) - shift) as f32;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn kept_or_formed_anew_the_products_are_those_of_the_definition() {
        let (embeddings, _) = sample::clusters(3, 100, 7, 2.0);
        let kept = Kernel::of(&embeddings);
        let anew = Kernel {
            embeddings: &embeddings,
            mean: kept.mean.clone(),
            spread: kept.spread,
            products: Vec::new(),
        };
        let rows = embeddings.rows();
        let coefficients: Vec<f32> = (0..rows * 4).map(|i| (i * 37 % 19) as f32 / 19.0 - 0.5).collect();
        let (kept, anew) = (kept.times(&coefficients, 4), (anew.times(&coefficients, 4), anew));
        let (anew, kernel) = anew;
        for i in 0..rows {
            for column in 0..4 {
                let expected: f64 = (0..rows)
                    .map(|j| {
                        let product: f64 = kernel.centred(i).zip(kernel.centred(j)).map(|(a, b)| a * b).sum();
                        product / kernel.spread() * f64::from(coefficients[j * 4 + column])
                    })
                    .sum();
                for found in [kept[i * 4 + column], anew[i * 4 + column]] {
                    assert!((f64::from(found) - expected).abs() < 1e-3, "{found} {expected}");
                }
            }
        }
        let itself: f64 = (0..rows).map(|i| kernel.centred(i).map(|x| x * x).sum::<f64>()).sum();
        assert!((itself / rows as f64 / kernel.spread() - 1.0).abs() < 1e-9);
    }
}
