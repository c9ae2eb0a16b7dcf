//! What the service takes: limits looked at before anything is sent, and photos in a form that it takes.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{ExtendedColorType, ImageDecoder as _, ImageReader};
use mynah_contracts::{Dataset, ImageFormat, Photo};
use mynah_photo::file::read_verified;
use mynah_photo::{Limits, RgbImage, decode, encode_jpeg, thumbnail};

use super::VisionError;

// The limits of the tier S0, from the service's documentation of 2025-01-22. Those of F0 are lower; there the
// service refuses, with a code that has its own hint.

/// Labels of a project.
const LABELS: usize = 500;
/// Images of a project.
const IMAGES: usize = 100_000;
/// Images of a label that a training needs.
pub(super) const LEAST_IMAGES: usize = 5;
/// Bytes of an image.
const IMAGE_BYTES: u64 = 6_000_000;
/// The longest side, in pixels.
const SIDE: u32 = 10_240;
/// The largest quotient of the sides.
const ASPECT: u32 = 25;

/// The longest side of a photo that is written anew because it is too large. The service itself looks at far
/// fewer pixels.
const SHRUNK_SIDE: u32 = 2048;

/// How good JPEGs are that we write.
const QUALITY: u8 = 92;

/// The photos that the service is to have, in the dataset's order.
///
/// # Errors
/// What the service would refuse, told before anything is sent.
pub(super) fn to_send(dataset: &Dataset, held_out: Option<u8>) -> Result<Vec<&Photo>, VisionError> {
    if !(2..=LABELS).contains(&dataset.labels.len()) {
        return Err(VisionError::Labels { labels: dataset.labels.len(), most: LABELS });
    }
    let photos: Vec<&Photo> = dataset.photos.iter().filter(|photo| Some(photo.fold) != held_out).collect();
    if photos.len() > IMAGES {
        return Err(VisionError::Photos { photos: photos.len(), most: IMAGES });
    }
    for count in &dataset.labels {
        let sent = photos.iter().filter(|photo| photo.label == count.label).count();
        if sent < LEAST_IMAGES {
            return Err(VisionError::FewPhotos {
                label: count.label.clone(),
                photos: sent,
                least: LEAST_IMAGES,
                held_out: count.photos as usize - sent,
            });
        }
    }
    for photo in &photos {
        let (long, short) = (photo.width.max(photo.height), photo.width.min(photo.height));
        if long > ASPECT.saturating_mul(short) {
            return Err(VisionError::Aspect {
                photo: photo.file.to_string(),
                width: photo.width,
                height: photo.height,
                most: ASPECT,
            });
        }
    }
    Ok(photos)
}

/// The photo's bytes in a form that the service takes. A file that it takes as it is goes as it is; WebP, files and
/// sides beyond its limits, CMYK and pictures that lie on their side are written anew, upright.
pub(super) fn prepare(photo: &Photo, folder: &Path) -> Result<Vec<u8>, VisionError> {
    let bytes = read_verified(&photo.file.below(folder), &photo.sha256)?;
    let small = bytes.len() as u64 <= IMAGE_BYTES && photo.width.max(photo.height) <= SIDE;
    if small && photo.format != ImageFormat::Webp && is_plain(&bytes) {
        return Ok(bytes);
    }
    let name = || photo.file.to_string();
    let decoded = decode(&bytes, &Limits::default())
        .map_err(|source| VisionError::Decode { photo: name(), source })?
        .image;
    let write = |image: &RgbImage| {
        encode_jpeg(image, QUALITY).map_err(|source| VisionError::Encode { photo: name(), source })
    };
    if small {
        let written = write(&decoded)?;
        if written.len() as u64 <= IMAGE_BYTES {
            return Ok(written);
        }
    }
    write(&thumbnail(&decoded, SHRUNK_SIDE))
}

/// Whether every reader sees the same picture in these bytes: upright without being turned, and in RGB or grey.
fn is_plain(bytes: &[u8]) -> bool {
    let Ok(reader) = ImageReader::new(Cursor::new(bytes)).with_guessed_format() else { return false };
    let Ok(mut decoder) = reader.into_decoder() else { return false };
    decoder.original_color_type() != ExtendedColorType::Cmyk8
        && matches!(decoder.orientation(), Ok(Orientation::NoTransforms) | Err(_))
}

#[cfg(test)]
mod tests {
    use mynah_contracts::{Label, LabelCount, RelativePath, SchemaVersion, Sha256Digest, Tool};
    use mynah_photo::encode_png;

    use super::*;

    fn picture(width: u32, height: u32) -> RgbImage {
        let pixels = (0..width * height).flat_map(|at| [at as u8, (at >> 8) as u8, 90]).collect();
        RgbImage::new(width, height, pixels).unwrap()
    }

