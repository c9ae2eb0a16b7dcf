//! A frame as a camera or a recording gives it, and how it becomes a picture.

use mynah_photo::{DecodeError, Limits, RgbImage};

use super::yuv;

/// The largest frame that is read, in bytes: an uncompressed 8K picture fits.
pub(super) const MAX_FRAME_BYTES: usize = 128 << 20;

/// A frame's bytes, in the form they came in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RawFrame {
    /// A JPEG picture, possibly without its Huffman tables, as webcams leave them out.
    Jpeg(Vec<u8>),
    /// Two pixels in four bytes: brightness, blueness, brightness, redness (V4L2 `YUYV`).
    Yuyv {
        /// Pixels per row.
        width: u32,
        /// Rows.
        height: u32,
        /// Bytes from one row to the next, at least 2 × width rounded up to whole pairs.
        stride: usize,
        /// The rows.
        bytes: Vec<u8>,
    },
    /// Pixels at hand.
    Rgb(RgbImage),
}

impl RawFrame {
    /// The bytes as they came: two frames with equal bytes are one picture, since no camera is without noise.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Jpeg(bytes) | Self::Yuyv { bytes, .. } => bytes,
            Self::Rgb(image) => image.pixels(),
        }
    }

    /// The picture, and the JPEG bytes where it came as such.
    ///
    /// # Errors
    /// The bytes are damaged, too few, or too many.
    pub fn decode(self) -> Result<(RgbImage, Option<Vec<u8>>), DecodeError> {
        match self {
            Self::Jpeg(bytes) => {
                // A camera may be smaller than a photo worth learning from.
                let limits = Limits { min_side: 1, ..Limits::default() };
                let image = mynah_photo::decode(&bytes, &limits)?.image;
                Ok((image, Some(bytes)))
            }
            Self::Yuyv { width, height, stride, bytes } => {
                let image =
                    yuv::yuyv_to_rgb(width, height, stride, &bytes).ok_or_else(|| DecodeError::Damaged {
                        format: "YUYV",
                        what: format!("{} bytes are too few for {width} × {height} pixels", bytes.len()),
                    })?;
                Ok((image, None))
            }
            Self::Rgb(image) => Ok((image, None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use mynah_testkit::{RED, solid_colour_jpeg};

    use super::*;

    #[test]
    fn frames_become_pictures_and_short_ones_are_damaged() {
        let jpeg = solid_colour_jpeg(RED, 1);
        let (image, kept) = RawFrame::Jpeg(jpeg.clone()).decode().unwrap();
        assert_eq!((image.width(), image.height(), kept), (64, 48, Some(jpeg.clone())));
        assert!(RawFrame::Jpeg(jpeg[..100].to_vec()).decode().is_err());
        let short = RawFrame::Yuyv { width: 4, height: 4, stride: 8, bytes: vec![0; 31] };
        assert!(short.decode().unwrap_err().to_string().contains("31 bytes are too few for 4 × 4"));
    }
}
