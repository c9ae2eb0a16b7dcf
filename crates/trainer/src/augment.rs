//! Changed copies of a photo, each embedded once: the head learns what must not matter.
//!
//! Which copies are worth their inference was measured (`docs/accuracy.md`): the mirror image and the squashed
//! picture together lower the log loss a little on every set, random crops and colours do not, and none moves the
//! accuracy by more than the noise. So the default makes copies while they cost seconds, and none for large sets.

use std::fmt;

use mynah_contracts::{Hasher, Preprocess, Sha256Digest};
use mynah_photo::{Rect, ResizeError, RgbImage, resize};

/// Up to so many photos the default makes copies.
pub const AUTOMATIC_LIMIT: usize = 500;

/// A way to change a photo. What it draws at random comes from the photo's digest: always the same copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Augmentation {
    /// The mirror image.
    HorizontalFlip,
    /// The whole picture as a square, its aspect ratio given up.
    Squash,
    /// The middle: three quarters of each side.
    CenterCrop,
    /// A square somewhere, its side 65 to 100 % of the shorter side.
    RandomCrop,
    /// Brightness, contrast and saturation, each changed by up to 30 %.
    Colour,
}

/// Which copies a training makes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Augmentations {
    /// The mirror image and the squashed picture, for datasets of up to [`AUTOMATIC_LIMIT`] photos.
    #[default]
    Automatic,
    /// These.
    These(Vec<Augmentation>),
}

impl Augmentations {
    /// The copies made for a dataset of so many photos, without repetition.
    pub fn of(&self, photos: usize) -> Vec<Augmentation> {
        let mut chosen = match self {
            Self::Automatic if photos <= AUTOMATIC_LIMIT => {
                vec![Augmentation::HorizontalFlip, Augmentation::Squash]
            }
            Self::Automatic => Vec::new(),
            Self::These(these) => these.clone(),
        };
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }
}

impl Augmentation {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::HorizontalFlip, Self::Squash, Self::CenterCrop, Self::RandomCrop, Self::Colour];

    /// Its name in `training.json` and in the cache; it changes when the pixels change.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HorizontalFlip => "hflip",
            Self::Squash => "squash",
            Self::CenterCrop => "crop-75",
            Self::RandomCrop => "crop-random",
            Self::Colour => "colour-30",
        }
    }

    /// The changed copy of `image`, whose file has the digest `photo`, to be preprocessed like the photo itself.
    ///
    /// # Errors
    /// Where the picture cannot be resized.
    pub fn apply(
        self,
        image: &RgbImage,
        photo: &Sha256Digest,
        preprocess: &Preprocess,
    ) -> Result<RgbImage, ResizeError> {
        let mut draw = Draw::new(self, photo);
        match self {
            Self::HorizontalFlip => Ok(mirrored(image)),
            Self::Squash => {
                resize(image, Rect::of(image), preprocess.size, preprocess.size, preprocess.filter)
            }
            Self::CenterCrop => {
                cut(image, 0.75 * f64::from(image.width()), 0.75 * f64::from(image.height()), 0.5, 0.5)
            }
            Self::RandomCrop => {
                let side = f64::from(image.width().min(image.height())) * draw.between(0.65, 1.0);
                cut(image, side, side, draw.between(0.0, 1.0), draw.between(0.0, 1.0))
            }
            Self::Colour => {
                let (brightness, contrast) = (draw.between(0.7, 1.3), draw.between(0.7, 1.3));
                Ok(recoloured(image, brightness, contrast, draw.between(0.7, 1.3)))
            }
        }
    }
}

impl fmt::Display for Augmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Numbers drawn from a photo's digest and an augmentation's name.
struct Draw {
    bytes: [u8; 32],
    next: usize,
}

impl Draw {
    fn new(augmentation: Augmentation, photo: &Sha256Digest) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(augmentation.name().as_bytes());
        hasher.update(photo.as_bytes());
        Self { bytes: *hasher.finish().as_bytes(), next: 0 }
    }

    /// A number of the range, in steps of 1/65536 of its width.
    fn between(&mut self, low: f64, high: f64) -> f64 {
        let pair = self.bytes.as_chunks::<2>().0.get(self.next).copied().unwrap_or_default();
        self.next += 1;
        low + (high - low) * f64::from(u16::from_le_bytes(pair)) / 65536.0
    }
}

/// A copy of `pixels`, which fit `image`, as a picture.
fn like(image: &RgbImage, pixels: Vec<u8>) -> RgbImage {
    RgbImage::new(image.width(), image.height(), pixels).unwrap_or_else(|| image.clone())
}

fn mirrored(image: &RgbImage) -> RgbImage {
    let row_bytes = image.width() as usize * 3;
    let mut pixels = Vec::with_capacity(image.pixels().len());
    for row in image.pixels().chunks_exact(row_bytes) {
        let (row, _) = row.as_chunks::<3>();
        pixels.extend(row.iter().rev().flatten());
    }
    like(image, pixels)
}

