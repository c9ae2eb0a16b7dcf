//! Resizing with an exact filter: training and device must get the same numbers.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use mynah_contracts::ResizeFilter;

use crate::RgbImage;

/// A rectangle in pixels of the source, corners at whole numbers; parts of pixels are allowed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rect {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width, more than 0.
    pub width: f64,
    /// Height, more than 0.
    pub height: f64,
}

impl Rect {
    /// All of `image`.
    pub fn of(image: &RgbImage) -> Self {
        Self { x: 0.0, y: 0.0, width: image.width().into(), height: image.height().into() }
    }

    fn lies_in(&self, image: &RgbImage) -> bool {
        let all = Self::of(image);
        self.x >= 0.0
            && self.y >= 0.0
            && self.width > 0.0
            && self.height > 0.0
            && self.x + self.width <= all.width
            && self.y + self.height <= all.height
    }
}

/// Why a picture cannot be resized so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResizeError {
    /// The source rectangle is empty, not a number, or leaves the picture.
    #[error("the rectangle {from:?} does not lie in a picture of {width} × {height} pixels")]
    Outside {
        /// The rectangle.
        from: Rect,
        /// The picture's width.
        width: u32,
        /// The picture's height.
        height: u32,
    },
    /// The target has no pixels, or more than memory can name.
    #[error("a picture cannot be {width} × {height} pixels")]
    Size {
        /// The width asked for.
        width: u32,
        /// The height asked for.
        height: u32,
    },
}

/// Scales the part `from` of `image` to `width` × `height` pixels, with a filter that widens when it shrinks
/// (no aliasing), as Pillow's `resize(box=…)` does.
pub fn resize(
    image: &RgbImage,
    from: Rect,
    width: u32,
    height: u32,
    filter: ResizeFilter,
) -> Result<RgbImage, ResizeError> {
    let size = || ResizeError::Size { width, height };
    let outside = || ResizeError::Outside { from, width: image.width(), height: image.height() };
    if !from.lies_in(image) {
        return Err(outside());
    }
    // The same bound as for reading: no caller needs more, and a mistake must not take all memory.
    let count = u64::from(width) * u64::from(height);
    if count == 0 || count > crate::Limits::default().max_pixels {
        return Err(size());
    }
    // The typed images make the compiler build one pixel type's code, not that of all fifteen.
    let source = TypedImageRef::<U8x3>::from_buffer(image.width(), image.height(), image.pixels())
        .map_err(|_| outside())?;
    let mut pixels = vec![0; width as usize * height as usize * 3];
    let mut target = TypedImage::<U8x3>::from_buffer(width, height, &mut pixels).map_err(|_| size())?;
    let filter = match filter {
        ResizeFilter::Bilinear => FilterType::Bilinear,
        ResizeFilter::CatmullRom => FilterType::CatmullRom,
        ResizeFilter::Lanczos3 => FilterType::Lanczos3,
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(
        from.x,
        from.y,
        from.width,
        from.height,
    );
    Resizer::new().resize_typed(&source, &mut target, &options).map_err(|_| outside())?;
    RgbImage::new(width, height, pixels).ok_or_else(size)
}

/// A copy whose longer side is at most `max_side` pixels (at least 1). Never enlarges.
pub fn thumbnail(image: &RgbImage, max_side: u32) -> RgbImage {
    let longer = image.width().max(image.height());
    let max_side = max_side.max(1);
    if longer <= max_side {
        return image.clone();
    }
    let scaled = |side: u32| {
        let exact = f64::from(side) * f64::from(max_side) / f64::from(longer);
        (exact.round() as u32).clamp(1, max_side)
    };
    let (width, height) = (scaled(image.width()), scaled(image.height()));
    // All of a picture, to sides smaller than its own: nothing `resize` could refuse.
    resize(image, Rect::of(image), width, height, ResizeFilter::CatmullRom).unwrap_or_else(|_| image.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gradient(width: u32, height: u32) -> RgbImage {
        let pixels = (0..height)
            .flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, (x + y) as u8]))
            .collect();
        RgbImage::new(width, height, pixels).unwrap()
    }

    #[test]
    fn a_crop_at_its_own_size_is_the_crop() {
        let image = gradient(40, 30);
        let rect = Rect { x: 5.0, y: 7.0, width: 20.0, height: 10.0 };
        for filter in [ResizeFilter::Bilinear, ResizeFilter::CatmullRom, ResizeFilter::Lanczos3] {
            let cut = resize(&image, rect, 20, 10, filter).unwrap();
            for (row, line) in cut.pixels().chunks_exact(60).enumerate() {
                let start = ((row + 7) * 40 + 5) * 3;
                assert_eq!(line, &image.pixels()[start..start + 60], "{filter:?} row {row}");
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let image = gradient(40, 30);
        for (x, y, width, height) in
            [(-1.0, 0.0, 9.0, 9.0), (32.0, 0.0, 9.0, 9.0), (0.0, 0.0, 0.0, 9.0), (f64::NAN, 0.0, 9.0, 9.0)]
        {
            let rect = Rect { x, y, width, height };
            let error = resize(&image, rect, 8, 8, ResizeFilter::Bilinear).unwrap_err();
            assert!(matches!(error, ResizeError::Outside { .. }), "{rect:?}");
        }
        let all = Rect::of(&image);
        for (width, height) in [(0, 8), (8, 0), (u32::MAX, u32::MAX)] {
            let error = resize(&image, all, width, height, ResizeFilter::Bilinear).unwrap_err();
            assert!(matches!(error, ResizeError::Size { .. }), "{width} {height}");
        }
    }

    #[test]
    fn a_thumbnail_shrinks_and_never_enlarges() {
        let thumb = thumbnail(&gradient(400, 100), 96);
        assert_eq!((thumb.width(), thumb.height()), (96, 24));
        assert_eq!(thumbnail(&gradient(40, 30), 96), gradient(40, 30));
        assert_eq!(thumbnail(&gradient(300, 1), 10).height(), 1);
    }

    proptest! {
        #[test]
        fn any_rectangle_inside_gives_the_size_asked_for(
            width in 1_u32..80, height in 1_u32..80, x in 0.0..0.9, y in 0.0..0.9, part in 0.01..1.0, size in 1_u32..60,
        ) {
            let image = gradient(width, height);
            let (w, h) = (f64::from(width), f64::from(height));
            let rect = Rect { x: x * w, y: y * h, width: part * (w - x * w), height: part * (h - y * h) };
            let out = resize(&image, rect, size, size, ResizeFilter::CatmullRom).unwrap();
            prop_assert_eq!((out.width(), out.height()), (size, size));
        }
    }
}