    fn photo(
        folder: &Path,
        name: &str,
        bytes: &[u8],
        (width, height): (u32, u32),
        format: ImageFormat,
    ) -> Photo {
        let file = RelativePath::new(name).unwrap();
        std::fs::write(file.below(folder), bytes).unwrap();
        Photo {
            sha256: Sha256Digest::of(bytes),
            label: "a".parse().unwrap(),
            source: name.into(),
            file,
            format,
            width,
            height,
            bytes: bytes.len() as u64,
            likeness: "0".repeat(64),
            fold: 0,
        }
    }

    #[test]
    fn what_the_service_takes_goes_as_it_is_and_the_rest_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let png = encode_png(&picture(40, 30)).unwrap();
        let plain = photo(folder.path(), "a.png", &png, (40, 30), ImageFormat::Png);
        assert_eq!(prepare(&plain, folder.path()).unwrap(), png);

        let mut webp = Cursor::new(Vec::new());
        image::codecs::webp::WebPEncoder::new_lossless(&mut webp)
            .encode(picture(40, 30).pixels(), 40, 30, ExtendedColorType::Rgb8)
            .unwrap();
        let webp = photo(folder.path(), "a.webp", webp.get_ref(), (40, 30), ImageFormat::Webp);
        let sent = prepare(&webp, folder.path()).unwrap();
        assert_eq!(mynah_photo::sniff(&sent), Some(ImageFormat::Jpeg));

        let wide = encode_png(&picture(10_300, 500)).unwrap();
        let wide = photo(folder.path(), "wide.png", &wide, (10_300, 500), ImageFormat::Png);
        let sent = decode(&prepare(&wide, folder.path()).unwrap(), &Limits::default()).unwrap().image;
        assert!(sent.width() <= SHRUNK_SIDE, "{} × {}", sent.width(), sent.height());
    }

    #[test]
    fn a_photo_on_its_side_is_sent_upright() {
        let folder = tempfile::tempdir().unwrap();
        let mut jpeg = encode_jpeg(&picture(48, 32), 90).unwrap();
        // An EXIF segment with the one entry `Orientation = 6` (turned by a quarter), after the first marker.
        let exif: &[u8] =
            b"\xFF\xE1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        jpeg.splice(2..2, exif.iter().copied());
        let turned = photo(folder.path(), "a.jpg", &jpeg, (32, 48), ImageFormat::Jpeg);
        let sent = prepare(&turned, folder.path()).unwrap();
        assert_ne!(sent, jpeg);
        assert!(is_plain(&sent));
        let sent = decode(&sent, &Limits::default()).unwrap().image;
        assert_eq!((sent.width(), sent.height()), (32, 48));
    }

    fn dataset(photos: &[(&str, u8)]) -> Dataset {
        let folder = tempfile::tempdir().unwrap();
        let mut made: Vec<Photo> = photos
            .iter()
            .enumerate()
            .map(|(number, (label, fold))| Photo {
                label: label.parse::<Label>().unwrap(),
                fold: *fold,
                ..photo(folder.path(), &format!("{number}.png"), &[number as u8], (60, 40), ImageFormat::Png)
            })
            .collect();
        made.sort_by(|a, b| (&a.label, a.sha256).cmp(&(&b.label, b.sha256)));
        let mut names: Vec<Label> = made.iter().map(|photo| photo.label.clone()).collect();
        names.dedup();
        let labels = names
            .into_iter()
            .map(|label| LabelCount {
                photos: made.iter().filter(|photo| photo.label == label).count() as u32,
                label,
            })
            .collect();
        Dataset {
            schema_version: SchemaVersion::CURRENT,
            tool: Tool::current(),
            seed: 1,
            digest: Dataset::content_digest(1, &made),
            labels,
            photos: made,
            skipped: Vec::new(),
            near_duplicates: Vec::new(),
            snapshot: None,
        }
    }

    #[test]
    fn limits_are_told_before_anything_is_sent() {
        let full: Vec<(&str, u8)> =
            ["a", "b"].iter().flat_map(|label| (0..10).map(|n| (*label, n % 5))).collect();
        assert_eq!(to_send(&dataset(&full), Some(0)).unwrap().len(), 16);
        assert_eq!(to_send(&dataset(&full), None).unwrap().len(), 20);

        let few: Vec<(&str, u8)> = full.iter().copied().chain((0..5).map(|n| ("c", n))).collect();
        let error = to_send(&dataset(&few), Some(0)).unwrap_err();
        assert_eq!(error.to_string(), "`c` has 4 photos to train with, Custom Vision needs 5");
        assert!(mynah_contracts::Diagnosis::hint(&error).unwrap().contains("held out"));
        assert_eq!(to_send(&dataset(&few), None).unwrap().len(), 25);

        let mut long = dataset(&full);
        long.photos[3].width = 2000;
        let error = to_send(&long, None).unwrap_err().to_string();
        assert!(error.contains("2000 × 40"), "{error}");
        let one: Vec<(&str, u8)> = (0..10).map(|n| ("a", n % 5)).collect();
        assert!(matches!(to_send(&dataset(&one), None), Err(VisionError::Labels { labels: 1, .. })));
    }
}
