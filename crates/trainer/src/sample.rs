//! Made-up embeddings for tests: clusters that overlap.

use mynah_contracts::{ImageFormat, Label, Photo, RelativePath, Sha256Digest};

use crate::matrix::Matrix;

/// `labels` clusters of `each` rows around different corners, `noise` wide: the rows, and (row, label) pairs.
pub(crate) fn clusters(
    labels: usize,
    each: usize,
    columns: usize,
    noise: f32,
) -> (Matrix, Vec<(usize, usize)>) {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut matrix = Matrix::zeros(labels * each, columns);
    let mut rows = Vec::new();
    for row in 0..labels * each {
        let label = row % labels;
        for (column, x) in matrix.row_mut(row).iter_mut().enumerate() {
            *x = noise * (uniform() + uniform() + uniform())
                + if column % labels == label { 1.0 } else { 0.0 };
        }
        rows.push((row, label));
    }
    (matrix, rows)
}

/// Labels of these texts.
pub(crate) fn labels(texts: &[&str]) -> Vec<Label> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A photo that exists nowhere.
pub(crate) fn photo(number: u32, label: &str, fold: u8) -> Photo {
    Photo {
        sha256: Sha256Digest::of(&number.to_le_bytes()),
        label: label.parse().unwrap(),
        file: RelativePath::new(format!("photos/{label}/{number}.png")).unwrap(),
        source: number.to_string(),
        format: ImageFormat::Png,
        width: 64,
        height: 48,
        bytes: 100,
        likeness: "0".repeat(64),
        fold,
    }
}
