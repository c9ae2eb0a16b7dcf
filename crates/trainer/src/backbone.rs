//! The frozen networks that turn a picture into an embedding.

use std::path::{Path, PathBuf};

use mynah_contracts::{ChannelOrder, Geometry, Preprocess, ResizeFilter, Sha256Digest};
use mynah_model::Network;

use crate::TrainerError;

/// What must be known of a backbone's file, since the file itself does not say it.
#[derive(Clone, Debug, PartialEq)]
pub struct BackboneSpec {
    /// Its name.
    pub name: &'static str,
    /// The digest of its ONNX file.
    pub sha256: Sha256Digest,
    /// The graph's input, N × 3 × size × size.
    pub input: &'static str,
    /// The graph's output, N × embedding length.
    pub output: &'static str,
    /// Numbers in an embedding.
    pub embedding_length: u32,
    /// From upright pixels to its input.
    pub preprocess: Preprocess,
}

/// EfficientNet-Lite0 (Tan & Le 2019 and its "lite" variants of 2020) at 224 × 224 pixels, trained on ImageNet,
/// without its classifier. `models/README.md` says where the weights come from and how the file is made.
///
/// Preprocessing: the central square, (x − 127) ÷ 128. A smaller crop and a squashed picture were measured
/// against it (`docs/accuracy.md`).
pub const EFFICIENTNET_LITE0_224: BackboneSpec = BackboneSpec {
    name: "efficientnet-lite0-224",
    sha256: Sha256Digest::from_bytes([
        0x42, 0xc0, 0x8a, 0x80, 0xdb, 0x97, 0x3a, 0x02, 0xef, 0xe4, 0x4a, 0x4b, 0x67, 0x0c, 0x55, 0x4f, 0x1b,
        0x8d, 0x07, 0xda, 0x04, 0x7f, 0x73, 0x10, 0x3b, 0xa3, 0x87, 0x8c, 0x3d, 0x69, 0x8d, 0x6d,
    ]),
    input: "input",
    output: "embedding",
    embedding_length: 1280,
    preprocess: Preprocess {
        size: 224,
        geometry: Geometry::CenterCrop { fraction: 1.0 },
        filter: ResizeFilter::CatmullRom,
        channels: ChannelOrder::Rgb,
        mean: [127.0; 3],
        scale: [128.0; 3],
    },
};

/// The backbones this version knows.
pub const KNOWN: &[BackboneSpec] = &[EFFICIENTNET_LITE0_224];

/// A backbone's file, verified.
#[derive(Clone, Debug)]
pub struct Backbone {
    pub(crate) path: PathBuf,
    pub(crate) spec: BackboneSpec,
    pub(crate) onnx: Vec<u8>,
}

impl Backbone {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Where it cannot be read, or is none of [`KNOWN`].
    pub fn open(path: &Path) -> Result<Self, TrainerError> {
        Self::open_among(path, KNOWN)
    }

    /// Reads the file at `path`, which must be one of `known`.
    pub(crate) fn open_among(path: &Path, known: &[BackboneSpec]) -> Result<Self, TrainerError> {
        let onnx = std::fs::read(path).map_err(TrainerError::io("read", path))?;
        let found = Sha256Digest::of(&onnx);
        match known.iter().find(|spec| spec.sha256 == found) {
            Some(spec) => Ok(Self { path: path.to_owned(), spec: spec.clone(), onnx }),
            None => Err(TrainerError::UnknownBackbone { path: path.to_owned(), found }),
        }
    }

    /// What is known of it.
    pub fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    /// Makes it ready to run.
    ///
    /// # Errors
    /// Where the engine refuses it.
    pub fn network(&self) -> Result<Network, TrainerError> {
        let BackboneSpec { input, output, preprocess, .. } = &self.spec;
        Network::from_onnx(&self.onnx, input, output, preprocess.size)
            .map_err(|source| TrainerError::Backbone { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backbone_in_this_repository_is_the_one_we_know_and_runs() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/efficientnet-lite0-224.onnx");
        let backbone = Backbone::open(&path).unwrap();
        let network = backbone.network().unwrap();
        assert_eq!(network.output_len(), backbone.spec().embedding_length as usize);
    }

    #[test]
    fn another_file_is_refused_by_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("efficientnet-lite0-224.onnx");
        std::fs::write(&path, b"not it").unwrap();
        let error = Backbone::open(&path).unwrap_err();
        assert!(error.to_string().contains(&Sha256Digest::of(b"not it").to_string()), "{error}");
        assert!(matches!(Backbone::open(folder.path()).unwrap_err(), TrainerError::Io { .. }));
    }
}
