//! `head.safetensors`: the head between training and export.

use mynah_contracts::{FileRef, RelativePath};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use crate::TrainerError;
use crate::head::Head;

/// The file's name below the training's folder.
pub const FILE: &str = "head.safetensors";

/// The file's bytes: `weight` (labels × embedding length) and `bias` (labels).
///
/// # Errors
/// Where the head's parts do not fit each other.
pub fn to_bytes(head: &Head) -> Result<Vec<u8>, TrainerError> {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (weight, bias) = (bytes(&head.weight), bytes(&head.bias));
    let write = || -> Result<Vec<u8>, SafeTensorError> {
        let weight = TensorView::new(Dtype::F32, vec![head.labels(), head.embedding_length()], &weight)?;
        let bias = TensorView::new(Dtype::F32, vec![head.labels()], &bias)?;
        safetensors::serialize([("bias", bias), ("weight", weight)], None)
    };
    write().map_err(|error| refused(FILE, head.labels(), head.embedding_length(), error.to_string()))
}

/// Reads a head of `labels` labels for embeddings of `columns` numbers.
///
/// # Errors
/// Says what is wrong with the bytes.
pub fn from_bytes(
    bytes: &[u8],
    file: &RelativePath,
    labels: usize,
    columns: usize,
) -> Result<Head, TrainerError> {
    let refuse = |what: String| refused(file.as_str(), labels, columns, what);
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| refuse(error.to_string()))?;
    let read = |name: &str, shape: &[usize]| -> Result<Vec<f32>, TrainerError> {
        let tensor = tensors.tensor(name).map_err(|error| refuse(error.to_string()))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            return Err(refuse(format!("`{name}` is {:?} of shape {:?}", tensor.dtype(), tensor.shape())));
        }
        let values: Vec<f32> =
            tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(refuse(format!("`{name}` holds {value}"))),
            None => Ok(values),
        }
    };
    Ok(Head { weight: read("weight", &[labels, columns])?, bias: read("bias", &[labels])? })
}

/// A reference to the file with these bytes.
pub(crate) fn reference(bytes: &[u8]) -> Result<FileRef, TrainerError> {
    Ok(FileRef::new(relative(FILE)?, bytes))
}

/// A path that we name ourselves.
pub(crate) fn relative(path: impl Into<String>) -> Result<RelativePath, TrainerError> {
    RelativePath::new(path).map_err(TrainerError::Name)
}

fn refused(file: &str, labels: usize, columns: usize, what: String) -> TrainerError {
    TrainerError::Head { file: file.to_owned(), labels, columns, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head() -> Head {
        Head { weight: vec![1.0, -2.5, 1e-40, 4.0, 5.0, -0.0], bias: vec![0.1, f32::MAX] }
    }

    fn read(bytes: &[u8], labels: usize, columns: usize) -> Result<Head, TrainerError> {
        from_bytes(bytes, &RelativePath::new(FILE).unwrap(), labels, columns)
    }

    #[test]
    fn a_head_comes_back_and_its_bytes_are_always_the_same() {
        let bytes = to_bytes(&head()).unwrap();
        assert_eq!(read(&bytes, 2, 3).unwrap(), head());
        for _ in 0..20 {
            assert_eq!(to_bytes(&head()).unwrap(), bytes);
        }
    }

    #[test]
    fn another_shape_or_a_number_that_is_none_is_refused() {
        let bytes = to_bytes(&head()).unwrap();
        assert!(read(&bytes, 3, 2).unwrap_err().to_string().contains("[2, 3]"));
        let bad = Head { bias: vec![0.0, f32::NAN], ..head() };
        assert!(read(&to_bytes(&bad).unwrap(), 2, 3).unwrap_err().to_string().contains("NaN"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..150) {
            prop_assert!(read(&bytes, 2, 3).is_err());
            let whole = to_bytes(&head()).unwrap();
            let short = &whole[..cut.min(whole.len() - 1)];
            prop_assert!(read(short, 2, 3).is_err());
        }
    }
}
