//! How an upright picture becomes the numbers a model takes. Written once by training, read by all others:
//! training on one geometry and serving another costs points of accuracy.

use serde::{Deserialize, Serialize};

/// From upright RGB pixels to the model's input, shape `1 × 3 × size × size`, 32-bit floats.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Preprocess {
    /// Width and height of the model's input, in pixels.
    pub size: u32,
    /// Which part of the picture is taken.
    pub geometry: Geometry,
    /// How pixels are interpolated.
    pub filter: ResizeFilter,
    /// The order of the three channels.
    pub channels: ChannelOrder,
    /// Subtracted from each channel's value (0 to 255), in the channels' order.
    pub mean: [f32; 3],
    /// What each channel is then divided by.
    pub scale: [f32; 3],
}

/// Which part of a picture the model sees.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Geometry {
    /// The central square whose side is `fraction` of the shorter side (0 < fraction ≤ 1).
    CenterCrop {
        /// Share of the shorter side.
        fraction: f32,
    },
    /// The whole picture, its aspect ratio given up.
    Squash,
}

/// Interpolation, in the names of the field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResizeFilter {
    /// Triangle filter.
    Bilinear,
    /// Catmull-Rom cubic (a = −0.5), which Pillow calls bicubic.
    CatmullRom,
    /// Lanczos with three lobes.
    Lanczos3,
}

/// The order of the three colour channels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

impl Preprocess {
    /// The largest input side we accept from a file, in pixels: more is a mistake or an attack.
    pub const MAX_SIZE: u32 = 2048;

    /// Whether the numbers can be computed with.
    pub fn validate(&self) -> Result<(), String> {
        if self.size == 0 || self.size > Self::MAX_SIZE {
            return Err(format!("`size` is {}, 1 to {} is allowed", self.size, Self::MAX_SIZE));
        }
        if let Geometry::CenterCrop { fraction } = self.geometry
            && !(fraction > 0.0 && fraction <= 1.0)
        {
            return Err(format!("`fraction` is {fraction}, more than 0 and at most 1 is allowed"));
        }
        if self.mean.iter().any(|mean| !mean.is_finite()) {
            return Err("`mean` holds a number that is not finite".into());
        }
        if self.scale.iter().any(|scale| !scale.is_normal()) {
            return Err("`scale` holds a number that cannot be divided by".into());
        }
        Ok(())
    }
}
