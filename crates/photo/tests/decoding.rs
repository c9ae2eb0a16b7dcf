//! Real files of every kind we read, made by Pillow (see `fixtures/README.md`), against their known pixels.

#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]

use std::path::Path;

use mynah_contracts::{ImageFormat, SkipReason};
use mynah_photo::{DecodeError, Limits, RgbImage, decode};
use proptest::prelude::*;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

fn picture(name: &str) -> RgbImage {
    decode(&fixture(name), &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}")).image
}

fn pixel(image: &RgbImage, x: u32, y: u32) -> [u8; 3] {
    image.pixels().as_chunks::<3>().0[(y * image.width() + x) as usize]
}

fn assert_close(name: &str, at: (u32, u32), found: [u8; 3], expected: [u8; 3], within: u8) {
    let worst = found.iter().zip(expected).map(|(a, b)| a.abs_diff(b)).max().unwrap();
    assert!(worst <= within, "{name} at {at:?}: {found:?}, expected {expected:?}");
}

const RED: [u8; 3] = [200, 30, 30];
const GREEN: [u8; 3] = [30, 180, 40];
const BLUE: [u8; 3] = [30, 40, 200];
const YELLOW: [u8; 3] = [220, 200, 40];
const SPOT: [u8; 3] = [20, 20, 20];

/// The centres of the four quarters of an upright 48 × 32 scene, and its dark spot.
fn assert_scene(name: &str, within: u8) {
    let image = picture(name);
    assert_eq!((image.width(), image.height()), (48, 32), "{name}");
    for (at, colour) in
        [((16, 11), RED), ((36, 8), GREEN), ((12, 24), BLUE), ((36, 24), YELLOW), ((4, 4), SPOT)]
    {
        assert_close(name, at, pixel(&image, at.0, at.1), colour, within);
    }
}

#[test]
fn every_kind_of_jpeg_has_its_colours() {
    for name in ["baseline.jpg", "progressive.jpg", "restarts.jpg", "subsampled_none.jpg"] {
        assert_scene(name, 12);
    }
    for name in ["cmyk_adobe.jpg", "cmyk_plain.jpg", "ycck.jpg"] {
        assert_scene(name, 16);
    }
}

#[test]
fn lossless_kinds_are_exact() {
    for name in [
        "rgb.png",
        "palette.png",
        "rgb.bmp",
        "palette.bmp",
        "still.gif",
        "animated.gif",
        "lossless.webp",
        "animated.webp",
    ] {
        assert_scene(name, 0);
    }
    assert_scene("lossy.webp", 16);
}

#[test]
fn grey_is_grey_at_8_and_16_bits() {
    for (name, within) in [("grey.jpg", 4), ("grey16.png", 1)] {
        let image = picture(name);
        for (at, [r, g, b]) in [((16, 11), RED), ((36, 8), GREEN), ((12, 24), BLUE), ((36, 24), YELLOW)] {
            let luma = ((299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b)) / 1000) as u8;
            assert_close(name, at, pixel(&image, at.0, at.1), [luma; 3], within);
        }
    }
}

#[test]
fn transparency_is_laid_on_white() {
    for name in ["alpha.png", "alpha.webp"] {
        let image = picture(name);
        assert_eq!(pixel(&image, 0, 16), [255; 3], "{name}: all transparent");
        assert_eq!(pixel(&image, 47, 16), YELLOW, "{name}: opaque");
        // Column 24 has alpha 130 (24 × 255 / 47, cut).
        assert_close(name, (24, 20), pixel(&image, 24, 20), [237, 227, 145], 1);
    }
    let image = picture("palette_alpha.png");
    assert_eq!(pixel(&image, 12, 24), [255; 3]);
    assert_eq!(pixel(&image, 36, 24), YELLOW);
}

#[test]
fn every_orientation_comes_out_as_its_viewer_shows_it() {
    // Where the stored picture's top left quarter (red), top right (green), bottom left (blue) and bottom
    // right (yellow) belong, row by row, for each EXIF value.
    let shown = [
        [RED, GREEN, BLUE, YELLOW],
        [GREEN, RED, YELLOW, BLUE],
        [YELLOW, BLUE, GREEN, RED],
        [BLUE, YELLOW, RED, GREEN],
        [RED, BLUE, GREEN, YELLOW],
        [BLUE, RED, YELLOW, GREEN],
        [YELLOW, GREEN, BLUE, RED],
        [GREEN, YELLOW, RED, BLUE],
    ];
    for (value, quarters) in (1..).zip(shown) {
        let name = format!("orientation_{value}.jpg");
        let image = picture(&name);
        let (w, h) = (image.width(), image.height());
        assert_eq!((w, h), if value <= 4 { (48, 32) } else { (32, 48) }, "{name}");
        let centres = [
            (w / 4 + 2, h / 4 + 2),
            (3 * w / 4 - 2, h / 4 + 2),
            (w / 4 + 2, 3 * h / 4 - 2),
            (3 * w / 4 - 2, 3 * h / 4 - 2),
        ];
        for (at, colour) in centres.into_iter().zip(quarters) {
            assert_close(&name, at, pixel(&image, at.0, at.1), colour, 20);
        }
    }
    assert_eq!(pixel(&picture("orientation_6.png"), 8, 12), BLUE);
}

