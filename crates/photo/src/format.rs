//! The type of a file by its first bytes; its name says nothing.

use mynah_contracts::ImageFormat;

/// The image type whose signature `bytes` begin with.
///
/// `None` for anything else, also for image types we do not read (TIFF, AVIF, HEIC, JPEG XL).
pub fn sniff(bytes: &[u8]) -> Option<ImageFormat> {
    match bytes {
        [0xFF, 0xD8, 0xFF, ..] => Some(ImageFormat::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(ImageFormat::Png),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(ImageFormat::Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(ImageFormat::Webp),
        // Two letters are no signature. The four reserved bytes are 0 in every bitmap, and the header that
        // follows the file header states its own length: 12, 40 to 124.
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, _, _, _, _, 12 | 40..=124, 0, 0, 0, ..] => {
            Some(ImageFormat::Bmp)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_decide() {
        assert_eq!(sniff(b"\xFF\xD8\xFF\xE0rest"), Some(ImageFormat::Jpeg));
        assert_eq!(sniff(b"\x89PNG\r\n\x1a\n"), Some(ImageFormat::Png));
        assert_eq!(sniff(b"GIF89a"), Some(ImageFormat::Gif));
        assert_eq!(sniff(b"RIFF\x10\0\0\0WEBPVP8 "), Some(ImageFormat::Webp));
        for other in
            [&b""[..], b"BM", b"BM is how this text begins, no bitmap", b"RIFF\x10\0\0\0WAVE", b"GIF90a"]
        {
            assert_eq!(sniff(other), None, "{other:?}");
        }
    }
}
