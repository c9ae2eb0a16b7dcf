//! From upright pixels to the numbers a network takes.

use mynah_contracts::{ChannelOrder, Geometry, Preprocess};
use mynah_photo::{Rect, RgbImage, resize};

use crate::ModelError;

/// The network's input for `image`: 3 × size × size numbers, channel by channel, each row by row.
///
/// The part of the picture that `preprocess` names is resized to its size, with 8 bits a channel as
/// Pillow and the other libraries of the field keep them; then each value becomes (value − mean) ÷ scale.
///
/// # Errors
/// [`ModelError::Resize`] where the picture's part cannot be resized.
pub fn input_values(image: &RgbImage, preprocess: &Preprocess) -> Result<Vec<f32>, ModelError> {
    let size = preprocess.size;
    let part = part_of(image.width(), image.height(), preprocess.geometry);
    let resized = resize(image, part, size, size, preprocess.filter)
        .map_err(|source| ModelError::Resize { size, source })?;
    let order = match preprocess.channels {
        ChannelOrder::Rgb => [0, 1, 2],
        ChannelOrder::Bgr => [2, 1, 0],
    };
    let mut values = Vec::with_capacity(resized.pixels().len());
    for ((channel, mean), scale) in order.into_iter().zip(preprocess.mean).zip(preprocess.scale) {
        let (pixels, _) = resized.pixels().as_chunks::<3>();
        values.extend(pixels.iter().map(|pixel| (f32::from(pixel[channel]) - mean) / scale));
    }
    Ok(values)
}

/// Which part of a `width` × `height` picture the model sees, in pixels.
fn part_of(width: u32, height: u32, geometry: Geometry) -> Rect {
    let (width, height) = (f64::from(width), f64::from(height));
    match geometry {
        Geometry::Squash => Rect { x: 0.0, y: 0.0, width, height },
        Geometry::CenterCrop { fraction } => {
            let side = width.min(height) * f64::from(fraction);
            Rect { x: (width - side) / 2.0, y: (height - side) / 2.0, width: side, height: side }
        }
    }
}

#[cfg(test)]
mod tests {
    use mynah_contracts::ResizeFilter;

    use super::*;

    fn plain(size: u32, geometry: Geometry) -> Preprocess {
        Preprocess {
            size,
            geometry,
            filter: ResizeFilter::CatmullRom,
            channels: ChannelOrder::Rgb,
            mean: [0.0; 3],
            scale: [1.0; 3],
        }
    }

    fn one_colour() -> RgbImage {
        RgbImage::new(40, 20, [200, 10, 100].repeat(40 * 20)).unwrap()
    }

    #[test]
    fn channels_come_one_after_the_other_normalised() {
        let preprocess =
            Preprocess { mean: [100.0, 10.0, 0.0], scale: [50.0, 1.0, 2.0], ..plain(2, Geometry::Squash) };
        let values = input_values(&one_colour(), &preprocess).unwrap();
        assert_eq!(values, [2.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0, 50.0, 50.0, 50.0, 50.0]);
    }

    #[test]
    fn bgr_turns_the_channels_and_not_the_means() {
        let preprocess =
            Preprocess { channels: ChannelOrder::Bgr, mean: [1.0, 0.0, 0.0], ..plain(1, Geometry::Squash) };
        assert_eq!(input_values(&one_colour(), &preprocess).unwrap(), [99.0, 10.0, 200.0]);
    }

    #[test]
    fn a_center_crop_is_a_square_in_the_middle() {
        let part = part_of(640, 480, Geometry::CenterCrop { fraction: 0.875 });
        assert_eq!((part.x, part.y, part.width, part.height), (110.0, 30.0, 420.0, 420.0));
        let part = part_of(3, 1000, Geometry::CenterCrop { fraction: 1.0 });
        assert_eq!((part.x, part.y, part.width, part.height), (0.0, 498.5, 3.0, 3.0));
    }
}
