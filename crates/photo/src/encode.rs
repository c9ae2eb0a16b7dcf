//! Pixels to PNG (lossless) and JPEG (small) files.

use std::io;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder as _};
use mynah_contracts::{Diagnosis, FaultKind};

use crate::RgbImage;

/// Why pixels cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write a picture of {width} × {height} pixels as {format}")]
pub struct EncodeError {
    format: &'static str,
    width: u32,
    height: u32,
    #[source]
    source: io::Error,
}

impl Diagnosis for EncodeError {
    fn kind(&self) -> FaultKind {
        FaultKind::Failed
    }
}

/// PNG bytes: lossless, the same for the same pixels.
pub fn encode_png(image: &RgbImage) -> Result<Vec<u8>, EncodeError> {
    encode(image, "PNG", |out, width, height| {
        PngEncoder::new_with_quality(out, CompressionType::Default, FilterType::Adaptive).write_image(
            image.pixels(),
            width,
            height,
            ExtendedColorType::Rgb8,
        )
    })
}

/// JPEG bytes at `quality` 1 (small) to 100 (good). Sides above 65535 pixels are an error.
pub fn encode_jpeg(image: &RgbImage, quality: u8) -> Result<Vec<u8>, EncodeError> {
    encode(image, "JPEG", |out, width, height| {
        JpegEncoder::new_with_quality(out, quality.clamp(1, 100)).write_image(
            image.pixels(),
            width,
            height,
            ExtendedColorType::Rgb8,
        )
    })
}

fn encode(
    image: &RgbImage,
    format: &'static str,
    write: impl FnOnce(&mut Vec<u8>, u32, u32) -> image::ImageResult<()>,
) -> Result<Vec<u8>, EncodeError> {
    let (width, height) = (image.width(), image.height());
    let mut out = Vec::new();
    write(&mut out, width, height).map_err(|error| EncodeError {
        format,
        width,
        height,
        source: io::Error::other(error),
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, decode};

    fn picture() -> RgbImage {
        let pixels = (0..32).flat_map(|y| (0..48).flat_map(move |x| [x * 5, y * 8, 128])).collect();
        RgbImage::new(48, 32, pixels).unwrap()
    }

    #[test]
    fn png_comes_back_as_it_was() {
        let bytes = encode_png(&picture()).unwrap();
        assert_eq!(decode(&bytes, &Limits::default()).unwrap().image, picture());
        assert_eq!(encode_png(&picture()).unwrap(), bytes);
    }

    #[test]
    fn jpeg_comes_back_nearly_as_it_was() {
        let image = decode(&encode_jpeg(&picture(), 95).unwrap(), &Limits::default()).unwrap().image;
        let worst = image.pixels().iter().zip(picture().pixels()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst.unwrap() <= 12, "{worst:?}");
    }

    #[test]
    fn a_side_jpeg_cannot_state_is_an_error() {
        let wide = RgbImage::new(70_000, 1, vec![0; 210_000]).unwrap();
        assert!(encode_jpeg(&wide, 80).unwrap_err().to_string().contains("70000 × 1"));
    }
}
