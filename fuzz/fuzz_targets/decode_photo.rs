//! Any bytes as a photo: decoding ends in a picture within its limits or in an error.
//!
//! Seeds: `cargo +nightly fuzz run decode_photo crates/photo/tests/fixtures`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mynah_photo::{Likeness, Limits, decode, thumbnail};

fuzz_target!(|bytes: &[u8]| {
    // Small enough that memory is no matter: what is looked for here is panics and endless work.
    let limits = Limits { max_pixels: 1_000_000, ..Limits::default() };
    match decode(bytes, &limits) {
        Ok(decoded) => {
            let image = decoded.image;
            assert!(image.width().min(image.height()) >= limits.min_side);
            assert!(u64::from(image.width()) * u64::from(image.height()) <= limits.max_pixels);
            let small = thumbnail(&image, 96);
            assert!(small.width().max(small.height()) <= 96);
            assert_eq!(Likeness::of(&image).distance(&Likeness::of(&image)), 0);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
