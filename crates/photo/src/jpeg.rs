//! JPEG pixels: baseline and progressive, grey, colour, CMYK and YCCK.

use image::DynamicImage;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::jpeg_stream::{self, Flaw};
use crate::{DecodeError, Limits, RgbImage};

const FORMAT: &str = "JPEG";

/// Decodes a JPEG file, upright.
pub(crate) fn decode(file: &[u8], limits: &Limits) -> Result<RgbImage, DecodeError> {
    let stream = jpeg_stream::read(file).map_err(|flaw| match flaw {
        Flaw::Damaged(what) => damaged(what.into()),
        Flaw::Unsupported(what) => DecodeError::Unsupported { format: FORMAT, what: what.into() },
    })?;
    limits.check_sides(stream.width, stream.height)?;
    // Adobe's programs store ink inverted, and the decoder takes that for granted; without their mark it is
    // as the standard's text has it, and we convert it ourselves.
    let plain_inks = stream.components == 4 && !stream.adobe;
    let space = if plain_inks { ColorSpace::CMYK } else { ColorSpace::RGB };
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(space);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(stream.bytes.as_slice()), options);
    let mut pixels = decoder.decode().map_err(|error| words(&error))?;
    if plain_inks {
        pixels = inks_to_rgb(&pixels);
    }
    let upright = image::RgbImage::from_raw(stream.width, stream.height, pixels).map(|raw| {
        let mut picture = DynamicImage::ImageRgb8(raw);
        picture.apply_orientation(stream.orientation);
        picture.into_rgb8()
    });
    upright
        .and_then(|rgb| RgbImage::new(rgb.width(), rgb.height(), rgb.into_raw()))
        .ok_or_else(|| damaged("its sides and its pixels disagree".into()))
}

/// Ink (0 none, 255 full) to light, without a profile: each colour is what its ink and black let through.
fn inks_to_rgb(inks: &[u8]) -> Vec<u8> {
    inks.as_chunks::<4>()
        .0
        .iter()
        .flat_map(|&[c, m, y, k]| {
            let through = |ink: u8| (u32::from(255 - ink) * u32::from(255 - k) + 127) / 255;
            [through(c) as u8, through(m) as u8, through(y) as u8]
        })
        .collect()
}

fn damaged(what: String) -> DecodeError {
    DecodeError::Damaged { format: FORMAT, what }
}

fn words(error: &DecodeErrors) -> DecodeError {
    match error {
        DecodeErrors::Unsupported(what) => {
            DecodeError::Unsupported { format: FORMAT, what: format!("{what:?}") }
        }
        DecodeErrors::ExhaustedData => damaged("it ends before its pixels do".into()),
        DecodeErrors::FormatStatic(what) => damaged((*what).into()),
        DecodeErrors::Format(what)
        | DecodeErrors::HuffmanDecode(what)
        | DecodeErrors::DqtError(what)
        | DecodeErrors::SosError(what)
        | DecodeErrors::SofError(what)
        | DecodeErrors::MCUError(what) => damaged(what.trim_end().into()),
        other => damaged(format!("{other:?}")),
    }
}
