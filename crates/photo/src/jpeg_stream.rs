//! The structure of a JPEG file, read before its pixels: sides, orientation, colour marks, and whether it ends
//! where it should (ITU-T T.81, Annex B).
//!
//! What comes out is a cleaned stream for the pixel decoder: only the segments pixels depend on, nothing
//! between them, nothing after the end. That lets the decoder run in strict mode, which it would otherwise
//! leave half the world's cameras out with.

use image::metadata::Orientation;

/// A JPEG file whose structure holds.
pub(crate) struct JpegStream {
    /// SOI, tables, frame, scans, EOI.
    pub(crate) bytes: Vec<u8>,
    /// Width in pixels, as stored.
    pub(crate) width: u32,
    /// Height in pixels, as stored.
    pub(crate) height: u32,
    /// 1 grey, 3 colour, 4 print.
    pub(crate) components: u8,
    /// An Adobe segment stands in it: print colours are then stored inverted.
    pub(crate) adobe: bool,
    /// How the picture is to be turned.
    pub(crate) orientation: Orientation,
}

/// What is wrong with the structure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    Damaged(&'static str),
    Unsupported(&'static str),
}

struct Frame {
    width: u32,
    height: u32,
    components: u8,
    progressive: bool,
}

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const DHT: u8 = 0xC4;
const EARLY_END: Flaw = Flaw::Damaged("it ends before its end marker");

/// Reads the structure from SOI to EOI.
pub(crate) fn read(file: &[u8]) -> Result<JpegStream, Flaw> {
    let mut rest = file.strip_prefix(&[0xFF, SOI]).ok_or(Flaw::Damaged("it has no start marker"))?;
    let mut bytes = Vec::with_capacity(file.len() + STANDARD_TABLES_LEN + GUARD.len() + 4);
    bytes.extend([0xFF, SOI]);
    let mut frame: Option<Frame> = None;
    let mut orientation = Orientation::NoTransforms;
    let (mut adobe, mut tables, mut scans) = (false, false, 0_u32);
    loop {
        let (marker, after) = next_marker(rest).ok_or(EARLY_END)?;
        rest = after;
        match marker {
            // Stand alone, and mean nothing between segments.
            0x01 | 0xD0..=0xD8 => continue,
            EOI => break,
            _ => {}
        }
        let (segment, after) = segment(rest)?;
        rest = after;
        // The two bytes of length stand before the content.
        let content = segment.get(2..).unwrap_or_default();
        match marker {
            0xC0..=0xC2 if frame.is_some() => return Err(Flaw::Damaged("it has two frame headers")),
            0xC0..=0xC2 => {
                frame = Some(frame_header(content, marker == 0xC2)?);
                push(&mut bytes, marker, segment);
            }
            0xC3 | 0xC7 | 0xCB | 0xCF => return Err(Flaw::Unsupported("lossless coding")),
            0xC5 | 0xC6 | 0xCD | 0xCE => return Err(Flaw::Unsupported("hierarchical coding")),
            0xC9 | 0xCA | 0xCC => return Err(Flaw::Unsupported("arithmetic coding")),
            DHT => {
                tables = true;
                push(&mut bytes, marker, segment);
            }
            // Quantisation tables and the restart interval.
            0xDB | 0xDD => push(&mut bytes, marker, segment),
            0xE1 => {
                if let Some(tiff) = content.strip_prefix(b"Exif\0\0") {
                    orientation = Orientation::from_exif_chunk(tiff).unwrap_or(orientation);
                }
            }
            0xEE if content.starts_with(b"Adobe") => {
                adobe = true;
                push(&mut bytes, marker, segment);
            }
            SOS => {
                let frame = frame.as_ref().ok_or(Flaw::Damaged("its pixels come before its frame header"))?;
                let in_scan = content.first().copied().unwrap_or(0);
                if scans == 0 && !tables {
                    // Frames of motion JPEG leave the standard's tables out.
                    bytes.extend(standard_tables());
                }
                if scans > 0 && !frame.progressive && in_scan == frame.components {
                    return Err(Flaw::Damaged("it has a second scan of all its pixels"));
                }
                scans += 1;
                push(&mut bytes, marker, segment);
                let (coded, after) = rest.split_at(coded_len(rest).ok_or(EARLY_END)?);
                bytes.extend_from_slice(coded);
                rest = after;
            }
            // Comments, thumbnails, profiles: no pixel depends on them.
            _ => {}
        }
    }
    let frame = frame.ok_or(Flaw::Damaged("it has no frame header"))?;
    if scans == 0 {
        return Err(Flaw::Damaged("it has no pixels"));
    }
    if !frame.progressive || scans > 1 {
        bytes.extend(GUARD);
    }
    bytes.extend([0xFF, EOI]);
    Ok(JpegStream {
        bytes,
        width: frame.width,
        height: frame.height,
        components: frame.components,
        adobe,
        orientation,
    })
}