/// The part of `width` × `height` pixels (rounded, at least 1) at the shares `x` and `y` of the room there is.
fn cut(image: &RgbImage, width: f64, height: f64, x: f64, y: f64) -> Result<RgbImage, ResizeError> {
    let width = (width.round() as u32).clamp(1, image.width());
    let height = (height.round() as u32).clamp(1, image.height());
    let from = Rect {
        x: (f64::from(image.width() - width) * x).floor(),
        y: (f64::from(image.height() - height) * y).floor(),
        width: width.into(),
        height: height.into(),
    };
    // To its own size: whole pixels are copied, none is interpolated.
    resize(image, from, width, height, mynah_contracts::ResizeFilter::Bilinear)
}

fn recoloured(image: &RgbImage, brightness: f64, contrast: f64, saturation: f64) -> RgbImage {
    // Luma of ITU-R BT.601.
    let luma = |[r, g, b]: [f64; 3]| 0.299 * r + 0.587 * g + 0.114 * b;
    let (pixels, _) = image.pixels().as_chunks::<3>();
    let middle = brightness * pixels.iter().map(|pixel| luma(pixel.map(f64::from))).sum::<f64>()
        / pixels.len().max(1) as f64;
    let changed = pixels
        .iter()
        .flat_map(|pixel| {
            let lit = pixel.map(|value| (f64::from(value) * brightness - middle) * contrast + middle);
            let grey = luma(lit);
            // The cast saturates at 0 and 255.
            lit.map(|value| ((value - grey) * saturation + grey).round() as u8)
        })
        .collect();
    like(image, changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::EFFICIENTNET_LITE0_224;
    use proptest::prelude::*;

    fn gradient(width: u32, height: u32) -> RgbImage {
        let pixels = (0..height)
            .flat_map(|y| (0..width).flat_map(move |x| [(x * 5) as u8, (y * 7) as u8, (x + y) as u8]))
            .collect();
        RgbImage::new(width, height, pixels).unwrap()
    }

    fn apply(augmentation: Augmentation, image: &RgbImage, photo: u8) -> RgbImage {
        augmentation.apply(image, &Sha256Digest::of(&[photo]), &EFFICIENTNET_LITE0_224.preprocess).unwrap()
    }

    #[test]
    fn a_mirror_image_of_a_mirror_image_is_the_photo() {
        let image = gradient(33, 20);
        let once = apply(Augmentation::HorizontalFlip, &image, 1);
        assert_eq!(once.pixels()[..3], image.pixels()[32 * 3..33 * 3]);
        assert_ne!(once, image);
        assert_eq!(apply(Augmentation::HorizontalFlip, &once, 1), image);
    }

    #[test]
    fn crops_copy_pixels() {
        let image = gradient(40, 20);
        let middle = apply(Augmentation::CenterCrop, &image, 1);
        assert_eq!((middle.width(), middle.height()), (30, 15));
        assert_eq!(middle.pixels()[..3], [25, 14, 7]);
        let random = apply(Augmentation::RandomCrop, &image, 1);
        assert!(random.width() == random.height() && (13..=20).contains(&random.width()));
        let (x, y) = (random.pixels()[0] / 5, random.pixels()[1] / 7);
        assert_eq!(random.pixels()[2], x + y, "a pixel of the photo");
    }

    #[test]
    fn the_same_photo_always_gives_the_same_copy_and_another_photo_another() {
        let image = gradient(40, 30);
        for augmentation in [Augmentation::RandomCrop, Augmentation::Colour] {
            assert_eq!(apply(augmentation, &image, 1), apply(augmentation, &image, 1));
            assert_ne!(apply(augmentation, &image, 1), apply(augmentation, &image, 2), "{augmentation}");
        }
    }

    #[test]
    fn no_change_of_colour_is_no_change() {
        let image = gradient(40, 30);
        assert_eq!(recoloured(&image, 1.0, 1.0, 1.0), image);
        let grey = recoloured(&image, 1.0, 1.0, 0.0);
        assert!(grey.pixels().as_chunks::<3>().0.iter().all(|[r, g, b]| r == g && g == b));
    }

    #[test]
    fn large_datasets_get_no_copies_by_themselves() {
        let names = |photos| Augmentations::Automatic.of(photos).iter().map(|a| a.name()).collect::<Vec<_>>();
        assert_eq!(names(AUTOMATIC_LIMIT), ["hflip", "squash"]);
        assert!(names(AUTOMATIC_LIMIT + 1).is_empty());
        let twice = Augmentations::These(vec![Augmentation::Colour, Augmentation::Colour]);
        assert_eq!(twice.of(9999), [Augmentation::Colour]);
    }

    proptest! {
        #[test]
        fn any_picture_can_be_changed(width in 1u32..50, height in 1u32..50, photo: u8) {
            for augmentation in Augmentation::ALL {
                let copy = apply(augmentation, &gradient(width, height), photo);
                prop_assert!(copy.width() > 0 && copy.height() > 0);
            }
        }
    }
}
