//! Which of a camera's forms to ask for. Pure.

use super::{FourCc, Size};
use crate::settings::{CameraSpec, PixelForm};

/// What a classifier needs and every webcam has: asked for unless the settings say otherwise.
const USUAL: Size = Size { width: 640, height: 480 };

/// Enough for any decision, and little enough for a USB 2 bus without compression.
const USUAL_RATE: f32 = 15.0;

/// The formats we read, in the order they are tried: compressed first, since a USB 2 bus is narrow and the live page
/// gets the bytes as they are.
pub(super) fn formats(offered: &[FourCc], wanted: Option<PixelForm>) -> Vec<FourCc> {
    [FourCc::MJPEG, FourCc::JPEG, FourCc::YUYV]
        .into_iter()
        .filter(|format| match wanted {
            Some(PixelForm::Mjpeg) => format.is_jpeg(),
            Some(PixelForm::Yuyv) => *format == FourCc::YUYV,
            None => true,
        })
        .filter(|format| offered.contains(format))
        .collect()
}

/// The size nearest to the one wanted: the smallest that is not smaller, else the largest.
pub(super) fn size(offered: &[Size], spec: &CameraSpec) -> Size {
    let wanted = spec.size.map_or(USUAL, |(width, height)| Size { width, height });
    let pixels = |size: &Size| u64::from(size.width) * u64::from(size.height);
    offered
        .iter()
        .filter(|size| size.width >= wanted.width && size.height >= wanted.height)
        .min_by_key(|size| pixels(size))
        .or_else(|| offered.iter().max_by_key(|size| pixels(size)))
        .copied()
        // Some drivers list nothing and take anything.
        .unwrap_or(wanted)
}

/// The rate nearest to the one wanted.
pub(super) fn rate(offered: &[f32], spec: &CameraSpec) -> f32 {
    let wanted = spec.fps.unwrap_or(USUAL_RATE);
    offered
        .iter()
        .copied()
        .filter(|rate| rate.is_finite() && *rate > 0.0)
        .min_by(|a, b| (a - wanted).abs().total_cmp(&(b - wanted).abs()))
        .unwrap_or(wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(width: u32, height: u32) -> Size {
        Size { width, height }
    }

    #[test]
    fn compressed_comes_first_unless_said_otherwise() {
        let all = [FourCc::YUYV, FourCc(0x3231_564e), FourCc::MJPEG];
        assert_eq!(formats(&all, None), [FourCc::MJPEG, FourCc::YUYV]);
        assert_eq!(formats(&all, Some(PixelForm::Yuyv)), [FourCc::YUYV]);
        assert_eq!(formats(&all[..2], Some(PixelForm::Mjpeg)), []);
    }

    #[test]
    fn the_nearest_size_is_not_smaller_where_there_is_one() {
        let offered = [at(1920, 1080), at(320, 240), at(800, 600), at(640, 480)];
        let spec = |size| CameraSpec { size, ..CameraSpec::default() };
        assert_eq!(size(&offered, &spec(None)), at(640, 480));
        assert_eq!(size(&offered, &spec(Some((700, 400)))), at(800, 600));
        assert_eq!(size(&offered, &spec(Some((4000, 3000)))), at(1920, 1080));
        assert_eq!(size(&[], &spec(Some((1, 2)))), at(1, 2));
    }

    #[test]
    fn the_nearest_rate_is_taken() {
        let spec = CameraSpec { fps: Some(10.0), ..CameraSpec::default() };
        assert!((rate(&[30.0, 7.5, f32::NAN, 0.0], &spec) - 7.5).abs() < 1e-6);
        assert!((rate(&[], &CameraSpec::default()) - 15.0).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn what_is_chosen_was_offered(sizes in prop::collection::vec((1_u32..4000, 1_u32..4000), 1..9), want in (1_u32..4000, 1_u32..4000)) {
            let offered: Vec<_> = sizes.into_iter().map(|(width, height)| at(width, height)).collect();
            let chosen = size(&offered, &CameraSpec { size: Some(want), ..CameraSpec::default() });
            prop_assert!(offered.contains(&chosen));
        }
    }
}
