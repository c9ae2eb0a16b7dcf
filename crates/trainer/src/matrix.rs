//! Rows of equal length, and the matrix products that fitting a head needs.

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

    /// The numbers of the rows from `start` on, up to but without `end`, row after row.
    ///
    /// # Panics
    /// Where there are no such rows.
    pub(crate) fn rows_between(&self, start: usize, end: usize) -> &[f32] {
        &self.values[start * self.columns..end * self.columns]
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

/// Numbers seen as a matrix, perhaps transposed.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// Row-major numbers, `columns` in a row.
    pub(crate) fn of(values: &'a [f32], columns: usize) -> Self {
        let rows = values.len().checked_div(columns).unwrap_or(0);
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Rows and columns exchanged; nothing is copied.
    pub(crate) fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// `c = a · b` in 32 bits, `c` row-major with `stride` numbers from a row's begin to the next one's. One thread, as
/// [`dgemm`].
///
/// # Panics
/// Where the shapes do not fit each other, or `c` has no room.
#[expect(unsafe_code, reason = "matrixmultiply takes pointers; the lengths they span are checked before")]
pub(crate) fn product(a: View<'_>, b: View<'_>, c: &mut [f32], stride: usize) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    if m == 0 || n == 0 {
        return;
    }
    assert!(k == b.rows && stride >= n && c.len() >= (m - 1) * stride + n, "shapes do not fit");
    // SAFETY: a `View` spans `rows` × `columns` numbers of its slice at its strides by construction, `c` holds m rows
    // of n numbers at `stride` as asserted, and is borrowed mutably, so it overlaps neither.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.values.as_ptr(),
            a.row_stride as isize,
            a.column_stride as isize,
            b.values.as_ptr(),
            b.row_stride as isize,
            b.column_stride as isize,
            0.0,
            c.as_mut_ptr(),
            stride as isize,
            1,
        );
    }
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
                    // Equal as numbers: an empty sum of floats is −0.
                    prop_assert!((c[i * n + j] - sum).abs() <= 0.0);
                }
            }
            // In 32 bits; the numbers are small enough to be summed without rounding where they are whole and few.
            let small = |values: &[f64]| values.iter().map(|x| (x / 256.0).round() as f32).collect::<Vec<_>>();
            let (a32, b32) = (small(&a), small(&b));
            let mut c32 = vec![f32::NAN; m * (n + 2)];
            product(View::of(&a32, k), View::of(&b32, k).transposed(), &mut c32, n + 2);
            for i in 0..m {
                for j in 0..n {
                    let sum: f32 = (0..k).map(|l| a32[i * k + l] * b32[j * k + l]).sum();
                    prop_assert!((c32[i * (n + 2) + j] - sum).abs() < 1e-3);
                }
                prop_assert!(c32[i * (n + 2) + n].is_nan(), "what lies between the rows is left alone");
            }
            // The same numbers read as k × m and k × n.
            let mut c = vec![1.0; m * n];
            add_transposed_product(&a, &b, k, &mut c);
            for i in 0..m {
                for j in 0..n {
                    let sum: f64 = (0..k).map(|l| a[l * m + i] * b[l * n + j]).sum();
                    prop_assert!((c[i * n + j] - (sum + 1.0)).abs() <= 0.0);
                }
            }
        }
    }
}
