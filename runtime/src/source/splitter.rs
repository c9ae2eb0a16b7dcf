//! A stream of bytes to frames: JPEG after JPEG, and YUV4MPEG2. Pure; bytes go in as they come.

use std::collections::VecDeque;

use mynah_photo::DecodeError;

use super::raw_frame::{MAX_FRAME_BYTES, RawFrame};
use super::yuv::{Subsampling, planes_to_rgb};

/// The longest line of a YUV4MPEG2 stream.
const MAX_LINE: usize = 4096;

/// Cuts a stream into frames.
pub(super) trait Splitter: Send {
    /// Takes the next bytes.
    fn feed(&mut self, bytes: &[u8]);

    /// The next whole frame among the bytes fed, or what is wrong with it.
    fn next(&mut self) -> Option<Result<RawFrame, DecodeError>>;

    /// Whether part of a frame waits for its rest.
    fn is_within_a_frame(&self) -> bool;
}

/// JPEG after JPEG: recordings, and `multipart/x-mixed-replace`, whose part headers it passes over.
///
/// The pictures' own structure decides where they begin and end, so wrong lengths, odd boundaries and parts that
/// were cut short do no harm but to their own frame.
#[derive(Default)]
pub(super) struct JpegSplitter {
    /// From the start of a picture on, or what may become one.
    bytes: Vec<u8>,
    /// How far the structure has been followed.
    at: usize,
    /// Whether `at` stands in coded pixels.
    coded: bool,
    /// Pictures that were cut short by the start of another.
    cut: usize,
}

impl JpegSplitter {
    /// Drops what stands before a picture's start.
    fn seek_start(&mut self) -> bool {
        if self.bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
            return true;
        }
        let start = self.bytes.windows(3).position(|bytes| bytes == [0xFF, 0xD8, 0xFF]);
        // The last two bytes may be the beginning of a start.
        let keep = start.unwrap_or(self.bytes.len().saturating_sub(2));
        self.bytes.drain(..keep);
        (self.at, self.coded) = (2, false);
        start.is_some()
    }

    /// Starts over from `at`, where another picture begins.
    fn restart(&mut self) {
        self.bytes.drain(..self.at);
        (self.at, self.coded) = (2, false);
        self.cut += 1;
    }
}

impl Splitter for JpegSplitter {
    fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Option<Result<RawFrame, DecodeError>> {
        loop {
            if self.cut > 0 {
                self.cut -= 1;
                let what = "another begins before it ends".into();
                return Some(Err(DecodeError::Damaged { format: "JPEG", what }));
            }
            if !self.seek_start() {
                return None;
            }
            if self.bytes.len() > MAX_FRAME_BYTES {
                let bytes = self.bytes.len() as u64;
                self.bytes.clear();
                (self.at, self.coded) = (2, false);
                return Some(Err(DecodeError::TooManyBytes { bytes, max: MAX_FRAME_BYTES as u64 }));
            }
            if self.at < 2 {
                self.at = 2;
            }
            let rest = self.bytes.get(self.at..)?;
            if self.coded {
                let Some(step) = rest.iter().position(|&byte| byte == 0xFF) else {
                    self.at = self.bytes.len();
                    return None;
                };
                let Some(&marker) = rest.get(step + 1) else {
                    self.at += step;
                    return None;
                };
                // Stuffed zeros, restart marks and fill bytes belong to the pixels.
                if matches!(marker, 0x00 | 0xD0..=0xD7) {
                    self.at += step + 2;
                    continue;
                }
                self.at += step;
                if marker == 0xFF {
                    self.at += 1;
                    continue;
                }
                self.coded = false;
                continue;
            }
            match *rest {
                [0xFF, 0xFF, ..] => self.at += 1,
                [0xFF, 0xD9, ..] => {
                    let frame = self.bytes.drain(..self.at + 2).collect();
                    (self.at, self.coded) = (2, false);
                    return Some(Ok(RawFrame::Jpeg(frame)));
                }
                [0xFF, 0xD8, ..] => self.restart(),
                [0xFF, 0x01 | 0xD0..=0xD7, ..] => self.at += 2,
                [0xFF, marker, high, low, ..] => {
                    self.at += 2 + usize::from(u16::from_be_bytes([high, low]));
                    self.coded = marker == 0xDA;
                }
                [0xFF, ..] | [] => return None,
                // No marker where one must stand: pass over this start and look for the next.
                _ => {
                    self.bytes.drain(..2);
                    self.at = 2;
                    self.cut += 1;
                }
            }
        }
    }

