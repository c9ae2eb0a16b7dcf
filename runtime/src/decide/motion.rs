//! Whether a picture differs enough from the last one that was judged to be worth judging. Pure.
//!
//! Both are reduced to the same coarse grid of brightness, so the answer does not depend on the resolution, and
//! a camera's noise averages out.

use mynah_photo::{Rect, RgbImage, resize};

/// Cells per side of the grid.
const SIDE: u32 = 32;

/// How much a cell's brightness must differ, of 255, to have changed: above noise, below any object.
const STEP: u8 = 12;

/// The last judged picture, as a grid.
#[derive(Clone, Debug)]
pub struct MotionGate {
    /// The share of cells that must have changed, 0 to 1; 0 lets everything pass.
    share: f32,
    judged: Option<Vec<u8>>,
}

impl MotionGate {
    /// Lets pictures pass of which at least `share` (0 to 1) has changed; 0 lets every picture pass.
    pub fn new(share: f32) -> Self {
        Self { share, judged: None }
    }

    /// Whether the picture is to be judged; it is then the one the next are compared with.
    ///
    /// A slow change passes too: what is compared is not the picture before but the last that passed.
    pub fn passes(&mut self, image: &RgbImage) -> bool {
        if self.share <= 0.0 {
            return true;
        }
        let Some(grid) = brightness_grid(image) else { return true };
        let passes = self.judged.as_ref().is_none_or(|before| changed(before, &grid) >= self.share);
        if passes {
            self.judged = Some(grid);
        }
        passes
    }

    /// Forgets the last picture: the next one passes.
    pub fn reset(&mut self) {
        self.judged = None;
    }
}

/// The picture's brightness in `SIDE` × `SIDE` cells; `None` where it cannot be resized.
fn brightness_grid(image: &RgbImage) -> Option<Vec<u8>> {
    let small = resize(image, Rect::of(image), SIDE, SIDE, mynah_contracts::ResizeFilter::Bilinear).ok()?;
    // Rec. 601 luma in 1/256: what people see as brightness.
    let luma = |[r, g, b]: [u8; 3]| ((77 * u32::from(r) + 150 * u32::from(g) + 29 * u32::from(b)) >> 8) as u8;
    Some(small.pixels().as_chunks().0.iter().map(|&pixel| luma(pixel)).collect())
}

/// The share of cells that differ, 0 to 1.
fn changed(before: &[u8], now: &[u8]) -> f32 {
    let differing = before.iter().zip(now).filter(|(a, b)| a.abs_diff(**b) > STEP).count();
    differing as f32 / now.len().max(1) as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A grey picture with a white square that covers `share` of each side, and noise.
    fn picture(width: u32, height: u32, share: f32, seed: u32) -> RgbImage {
        let pixels = (0..height)
            .flat_map(|y| {
                (0..width).flat_map(move |x| {
                    let inside = (x as f32) < width as f32 * share && (y as f32) < height as f32 * share;
                    let noise = (x.wrapping_mul(31) ^ y.wrapping_mul(17) ^ seed.wrapping_mul(7)) % 7;
                    [if inside { 240 } else { 100 + noise as u8 }; 3]
                })
            })
            .collect();
        RgbImage::new(width, height, pixels).unwrap()
    }

    #[test]
    fn noise_is_no_motion_and_an_object_is_at_every_resolution() {
        for (width, height) in [(64, 48), (640, 480), (1920, 1080), (16, 16)] {
            let mut gate = MotionGate::new(0.05);
            assert!(gate.passes(&picture(width, height, 0.0, 1)), "the first always passes");
            assert!(!gate.passes(&picture(width, height, 0.0, 2)), "{width} × {height}");
            assert!(gate.passes(&picture(width, height, 0.5, 3)), "{width} × {height}");
            assert!(!gate.passes(&picture(width, height, 0.5, 4)));
            gate.reset();
            assert!(gate.passes(&picture(width, height, 0.5, 4)));
        }
    }

    #[test]
    fn a_slow_change_passes_in_the_end() {
        let mut gate = MotionGate::new(0.05);
        let passed = (0..10).filter(|step| gate.passes(&picture(320, 240, *step as f32 * 0.05, 0))).count();
        assert!((2..10).contains(&passed), "{passed}");
    }

    proptest! {
        #[test]
        fn a_share_of_nothing_lets_all_pass_and_equal_pictures_never_do(
            width in 16_u32..80, height in 16_u32..80, share in 0.01_f32..1.0,
        ) {
            let image = picture(width, height, 0.3, 5);
            let (mut open, mut gate) = (MotionGate::new(0.0), MotionGate::new(share));
            prop_assert!(open.passes(&image) && open.passes(&image));
            prop_assert!(gate.passes(&image) && !gate.passes(&image));
        }
    }
}