/// 128 one-bits, put after the last scan. No Huffman code consists of ones only (T.81, C.2), so a decoder
/// that needs more data than the scan holds meets an error instead of inventing grey; one that has all its
/// pixels never looks at them.
const GUARD: [u8; 32] = {
    let mut guard = [0xFF; 32];
    let mut i = 1;
    while i < guard.len() {
        guard[i] = 0;
        i += 2;
    }
    guard
};

fn push(out: &mut Vec<u8>, marker: u8, segment: &[u8]) {
    out.extend([0xFF, marker]);
    out.extend_from_slice(segment);
}

/// The next marker and what follows it. Fill bytes and stray bytes before it are passed over, as all readers do.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let mut rest = bytes;
    loop {
        let at = rest.iter().position(|&byte| byte == 0xFF)?;
        rest = rest.get(at + 1..)?;
        match rest.split_first()? {
            (0x00, after) => rest = after,
            (0xFF, _) => {}
            (&marker, after) => return Some((marker, after)),
        }
    }
}

/// A segment with its two bytes of length, and what follows it.
fn segment(bytes: &[u8]) -> Result<(&[u8], &[u8]), Flaw> {
    let (&[high, low], _) = bytes.split_first_chunk().ok_or(EARLY_END)?;
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len < 2 {
        return Err(Flaw::Damaged("a segment states an impossible length"));
    }
    bytes.split_at_checked(len).ok_or(EARLY_END)
}

/// T.81, B.2.2: precision, lines, samples per line, components.
fn frame_header(content: &[u8], progressive: bool) -> Result<Frame, Flaw> {
    let (&[precision, h1, h0, w1, w0, components], specs) =
        content.split_first_chunk().ok_or(Flaw::Damaged("its frame header is cut short"))?;
    if precision != 8 {
        return Err(Flaw::Unsupported("more than 8 bits a sample"));
    }
    if !matches!(components, 1 | 3 | 4) {
        return Err(Flaw::Unsupported("an unusual number of colour components"));
    }
    if specs.len() < 3 * usize::from(components) {
        return Err(Flaw::Damaged("its frame header is cut short"));
    }
    let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
    if width == 0 || height == 0 {
        return Err(Flaw::Unsupported("a frame header without its sides"));
    }
    Ok(Frame { width: width.into(), height: height.into(), components, progressive })
}

/// The length of entropy-coded data: up to the first marker that is neither stuffing nor a restart.
fn coded_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xFF)?;
        match bytes.get(at + 1)? {
            0x00 | 0xD0..=0xD7 => at += 2,
            0xFF => at += 1,
            _ => return Some(at),
        }
    }
}

const STANDARD_TABLES_LEN: usize = 420;

/// The typical Huffman tables of T.81, K.3.3, as one segment: luminance DC, AC, chrominance DC, AC.
fn standard_tables() -> Vec<u8> {
    let mut out = Vec::with_capacity(STANDARD_TABLES_LEN);
    out.extend([0xFF, DHT, 0x01, 0xA2]);
    for (class, counts, values) in [
        (0x00, &DC_LUMA_COUNTS, &DC_VALUES[..]),
        (0x10, &AC_LUMA_COUNTS, &AC_LUMA_VALUES[..]),
        (0x01, &DC_CHROMA_COUNTS, &DC_VALUES[..]),
        (0x11, &AC_CHROMA_COUNTS, &AC_CHROMA_VALUES[..]),
    ] {
        out.push(class);
        out.extend(counts);
        out.extend(values);
    }
    out
}

const DC_VALUES: [u8; 12] = [0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B];
const DC_LUMA_COUNTS: [u8; 16] =
    [0x00, 0x01, 0x05, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00];
const DC_CHROMA_COUNTS: [u8; 16] =
    [0x00, 0x03, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00];
const AC_LUMA_COUNTS: [u8; 16] =
    [0x00, 0x02, 0x01, 0x03, 0x03, 0x02, 0x04, 0x03, 0x05, 0x05, 0x04, 0x04, 0x00, 0x00, 0x01, 0x7D];
const AC_LUMA_VALUES: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22,
    0x71, 0x14, 0x32, 0x81, 0x91, 0xA1, 0x08, 0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52, 0xD1, 0xF0, 0x24, 0x33,
    0x62, 0x72, 0x82, 0x09, 0x0A, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x34,
    0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55,
    0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76,
    0x77, 0x78, 0x79, 0x7A, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5,
    0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4,
    0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE1, 0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF1,
    0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA,
];
const AC_CHROMA_COUNTS: [u8; 16] =
    [0x00, 0x02, 0x01, 0x02, 0x04, 0x04, 0x03, 0x04, 0x07, 0x05, 0x04, 0x04, 0x00, 0x01, 0x02, 0x77];
const AC_CHROMA_VALUES: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13,
    0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33, 0x52, 0xF0, 0x15, 0x62,
    0x72, 0xD1, 0x0A, 0x16, 0x24, 0x34, 0xE1, 0x25, 0xF1, 0x17, 0x18, 0x19, 0x1A, 0x26, 0x27, 0x28, 0x29,
    0x2A, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54,
    0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75,
    0x76, 0x77, 0x78, 0x79, 0x7A, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94,
    0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3,
    0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2,
    0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA,
    0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA,
];
