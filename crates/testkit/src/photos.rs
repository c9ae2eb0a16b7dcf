//! Photos whose content a test can reason about.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};

/// A clear red.
pub const RED: [u8; 3] = [200, 40, 40];
/// A clear green.
pub const GREEN: [u8; 3] = [40, 200, 40];
/// A clear blue.
pub const BLUE: [u8; 3] = [40, 40, 200];
/// Neither.
pub const GREY: [u8; 3] = [120, 120, 120];

/// A JPEG, 64 × 48 pixels, of one colour with noise; each seed gives other bytes.
#[expect(clippy::expect_used, reason = "the same for every input; this crate's own test runs it")]
pub fn solid_colour_jpeg(colour: [u8; 3], seed: u64) -> Vec<u8> {
    let picture = noisy(64, 48, colour, seed);
    let mut bytes = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut bytes, 90)
        .encode_image(&picture)
        .expect("64 × 48 pixels into memory leave nothing to fail");
    bytes.into_inner()
}

/// A picture whose channels lie within 15 of `colour`.
pub(crate) fn noisy(width: u32, height: u32, colour: [u8; 3], seed: u64) -> RgbImage {
    // SplitMix64 (Steele, Lea, Flood 2014): short, and the same everywhere.
    let mut state = seed;
    let mut noise = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % 31) as i16 - 15
    };
    RgbImage::from_fn(width, height, |_, _| {
        Rgb(colour.map(|channel| (i16::from(channel) + noise()).clamp(0, 255) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photos_are_jpegs_of_their_colour_and_differ_by_seed() {
        let [one, other] = [1, 2].map(|seed| solid_colour_jpeg(RED, seed));
        assert_ne!(one, other);
        let picture = image::load_from_memory(&one).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), (64, 48));
        let red: f64 = picture.pixels().map(|pixel| f64::from(pixel[0])).sum::<f64>() / (64.0 * 48.0);
        assert!((red - 200.0).abs() < 3.0, "{red}");
    }
}
