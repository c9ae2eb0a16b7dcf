//! A canvas of pixels with rectangles and bitmap text: no font files, the same bytes on every machine.

use std::borrow::Cow;

use font8x8::{
    BASIC_FONTS, BOX_FONTS, GREEK_FONTS, HIRAGANA_FONTS, LATIN_FONTS, MISC_FONTS, UnicodeFonts as _,
};

/// Red, green, blue.
pub(super) type Colour = [u8; 3];

/// The side of a glyph in pixels, before scaling.
pub(super) const GLYPH: usize = 8;

/// RGB pixels, row by row.
pub(super) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

/// Which way text runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From left to right.
    Right,
    /// From bottom to top, the letters lying on their backs.
    Up,
}

impl Canvas {
    /// A canvas of one colour.
    pub(super) fn new(width: usize, height: usize, colour: Colour) -> Self {
        Self { width, height, pixels: colour.repeat(width * height) }
    }

    /// Fills a rectangle; what lies outside the canvas is cut off.
    pub(super) fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, colour: Colour) {
        let right = x.saturating_add(width).min(self.width);
        let bottom = y.saturating_add(height).min(self.height);
        for row in y..bottom {
            let row = row * self.width;
            if let Some(span) = self.pixels.get_mut((row + x) * 3..(row + right) * 3) {
                span.as_chunks_mut::<3>().0.fill(colour);
            }
        }
    }

    /// Writes text whose first letter's box begins at `(x, y)`: its upper left corner when running right, its
    /// lower left corner when running up. Each glyph pixel becomes `scale` × `scale` pixels.
    pub(super) fn text(
        &mut self,
        (x, y): (usize, usize),
        text: &str,
        scale: usize,
        direction: Direction,
        colour: Colour,
    ) {
        for (place, c) in text.chars().enumerate() {
            let start = place * GLYPH;
            for (row, bits) in glyph(c).into_iter().enumerate() {
                for column in (0..GLYPH).filter(|column| bits >> column & 1 == 1) {
                    let along = (start + column) * scale;
                    let (left, top) = match direction {
                        Direction::Right => (x + along, y + row * scale),
                        Direction::Up => match y.checked_sub(along + scale) {
                            Some(top) => (x + row * scale, top),
                            None => continue,
                        },
                    };
                    self.fill(left, top, scale, scale, colour);
                }
            }
        }
    }

    /// Width, height and the pixels.
    pub(super) fn into_parts(self) -> (usize, usize, Vec<u8>) {
        (self.width, self.height, self.pixels)
    }
}

/// How long a text is, in pixels.
pub(super) fn length(text: &str, scale: usize) -> usize {
    text.chars().count() * GLYPH * scale
}

/// The text, or its beginning with an ellipsis where it has more than `chars` characters.
pub(super) fn fit(text: &str, chars: usize) -> Cow<'_, str> {
    if text.chars().count() <= chars {
        return text.into();
    }
    let mut short: String = text.chars().take(chars.saturating_sub(1)).collect();
    short.truncate(short.trim_end().len());
    short.push('…');
    short.into()
}

/// One byte per row from the top; the lowest bit is the leftmost pixel. What the font lacks is a question mark.
fn glyph(c: char) -> [u8; GLYPH] {
    /// Three dots on the base line.
    const ELLIPSIS: [u8; GLYPH] = [0, 0, 0, 0, 0, 0, 0b0100_1001, 0];
    const QUESTION_MARK: [u8; GLYPH] = [0x1E, 0x33, 0x30, 0x18, 0x0C, 0x00, 0x0C, 0x00];
    match c {
        '…' => ELLIPSIS,
        c if c.is_whitespace() => [0; GLYPH],
        c => BASIC_FONTS
            .get(c)
            .or_else(|| LATIN_FONTS.get(c))
            .or_else(|| GREEK_FONTS.get(c))
            .or_else(|| HIRAGANA_FONTS.get(c))
            .or_else(|| BOX_FONTS.get(c))
            .or_else(|| MISC_FONTS.get(c))
            .unwrap_or(QUESTION_MARK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str, direction: Direction) -> Vec<String> {
        let mut canvas = Canvas::new(16, 16, [0; 3]);
        canvas.text((0, if direction == Direction::Up { 16 } else { 0 }), text, 1, direction, [255; 3]);
        let (width, _, pixels) = canvas.into_parts();
        pixels
            .chunks(3 * width)
            .map(|row| row.chunks(3).map(|pixel| if pixel[0] == 0 { '.' } else { '#' }).collect())
            .collect()
    }

    #[test]
    fn letters_stand_and_lie_as_they_should() {
        let right = drawn("L", Direction::Right);
        let up = drawn("L", Direction::Up);
        assert_eq!(right[0], "####............");
        for (y, row) in right.iter().enumerate() {
            for (x, pixel) in row.chars().enumerate() {
                // A quarter turn against the clock: right becomes up.
                assert_eq!(up[15 - x].chars().nth(y), Some(pixel), "({x}, {y})");
            }
        }
    }

    #[test]
    fn what_the_font_lacks_is_a_question_mark() {
        assert_eq!(glyph('犬'), glyph('?'));
        assert_eq!(glyph('\u{FFFD}'), glyph('?'));
        for covered in ['A', 'Ü', 'ß', 'λ', 'ひ', '…'] {
            assert_ne!(glyph(covered), glyph('?'), "{covered}");
        }
    }

    #[test]
    fn nothing_is_drawn_outside() {
        let mut canvas = Canvas::new(4, 4, [0; 3]);
        canvas.fill(3, 3, usize::MAX, usize::MAX, [1; 3]);
        canvas.fill(9, 9, 2, 2, [1; 3]);
        canvas.text((2, 3), "far too long", 2, Direction::Up, [1; 3]);
        let (_, _, pixels) = canvas.into_parts();
        assert_eq!(pixels.len(), 48);
        assert_eq!(pixels[45..], [1, 1, 1]);
    }

    #[test]
    fn long_text_ends_in_an_ellipsis() {
        assert_eq!(fit("red apple", 9), "red apple");
        assert_eq!(fit("red apple", 5), "red…");
        assert_eq!(fit("Ünïcödé", 3), "Ün…");
    }
}
