//! Bytes to pixels, within limits: the one way in for every photo.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageReader};
use mynah_contracts::{Diagnosis, FaultKind, ImageFormat, SkipReason};

use crate::{RgbImage, jpeg, sniff};

/// What a file may be before its pixels are given memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The largest file, in bytes.
    pub max_file_bytes: u64,
    /// The largest picture, in pixels.
    pub max_pixels: u64,
    /// The smallest width and height, in pixels.
    pub min_side: u32,
}

impl Default for Limits {
    /// 64 MiB, 100 megapixels, 16 pixels: above every camera we know of, below what hurts.
    fn default() -> Self {
        Self { max_file_bytes: 64 << 20, max_pixels: 100_000_000, min_side: 16 }
    }
}

impl Limits {
    /// Checks a file's size in bytes.
    pub fn check_file(&self, bytes: u64) -> Result<(), DecodeError> {
        if bytes == 0 {
            return Err(DecodeError::Empty);
        }
        if bytes > self.max_file_bytes {
            return Err(DecodeError::TooManyBytes { bytes, max: self.max_file_bytes });
        }
        Ok(())
    }

    /// Checks the sides a header states.
    pub(crate) fn check_sides(&self, width: u32, height: u32) -> Result<(), DecodeError> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.max_pixels {
            return Err(DecodeError::TooManyPixels { width, height, max: self.max_pixels });
        }
        if width.min(height) < self.min_side.max(1) {
            return Err(DecodeError::TooSmall { width, height, min: self.min_side });
        }
        Ok(())
    }

    /// What a decoder may take: eight bytes a pixel (16-bit RGBA, the widest we read) twice, since some hold
    /// a second copy, and room for tables.
    fn decoder_limits(&self) -> image::Limits {
        let mut limits = image::Limits::default();
        limits.max_alloc = Some(self.max_pixels.saturating_mul(16).saturating_add(16 << 20));
        limits
    }
}

/// A decoded photo.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoded {
    /// Its type, by content.
    pub format: ImageFormat,
    /// Its pixels, upright; what was transparent is white.
    pub image: RgbImage,
}

/// Why bytes are not a photo we can use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No bytes.
    #[error("the file is empty")]
    Empty,
    /// The first bytes are of no type we read.
    #[error("the file is not a JPEG, PNG, BMP, GIF or WebP image")]
    NotAnImage,
    /// A type we read, in a variant we do not.
    #[error("the {format} file uses {what}, which is not supported")]
    Unsupported {
        /// The type, as people write it.
        format: &'static str,
        /// The variant.
        what: String,
    },
    /// The bytes contradict the format, or end early.
    #[error("the {format} file is damaged: {what}")]
    Damaged {
        /// The type, as people write it.
        format: &'static str,
        /// Where or how.
        what: String,
    },
    /// Fewer pixels than can be learnt from.
    #[error("the picture is {width} × {height} pixels, at least {min} × {min} are needed")]
    TooSmall {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// [`Limits::min_side`].
        min: u32,
    },
    /// More pixels than allowed.
    #[error("the header says {width} × {height} pixels, at most {max} pixels are read")]
    TooManyPixels {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// [`Limits::max_pixels`].
        max: u64,
    },
    /// More bytes than allowed.
    #[error("the file has {bytes} bytes, at most {max} are read")]
    TooManyBytes {
        /// The file's size.
        bytes: u64,
        /// [`Limits::max_file_bytes`].
        max: u64,
    },
    /// The decoder asked for more memory than its share.
    #[error("the {format} file needs more memory than its pixels account for")]
    TooMuchMemory {
        /// The type, as people write it.
        format: &'static str,
    },
}

impl DecodeError {
    /// The class under which the import counts it.
    pub const fn skip_reason(&self) -> SkipReason {
        match self {
            Self::Empty => SkipReason::Empty,
            Self::NotAnImage => SkipReason::NotAnImage,
            Self::Unsupported { .. } => SkipReason::Unreadable,
            Self::Damaged { .. } => SkipReason::Corrupt,
            Self::TooSmall { .. } => SkipReason::TooSmall,
            Self::TooManyPixels { .. } | Self::TooManyBytes { .. } | Self::TooMuchMemory { .. } => {
                SkipReason::TooLarge
            }
        }
    }
}

