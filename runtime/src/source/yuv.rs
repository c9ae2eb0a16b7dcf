//! Brightness and colour difference to RGB, by ITU-R BT.601, studio range (16 to 235): what webcams and
//! YUV4MPEG2 streams mean unless they say otherwise.

use mynah_photo::RgbImage;

/// One pixel, in integers of 1/256.
pub(super) fn to_rgb(y: u8, u: u8, v: u8) -> [u8; 3] {
    let (y, u, v) = (298 * (i32::from(y) - 16), i32::from(u) - 128, i32::from(v) - 128);
    let channel = |value: i32| ((value + 128) >> 8).clamp(0, 255) as u8;
    [channel(y + 409 * v), channel(y - 100 * u - 208 * v), channel(y + 516 * u)]
}

/// A `YUYV` picture; `None` where there are too few bytes or no pixels.
pub(super) fn yuyv_to_rgb(width: u32, height: u32, stride: usize, bytes: &[u8]) -> Option<RgbImage> {
    let row_bytes = (width as usize).div_ceil(2).checked_mul(4)?;
    let stride = stride.max(row_bytes);
    // The last row need not be padded.
    let needed = stride.checked_mul((height as usize).checked_sub(1)?)?.checked_add(row_bytes)?;
    if row_bytes == 0 || bytes.len() < needed {
        return None;
    }
    let mut pixels = Vec::with_capacity(width as usize * height as usize * 3);
    for row in bytes.chunks(stride).take(height as usize) {
        let mut left = width;
        for &[first, u, second, v] in row.get(..row_bytes)?.as_chunks().0 {
            pixels.extend(to_rgb(first, u, v));
            if left > 1 {
                pixels.extend(to_rgb(second, u, v));
            }
            left = left.saturating_sub(2);
        }
    }
    RgbImage::new(width, height, pixels)
}

/// How often colour stands beside brightness.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Subsampling {
    /// Never: grey.
    Mono,
    /// For every 2 × 2 pixels.
    Two,
    /// For every 2 × 1 pixels.
    Wide,
    /// For every pixel.
    Full,
}

impl Subsampling {
    /// Width and height of a colour plane; `None` = there is none.
    fn plane(self, width: usize, height: usize) -> Option<(usize, usize)> {
        match self {
            Self::Mono => None,
            Self::Two => Some((width.div_ceil(2), height.div_ceil(2))),
            Self::Wide => Some((width.div_ceil(2), height)),
            Self::Full => Some((width, height)),
        }
    }

    /// Bytes of a frame.
    pub(super) fn frame_bytes(self, width: usize, height: usize) -> Option<usize> {
        let colour = match self.plane(width, height) {
            Some((width, height)) => width.checked_mul(height)?.checked_mul(2)?,
            None => 0,
        };
        width.checked_mul(height)?.checked_add(colour)
    }
}

/// A picture of three planes, brightness first; `None` where the bytes are not as many as they should be.
pub(super) fn planes_to_rgb(
    width: u32,
    height: u32,
    sampling: Subsampling,
    bytes: &[u8],
) -> Option<RgbImage> {
    let (w, h) = (width as usize, height as usize);
    if bytes.len() != sampling.frame_bytes(w, h)? {
        return None;
    }
    let (luma, colour) = bytes.split_at_checked(w.checked_mul(h)?)?;
    let mut pixels = Vec::with_capacity(luma.len().checked_mul(3)?);
    let Some((plane_width, plane_height)) = sampling.plane(w, h) else {
        pixels.extend(luma.iter().flat_map(|&y| to_rgb(y, 128, 128)));
        return RgbImage::new(width, height, pixels);
    };
    let (blue, red) = colour.split_at_checked(plane_width.checked_mul(plane_height)?)?;
    for (row, line) in luma.chunks_exact(w.max(1)).enumerate() {
        let start = if plane_height == h { row } else { row / 2 } * plane_width;
        let (blue, red) = (blue.get(start..start + plane_width)?, red.get(start..start + plane_width)?);
        for (column, &y) in line.iter().enumerate() {
            let at = if plane_width == w { column } else { column / 2 };
            pixels.extend(to_rgb(y, *blue.get(at)?, *red.get(at)?));
        }
    }
    RgbImage::new(width, height, pixels)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_corners_of_the_colour_cube_are_met() {
        // Y, U, V of 100 % colour bars by BT.601, rounded.
        for ((y, u, v), rgb) in [
            ((235, 128, 128), [255, 255, 255]),
            ((16, 128, 128), [0, 0, 0]),
            ((81, 90, 240), [255, 0, 0]),
            ((145, 54, 34), [0, 255, 0]),
            ((41, 240, 110), [0, 0, 255]),
        ] {
            let got = to_rgb(y, u, v);
            assert!(got.iter().zip(rgb).all(|(a, b)| a.abs_diff(b) <= 2), "{got:?} for {rgb:?}");
        }
    }

    #[test]
    fn rows_may_be_padded_and_widths_odd() {
        let row = [81, 90, 81, 240, 235, 128, 235, 128, 0xEE, 0xEE];
        let bytes = [row, row].concat();
        let image = yuyv_to_rgb(3, 2, 10, &bytes[..18]).unwrap();
        assert_eq!(image.pixels().len(), 18);
        assert_eq!(&image.pixels()[6..9], &[255, 255, 255]);
        assert!(yuyv_to_rgb(3, 2, 10, &bytes[..17]).is_none());
        assert!(yuyv_to_rgb(3, 0, 10, &bytes).is_none());
    }

    #[test]
    fn each_sampling_gives_the_same_picture_of_one_colour() {
        for sampling in [Subsampling::Two, Subsampling::Wide, Subsampling::Full] {
            let size = sampling.frame_bytes(5, 3).unwrap();
            let mut bytes = vec![81; 15];
            bytes.extend(std::iter::repeat_n(90, (size - 15) / 2));
            bytes.extend(std::iter::repeat_n(240, (size - 15) / 2));
            let image = planes_to_rgb(5, 3, sampling, &bytes).unwrap();
            assert!(
                image.pixels().as_chunks().0.iter().all(|&[r, g, b]| r > 250 && g < 5 && b < 5),
                "{sampling:?}"
            );
        }
        assert_eq!(
            planes_to_rgb(2, 1, Subsampling::Mono, &[235, 16]).unwrap().pixels(),
            [255, 255, 255, 0, 0, 0]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_picture_or_none(
            width in 0_u32..9, height in 0_u32..9, stride in 0_usize..40, bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let fits = |image: RgbImage| image.width() == width && image.height() == height;
            prop_assert!(yuyv_to_rgb(width, height, stride, &bytes).is_none_or(fits));
            for sampling in [Subsampling::Mono, Subsampling::Two, Subsampling::Wide, Subsampling::Full] {
                prop_assert!(planes_to_rgb(width, height, sampling, &bytes).is_none_or(fits));
            }
        }
    }
}