    fn is_within_a_frame(&self) -> bool {
        self.bytes.starts_with(&[0xFF, 0xD8, 0xFF])
    }
}

/// YUV4MPEG2, as `ffmpeg -f yuv4mpegpipe` and mjpegtools write it: 8 bits, 4:2:0, 4:2:2, 4:4:4 or grey.
#[derive(Default)]
pub(super) struct Y4mSplitter {
    bytes: VecDeque<u8>,
    header: Option<Header>,
    /// Whether the next bytes are a frame's pixels.
    in_frame: bool,
    /// Nothing can be read after a line that is not of the form.
    broken: bool,
}

#[derive(Clone, Copy)]
struct Header {
    width: u32,
    height: u32,
    sampling: Subsampling,
    frame_bytes: usize,
}

impl Y4mSplitter {
    /// Takes a line off the front; `None` = it is not whole yet.
    fn line(&mut self) -> Option<Result<String, DecodeError>> {
        let Some(end) = self.bytes.iter().take(MAX_LINE).position(|&byte| byte == b'\n') else {
            return (self.bytes.len() >= MAX_LINE).then(|| Err(damaged("a line of its header does not end")));
        };
        let line: Vec<u8> = self.bytes.drain(..=end).take(end).collect();
        Some(String::from_utf8(line).map_err(|_| damaged("its header is not text")))
    }

    fn step(&mut self) -> Option<Result<RawFrame, DecodeError>> {
        loop {
            let Some(header) = self.header else {
                match self.line()?.and_then(|line| Header::parse(&line)) {
                    Ok(header) => self.header = Some(header),
                    Err(error) => return Some(Err(error)),
                }
                continue;
            };
            if !self.in_frame {
                match self.line()? {
                    Ok(line) if line == "FRAME" || line.starts_with("FRAME ") => self.in_frame = true,
                    Ok(_) => return Some(Err(damaged("a frame does not begin with `FRAME`"))),
                    Err(error) => return Some(Err(error)),
                }
            }
            if self.bytes.len() < header.frame_bytes {
                return None;
            }
            self.in_frame = false;
            let bytes: Vec<u8> = self.bytes.drain(..header.frame_bytes).collect();
            let image = planes_to_rgb(header.width, header.height, header.sampling, &bytes);
            return Some(image.map(RawFrame::Rgb).ok_or_else(|| damaged("its frames have no pixels")));
        }
    }
}

impl Splitter for Y4mSplitter {
    fn feed(&mut self, bytes: &[u8]) {
        if !self.broken {
            self.bytes.extend(bytes);
        }
    }

    fn next(&mut self) -> Option<Result<RawFrame, DecodeError>> {
        if self.broken {
            return None;
        }
        let step = self.step();
        // Without its line there is no telling where the next frame begins.
        self.broken = matches!(step, Some(Err(_)));
        step
    }

    fn is_within_a_frame(&self) -> bool {
        !self.broken && (self.in_frame || !self.bytes.is_empty())
    }
}

impl Header {
    fn parse(line: &str) -> Result<Self, DecodeError> {
        let mut words = line.split(' ');
        if words.next() != Some("YUV4MPEG2") {
            return Err(damaged("it does not begin with `YUV4MPEG2`"));
        }
        let (mut width, mut height, mut sampling) = (0_u32, 0_u32, Subsampling::Two);
        for word in words.filter(|word| !word.is_empty()) {
            let (tag, value) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
            let side = || value.parse().map_err(|_| damaged("its size is not a number"));
            match tag {
                "W" => width = side()?,
                "H" => height = side()?,
                "C" => {
                    sampling = match value {
                        "420" | "420jpeg" | "420mpeg2" | "420paldv" => Subsampling::Two,
                        "422" => Subsampling::Wide,
                        "444" => Subsampling::Full,
                        "mono" => Subsampling::Mono,
                        _ => {
                            let what = format!("the colour space `{}`", value.escape_debug());
                            return Err(DecodeError::Unsupported { format: FORMAT, what });
                        }
                    }
                }
                // Rate, interlacing, aspect and comments change no pixel.
                _ => {}
            }
        }
        if width == 0 || height == 0 {
            return Err(damaged("its header states no size"));
        }
        let frame_bytes = sampling
            .frame_bytes(width as usize, height as usize)
            .filter(|&bytes| bytes <= MAX_FRAME_BYTES)
            .ok_or(DecodeError::TooManyPixels { width, height, max: MAX_FRAME_BYTES as u64 })?;
        Ok(Self { width, height, sampling, frame_bytes })
    }
}