#[test]
fn the_content_decides_the_type() {
    for (name, format) in [
        ("baseline.jpg", ImageFormat::Jpeg),
        ("rgb.png", ImageFormat::Png),
        ("rgb.bmp", ImageFormat::Bmp),
        ("still.gif", ImageFormat::Gif),
        ("lossy.webp", ImageFormat::Webp),
    ] {
        assert_eq!(decode(&fixture(name), &Limits::default()).unwrap().format, format);
    }
    let error = decode(b"plainly text", &Limits::default()).unwrap_err();
    assert_eq!(error.skip_reason(), SkipReason::NotAnImage);
    assert_eq!(decode(b"", &Limits::default()).unwrap_err().skip_reason(), SkipReason::Empty);
}

#[test]
fn sizes_are_checked_before_pixels_are_made() {
    let error = decode(&fixture("bomb.png"), &Limits::default()).unwrap_err();
    assert!(matches!(error, DecodeError::TooManyPixels { width: 60000, height: 60000, .. }), "{error}");
    // The same claim in the other types' headers, over no pixels at all.
    let mut jpeg = fixture("baseline.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xEA, 0x60, 0xEA, 0x60]);
    let mut gif = fixture("still.gif");
    gif[6..10].copy_from_slice(&[0x60, 0xEA, 0x60, 0xEA]);
    let mut bmp = fixture("rgb.bmp");
    bmp[18..26].copy_from_slice(&[0x60, 0xEA, 0, 0, 0x60, 0xEA, 0, 0]);
    for bytes in [jpeg, gif, bmp] {
        let error = decode(&bytes, &Limits::default()).unwrap_err();
        assert_eq!(error.skip_reason(), SkipReason::TooLarge, "{error}");
    }
    let small = Limits { min_side: 33, ..Limits::default() };
    for name in ["baseline.jpg", "rgb.png", "lossy.webp"] {
        assert_eq!(decode(&fixture(name), &small).unwrap_err().skip_reason(), SkipReason::TooSmall);
    }
    let tight = Limits { max_file_bytes: 100, ..Limits::default() };
    assert_eq!(decode(&fixture("baseline.jpg"), &tight).unwrap_err().skip_reason(), SkipReason::TooLarge);
}

const ALL: [&str; 26] = [
    "alpha.png",
    "alpha.webp",
    "animated.gif",
    "animated.webp",
    "baseline.jpg",
    "cmyk_adobe.jpg",
    "cmyk_plain.jpg",
    "grey.jpg",
    "grey16.png",
    "lossless.webp",
    "lossy.webp",
    "noise.jpg",
    "noise.png",
    "noise.webp",
    "noise_progressive.jpg",
    "orientation_6.jpg",
    "orientation_6.png",
    "palette.bmp",
    "palette.png",
    "palette_alpha.png",
    "progressive.jpg",
    "restarts.jpg",
    "rgb.bmp",
    "rgb.png",
    "still.gif",
    "ycck.jpg",
];

#[test]
fn a_cut_file_is_an_error_or_whole() {
    for name in ALL {
        let (bytes, whole) = (fixture(name), picture(name));
        for cut in 0..bytes.len() {
            if let Ok(decoded) = decode(&bytes[..cut], &Limits::default()) {
                assert!(
                    decoded.image == whole,
                    "{name}: the first {cut} of {} bytes pass as another picture",
                    bytes.len()
                );
            }
        }
    }
}

#[test]
fn a_jpeg_cut_short_and_closed_is_still_found_out() {
    // What a tool that `repairs` files leaves: the scan's data end early, the end marker stands.
    for name in ["noise.jpg", "noise_progressive.jpg", "restarts.jpg", "baseline.jpg"] {
        let bytes = fixture(name);
        let scan = bytes.windows(2).rposition(|pair| pair == [0xFF, 0xDA]).unwrap();
        let len = bytes.len();
        let from = scan + 14 + (len - scan - 14) / 4;
        for cut in (from..len - 8).step_by(7) {
            let mut short = bytes[..cut].to_vec();
            // A cut behind 0xFF would make a marker of the end.
            short.pop_if(|last| *last == 0xFF);
            short.extend([0xFF, 0xD9]);
            let error = decode(&short, &Limits::default()).map(|_| ()).unwrap_err();
            assert_eq!(error.skip_reason(), SkipReason::Corrupt, "{name} cut at {cut}: {error}");
        }
    }
}

#[test]
fn a_jpeg_without_huffman_tables_takes_the_standard_ones() {
    let bytes = fixture("baseline.jpg");
    let mut bare = Vec::new();
    let mut at = 2;
    bare.extend(&bytes[..2]);
    while bytes[at + 1] != 0xDA {
        let len = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]])) + 2;
        if bytes[at + 1] != 0xC4 {
            bare.extend(&bytes[at..at + len]);
        }
        at += len;
    }
    bare.extend(&bytes[at..]);
    assert!(bare.len() + 400 < bytes.len());
    assert_eq!(decode(&bare, &Limits::default()).unwrap().image, picture("baseline.jpg"));
}

#[test]
fn what_follows_the_end_or_stands_between_segments_does_not_matter() {
    let bytes = fixture("baseline.jpg");
    let first_segment = 4 + usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
    let mut padded = bytes[..first_segment].to_vec();
    padded.extend([0, 1, 2, 3, 4, 5, 6, 7, 0xFF, 0xFF]);
    padded.extend(&bytes[first_segment..]);
    padded.extend(b"a gain map, a thumbnail, a note");
    assert_eq!(decode(&padded, &Limits::default()).unwrap().image, picture("baseline.jpg"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn mutated_files_never_panic(
        which in 0..ALL.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = fixture(ALL[which]);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let limits = Limits { max_pixels: 1_000_000, ..Limits::default() };
        if let Ok(decoded) = decode(&bytes, &limits) {
            prop_assert!(decoded.image.width() >= 16 && decoded.image.height() >= 16);
        }
    }
}
