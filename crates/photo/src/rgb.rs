//! Upright pixels: three bytes each, red, green, blue, rows without padding.

use std::fmt;

/// A picture in memory: RGB, 8 bits a channel, row after row from the top left, no padding.
#[derive(Clone, PartialEq, Eq)]
pub struct RgbImage {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl RgbImage {
    /// A picture of `width` × `height` pixels.
    ///
    /// `None` if a side is 0 or `pixels` does not hold exactly 3 × width × height bytes.
    pub fn new(width: u32, height: u32, pixels: Vec<u8>) -> Option<Self> {
        let bytes = (width as usize).checked_mul(height as usize)?.checked_mul(3)?;
        (bytes != 0 && bytes == pixels.len()).then_some(Self { width, height, pixels })
    }

    /// Width in pixels, at least 1.
    pub const fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, at least 1.
    pub const fn height(&self) -> u32 {
        self.height
    }

    /// The bytes: 3 × width × height.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The bytes, given away.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }
}

impl fmt::Debug for RgbImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RgbImage({} × {})", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_must_fit_the_sides() {
        assert!(RgbImage::new(2, 3, vec![0; 18]).is_some());
        assert!(RgbImage::new(2, 3, vec![0; 17]).is_none());
        assert!(RgbImage::new(0, 3, vec![]).is_none());
        assert!(RgbImage::new(u32::MAX, u32::MAX, vec![0; 3]).is_none());
    }
}