const FORMAT: &str = "YUV4MPEG2";

fn damaged(what: &str) -> DecodeError {
    DecodeError::Damaged { format: FORMAT, what: what.into() }
}

#[cfg(test)]
mod tests {
    use mynah_testkit::{GREEN, RED, solid_colour_jpeg};
    use proptest::prelude::*;

    use super::*;

    /// Feeds in pieces of `size` bytes; frames as their length, damaged ones as 0.
    fn split(splitter: &mut dyn Splitter, stream: &[u8], size: usize) -> Vec<usize> {
        let mut frames = Vec::new();
        for piece in stream.chunks(size.max(1)) {
            splitter.feed(piece);
            while let Some(frame) = splitter.next() {
                frames.push(frame.map_or(0, |frame| frame.bytes().len()));
            }
        }
        frames
    }

    #[test]
    fn parts_of_a_web_stream_are_frames_whatever_their_headers_say() {
        let (red, green) = (solid_colour_jpeg(RED, 1), solid_colour_jpeg(GREEN, 2));
        let part = |jpeg: &[u8], header: &str| [header.as_bytes(), jpeg].concat();
        let stream = [
            part(&red, "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 5\r\n\r\n"),
            part(&green, "\r\n--frame\r\n\r\n"),
            part(&red[..red.len() / 2], "\r\n--frame\r\n\r\n"),
            part(&green, "\r\n--frame\r\n\r\n"),
            b"\r\n--frame--\r\n".to_vec(),
        ]
        .concat();
        for size in [1, 7, 1000, stream.len()] {
            let mut splitter = JpegSplitter::default();
            let expected = [red.len(), green.len(), 0, green.len()];
            assert_eq!(split(&mut splitter, &stream, size), expected, "in pieces of {size}");
            assert!(!splitter.is_within_a_frame());
        }
    }

    #[test]
    fn a_thumbnail_in_a_header_does_not_end_its_picture() {
        let jpeg = solid_colour_jpeg(RED, 1);
        let mut with_thumbnail = jpeg[..2].to_vec();
        with_thumbnail.extend([0xFF, 0xE1, 0, 8, 0xFF, 0xD8, 0xFF, 0xD9, 0, 0]);
        with_thumbnail.extend(&jpeg[2..]);
        assert_eq!(split(&mut JpegSplitter::default(), &with_thumbnail, 64), [with_thumbnail.len()]);
    }

    #[test]
    fn yuv4mpeg_frames_are_pictures() {
        let stream = |colour: &str, bytes: usize| {
            let mut stream = format!("YUV4MPEG2 W4 H2 F30:1 Ip A1:1 C{colour} Xnote\n").into_bytes();
            for _ in 0..3 {
                stream.extend(b"FRAME Ixyz\n");
                stream.extend(std::iter::repeat_n(128, bytes));
            }
            stream
        };
        for (colour, bytes) in [("420jpeg", 12), ("422", 16), ("444", 24), ("mono", 8)] {
            for size in [1, 5, 4096] {
                assert_eq!(split(&mut Y4mSplitter::default(), &stream(colour, bytes), size), [24; 3]);
            }
        }
    }

    #[test]
    fn what_is_no_such_stream_is_told_once() {
        for (text, says) in [
            ("RIFF....\n", "does not begin with `YUV4MPEG2`"),
            ("YUV4MPEG2 W4\n", "states no size"),
            ("YUV4MPEG2 W4 Hx\n", "not a number"),
            ("YUV4MPEG2 W4 H2 C420p10\n", "colour space `420p10`"),
            ("YUV4MPEG2 W99999 H99999\n", "99999 × 99999"),
            ("YUV4MPEG2 W4 H2\nframe\n", "does not begin with `FRAME`"),
        ] {
            let mut splitter = Y4mSplitter::default();
            splitter.feed(text.as_bytes());
            let error = splitter.next().unwrap().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            splitter.feed(b"FRAME\n");
            assert!(splitter.next().is_none());
        }
    }

    proptest! {
        #[test]
        fn splitting_is_total_and_pieces_do_not_matter(
            bytes in prop::collection::vec(prop_oneof![Just(0xFF_u8), Just(0xD8), Just(0xD9), Just(0xDA), 0_u8..6], 0..200),
            size in 1_usize..40,
        ) {
            let whole = split(&mut JpegSplitter::default(), &bytes, bytes.len().max(1));
            prop_assert_eq!(split(&mut JpegSplitter::default(), &bytes, size), whole);
            split(&mut Y4mSplitter::default(), &bytes, size);
        }
    }
}