impl Diagnosis for DecodeError {
    fn kind(&self) -> FaultKind {
        FaultKind::BadInput
    }

    fn hint(&self) -> Option<String> {
        Some(
            match self {
                Self::Empty | Self::Damaged { .. } => "copy the file again from where it came, or remove it",
                Self::NotAnImage | Self::Unsupported { .. } => {
                    "save it as an ordinary JPEG or PNG, or remove it"
                }
                Self::TooSmall { .. } => "use a larger picture, or remove it",
                Self::TooManyPixels { .. } | Self::TooManyBytes { .. } | Self::TooMuchMemory { .. } => {
                    "scale the picture down, or remove it"
                }
            }
            .into(),
        )
    }
}

/// Reads a photo: type by content, size checked before pixels are allocated, EXIF orientation applied, CMYK and
/// grey turned to RGB, transparency laid on white, the first frame of an animation.
///
/// # Errors
/// Every reason not to use the file, with [`DecodeError::skip_reason`] as its class. A file that ends early or
/// whose data run short is [`DecodeError::Damaged`].
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    limits.check_file(bytes.len() as u64)?;
    let format = sniff(bytes).ok_or(DecodeError::NotAnImage)?;
    let image = match format {
        ImageFormat::Jpeg => jpeg::decode(bytes, limits)?,
        ImageFormat::Png => by_image(bytes, limits, image::ImageFormat::Png, "PNG")?,
        ImageFormat::Bmp => by_image(bytes, limits, image::ImageFormat::Bmp, "BMP")?,
        ImageFormat::Gif => by_image(bytes, limits, image::ImageFormat::Gif, "GIF")?,
        ImageFormat::Webp => by_image(bytes, limits, image::ImageFormat::WebP, "WebP")?,
    };
    Ok(Decoded { format, image })
}

/// The types the `image` crate reads strictly.
fn by_image(
    bytes: &[u8],
    limits: &Limits,
    format: image::ImageFormat,
    name: &'static str,
) -> Result<RgbImage, DecodeError> {
    let fault = |error: image::ImageError| classify(name, &error);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.decoder_limits());
    let mut decoder = reader.into_decoder().map_err(fault)?;
    let (width, height) = decoder.dimensions();
    limits.check_sides(width, height)?;
    // An unreadable orientation is no orientation, as every viewer has it.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(fault)?;
    picture.apply_orientation(orientation);
    let rgb = if picture.color().has_alpha() { on_white(picture) } else { picture.into_rgb8() };
    let (width, height) = rgb.dimensions();
    RgbImage::new(width, height, rgb.into_raw()).ok_or_else(|| DecodeError::Damaged {
        format: name,
        what: "its sides and its pixels disagree".into(),
    })
}

/// Lays what is transparent on white, as a browser's page does.
fn on_white(picture: DynamicImage) -> image::RgbImage {
    let rgba = picture.into_rgba8();
    let (width, height) = rgba.dimensions();
    let mut out = image::RgbImage::new(width, height);
    for (to, from) in out.pixels_mut().zip(rgba.pixels()) {
        let [r, g, b, alpha] = from.0;
        let over = |c: u8| {
            let (c, a) = (u32::from(c), u32::from(alpha));
            ((c * a + 255 * (255 - a) + 127) / 255) as u8
        };
        to.0 = [over(r), over(g), over(b)];
    }
    out
}

/// The library's error in our words; its own message names the place in the file.
fn classify(format: &'static str, error: &image::ImageError) -> DecodeError {
    match error {
        image::ImageError::Limits(_) => DecodeError::TooMuchMemory { format },
        image::ImageError::Unsupported(what) => DecodeError::Unsupported { format, what: what.to_string() },
        image::ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Damaged { format, what: "it ends before its pixels do".into() }
        }
        other => DecodeError::Damaged { format, what: other.to_string() },
    }
}
