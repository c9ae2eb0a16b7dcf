//! Rows of equal length, and the two matrix products that fitting a head needs.

/// Row-major 32-bit floats: one embedding per row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    values: Vec<f32>,
    columns: usize,
}

impl Matrix {
    /// `rows × columns` zeros.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self { values: vec![0.0; rows * columns], columns }
    }

    /// Numbers in a row.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.columns).unwrap_or(0)
    }

    /// The row at `index`.
    ///
    /// # Panics
    /// Where there is no such row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.columns..(index + 1) * self.columns]
    }

    /// The row at `index`, to be written.
    ///
    /// # Panics
    /// Where there is no such row.
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index * self.columns..(index + 1) * self.columns]
    }

    /// The numbers of `rows` rows after another, to be written.
    pub(crate) fn groups_mut(&mut self, rows: usize) -> impl Iterator<Item = &mut [f32]> {
        self.values.chunks_exact_mut((rows * self.columns).max(1))
    }
}

/// `c = a · bᵀ`, all row-major: `a` is m × k, `b` is n × k, `c` is m × n.
///
/// # Panics
/// Where the lengths are not multiples that fit each other.
pub(crate) fn product_transposed(a: &[f64], b: &[f64], k: usize, c: &mut [f64]) {
    let (m, n) = (a.len() / k, b.len() / k);
    assert!(a.len() == m * k && b.len() == n * k && c.len() == m * n, "shapes do not fit");
    dgemm(Shape { m, k, n }, 0.0, (a, k, 1), (b, 1, k), c);
}

/// `c += aᵀ · b`, all row-major: `a` is k × m, `b` is k × n, `c` is m × n.
///
/// # Panics
/// Where the lengths are not multiples that fit each other.
pub(crate) fn add_transposed_product(a: &[f64], b: &[f64], k: usize, c: &mut [f64]) {
    let (m, n) = (a.len() / k, b.len() / k);
    assert!(a.len() == k * m && b.len() == k * n && c.len() == m * n, "shapes do not fit");
    dgemm(Shape { m, k, n }, 1.0, (a, 1, m), (b, n, 1), c);
}

struct Shape {
    m: usize,
    k: usize,
    n: usize,
}

/// `c = beta · c + a · b`; each input comes with its row and column stride. One thread, so that the order of
/// additions, and with it every bit of the result, does not depend on how many threads there are.
#[expect(
    unsafe_code,
    reason = "matrixmultiply takes pointers; the callers above check the lengths they span"
)]
fn dgemm(
    Shape { m, k, n }: Shape,
    beta: f64,
    a: (&[f64], usize, usize),
    b: (&[f64], usize, usize),
    c: &mut [f64],
) {
    // SAFETY: `a` holds m × k, `b` k × n and `c` m × n numbers at the given strides, as both callers assert, and
    // `c` is borrowed mutably, so it overlaps neither.
    unsafe {
        matrixmultiply::dgemm(
            m,
            k,
            n,
            1.0,
            a.0.as_ptr(),
            a.1 as isize,
            a.2 as isize,
            b.0.as_ptr(),
            b.1 as isize,
            b.2 as isize,
            beta,
            c.as_mut_ptr(),
            n as isize,
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_products_are_what_the_definition_says(m in 1usize..9, k in 1usize..20, n in 1usize..9, seed in any::<u32>()) {
            let number = |i: usize| f64::from((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 20) - 2048.0;
            let a: Vec<f64> = (0..m * k).map(number).collect();
            let b: Vec<f64> = (0..n * k).map(|i| number(i + 1000)).collect();
            let mut c = vec![f64::NAN; m * n];
            product_transposed(&a, &b, k, &mut c);
            for i in 0..m {
                for j in 0..n {
                    let sum: f64 = (0..k).map(|l| a[i * k + l] * b[j * k + l]).sum();
                    prop_assert_eq!(c[i * n + j].to_bits(), sum.to_bits());
                }
            }
            // The same numbers read as k × m and k × n.
            let mut c = vec![1.0; m * n];
            add_transposed_product(&a, &b, k, &mut c);
            for i in 0..m {
                for j in 0..n {
                    let sum: f64 = (0..k).map(|l| a[l * m + i] * b[l * n + j]).sum();
                    prop_assert_eq!(c[i * n + j].to_bits(), (sum + 1.0).to_bits());
                }
            }
        }
    }
}
