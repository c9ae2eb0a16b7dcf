//! `confusion.png`: the cross-validation's confusion matrix as a picture, legible from 2 labels to 50 and beyond.
//!
//! Colour shows the share of the row: blue where the model was right, orange where it was wrong, always beside
//! the count itself. Its scale is the square root of the share, so that rare mistakes can be told from none.

use std::borrow::Cow;

use mynah_contracts::{Evaluation, Label};
use mynah_photo::{RgbImage, encode_png};

use super::bitmap::{Canvas, Colour, Direction, GLYPH, fit, length};
use super::figures::{basis, percent, photos, share};
use super::{Report, ReportError};

const PAPER: Colour = [255, 255, 255];
const INK: Colour = [28, 31, 35];
const FAINT: Colour = [118, 126, 135];
const PALE: Colour = [160, 167, 175];
const LINE: Colour = [214, 219, 224];
const RIGHT: Colour = [31, 95, 191];
const WRONG: Colour = [200, 80, 10];

/// Space around the picture and between its parts, in pixels.
const GAP: usize = 16;

/// The height of the two lines above the matrix, in pixels.
const HEADING: usize = 4 * GLYPH;

/// Space a cell keeps free beside its count, in pixels.
const COUNT_MARGIN: usize = 6;

/// Labels longer than this many characters are cut.
const LABEL_CHARS: usize = 22;

/// The matrix of very many labels is drawn about this wide, in pixels.
const MANY_WIDTH: usize = 2000;

impl Report<'_> {
    /// `confusion.png`, of the cross-validation.
    ///
    /// # Errors
    /// [`ReportError::TooLarge`] or [`ReportError::Draw`] where there are too many labels for a picture.
    pub fn confusion_png(&self) -> Result<Vec<u8>, ReportError> {
        png(&self.training.cross_validation, &self.training.labels)
    }
}

/// The confusion matrix of `evaluation` as a PNG file.
pub(super) fn png(evaluation: &Evaluation, labels: &[Label]) -> Result<Vec<u8>, ReportError> {
    let (width, height, pixels) = paint(evaluation, labels).into_parts();
    let image = u32::try_from(width)
        .ok()
        .zip(u32::try_from(height).ok())
        .and_then(|(width, height)| RgbImage::new(width, height, pixels))
        .ok_or(ReportError::TooLarge { labels: labels.len() })?;
    encode_png(&image).map_err(ReportError::Draw)
}

fn paint(evaluation: &Evaluation, labels: &[Label]) -> Canvas {
    let labels: Vec<_> = labels.iter().map(|label| fit(label.as_str(), LABEL_CHARS)).collect();
    let most = evaluation.confusion.iter().flatten().max().copied().unwrap_or(0);
    let layout = Layout::of(&labels, most);
    let heading =
        format!("{} of {} right", percent(evaluation.summary.accuracy), photos(evaluation.summary.photos));
    let width = layout.width.max(length(&heading, 2) + 2 * GAP);
    let mut canvas = Canvas::new(width, layout.height, PAPER);

    canvas.text((GAP, GAP), &heading, 2, Direction::Right, INK);
    canvas.text((GAP, GAP + HEADING - GLYPH), &basis(evaluation), 1, Direction::Right, FAINT);
    let (x, y) = layout.origin;
    let size = layout.cell * labels.len();
    let order = if layout.label_scale == 0 { ", in the labels' order" } else { "" };
    let (across, down) = (format!("predicted label{order}"), format!("true label{order}"));
    let centred = |length: usize| size.saturating_sub(length) / 2;
    let title = (x + centred(length(&across, 2)), layout.title_y);
    canvas.text(title, &across, 2, Direction::Right, FAINT);
    let title = (GAP, (y + size).saturating_sub(centred(length(&down, 2))));
    canvas.text(title, &down, 2, Direction::Up, FAINT);

    canvas.fill(x, y, size + 1, size + 1, LINE);
    for (place, label) in labels.iter().enumerate() {
        let scale = layout.label_scale;
        let middle = place * layout.cell + (layout.cell.saturating_sub(GLYPH * scale)) / 2;
        if scale > 0 {
            let start = x.saturating_sub(length(label, scale) + GAP / 2);
            canvas.text((start, y + middle), label, scale, Direction::Right, INK);
            canvas.text((x + middle, y.saturating_sub(GAP / 2)), label, scale, Direction::Up, INK);
        }
    }
    for (row, counts) in evaluation.confusion.iter().enumerate().take(labels.len()) {
        let of = counts.iter().sum();
        for (column, &count) in counts.iter().enumerate().take(labels.len()) {
            let corner = (x + column * layout.cell, y + row * layout.cell);
            draw_cell(&mut canvas, corner, &layout, count, of, row == column);
        }
    }
    draw_legend(&mut canvas, (GAP, y + size + 2 * GAP));
    canvas
}

/// Sizes and places, in pixels.
struct Layout {
    /// A cell's side, its grid line included.
    cell: usize,
    /// How much counts are enlarged; none where there is no room for them.
    count_scale: Option<usize>,
    /// How much labels are enlarged; 0 where there is no room for them.
    label_scale: usize,
    /// The matrix' upper left corner.
    origin: (usize, usize),
    /// The top of the upper axis' title.
    title_y: usize,
    width: usize,
    height: usize,
}

impl Layout {
    /// A layout for these labels and counts up to `most`.
    fn of(labels: &[Cow<'_, str>], most: u32) -> Self {
        let digits = most.to_string();
        let roomy = |base: usize| base.max(length(&digits, 2) + COUNT_MARGIN);
        let cell = match labels.len() {
            0..=8 => roomy(88),
            9..=12 => roomy(76),
            13..=25 => roomy(56),
            26..=50 => roomy(40),
            many => (MANY_WIDTH / many).max(1),
        };
        let count_scale = [3, 2, 1]
            .into_iter()
            .find(|&scale| length(&digits, scale) + COUNT_MARGIN <= cell && scale * GLYPH * 5 / 2 <= cell);
        let label_scale = match cell {
            20.. => 2,
            10..20 => 1,
            _ => 0,
        };
        let longest = labels.iter().map(|label| length(label, label_scale)).max().unwrap_or(0);
        let title = GLYPH * 2;
        let title_y = GAP + HEADING + GAP;
        let beside = longest + if label_scale > 0 { GAP / 2 } else { 0 };
        let origin = (GAP + title + GAP + beside, title_y + title + GAP + beside);
        let size = cell * labels.len();
        let width = (origin.0 + size + GAP).max(LEGEND_WIDTH + 2 * GAP);
        let height = origin.1 + size + 2 * GAP + LEGEND_HEIGHT + GAP;
        Self { cell, count_scale, label_scale, origin, title_y, width, height }
    }
}

fn draw_cell(
    canvas: &mut Canvas,
    (x, y): (usize, usize),
    layout: &Layout,
    count: u32,
    of: u32,
    diagonal: bool,
) {
    let cell = layout.cell;
    let line = usize::from(cell >= 6);
    let share = share(count, of);
    let colour = heat(if diagonal { RIGHT } else { WRONG }, share);
    canvas.fill(x + line, y + line, cell - line, cell - line, colour);
    let Some(scale) = layout.count_scale else { return };
    // Zeros are the paper the other counts stand on: small and pale.
    let (scale, ink) = if count == 0 { (1, PALE) } else { (scale, ink_on(colour)) };
    let text = count.to_string();
    let below = percent(share);
    let two_lines = count > 0 && cell >= 70 && length(&below, 1) + COUNT_MARGIN <= cell;
    let height = scale * GLYPH + if two_lines { GLYPH + 6 } else { 0 };
    let top = y + cell.saturating_sub(height) / 2;
    let left = |text: &str, scale| x + line + (cell - line).saturating_sub(length(text, scale)) / 2;
    canvas.text((left(&text, scale), top), &text, scale, Direction::Right, ink);
    if two_lines {
        let top = top + scale * GLYPH + 6;
        canvas.text((left(&below, 1), top), &below, 1, Direction::Right, ink);
    }
}

const LEGEND_BAR: usize = 120;
const LEGEND_WIDTH: usize = 2 * LEGEND_BAR + 3 * GAP + 160;
const LEGEND_HEIGHT: usize = 3 * GLYPH + GAP;

/// Two bars from 0 % to 100 % of a row.
fn draw_legend(canvas: &mut Canvas, (x, y): (usize, usize)) {
    canvas.text((x, y), "share of the true label's photos", 1, Direction::Right, FAINT);
    let y = y + GLYPH + GAP / 2;
    let mut left = x;
    for (name, colour) in [("right", RIGHT), ("wrong", WRONG)] {
        for place in 0..LEGEND_BAR {
            let share = place as f64 / (LEGEND_BAR - 1) as f64;
            canvas.fill(left + place, y, 1, 2 * GLYPH, heat(colour, share));
        }
        canvas.text((left + 4, y + GLYPH / 2), "0%", 1, Direction::Right, INK);
        let end = left + LEGEND_BAR - length("100%", 1) - 4;
        canvas.text((end, y + GLYPH / 2), "100%", 1, Direction::Right, PAPER);
        let after = left + LEGEND_BAR + GAP / 2;
        canvas.text((after, y + GLYPH / 2), name, 1, Direction::Right, INK);
        left = after + length(name, 1) + 2 * GAP;
    }
}

/// From paper at 0 to `colour` at 1.
fn heat(colour: Colour, share: f64) -> Colour {
    let weight = share.clamp(0.0, 1.0).sqrt();
    let mut mixed = PAPER;
    for (mixed, colour) in mixed.iter_mut().zip(colour) {
        *mixed = (f64::from(*mixed) * (1.0 - weight) + f64::from(colour) * weight).round() as u8;
    }
    mixed
}

/// Dark on light, light on dark (Rec. 601 luma).
fn ink_on([red, green, blue]: Colour) -> Colour {
    let luma = (299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue)) / 1000;
    if luma > 140 { INK } else { PAPER }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn drawn(labels: usize, name: impl Fn(usize) -> String) -> Vec<u8> {
        let names: Vec<String> = (0..labels).map(name).collect();
        let labels = fixture::labels(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let matrix: Vec<Vec<u32>> = (0..labels.len())
            .map(|row| (0..labels.len()).map(|column| if row == column { 90 } else { 1 }).collect())
            .collect();
        fixture::case(fixture::training(&labels, &matrix)).report().confusion_png().unwrap()
    }

    #[test]
    fn the_picture_grows_with_the_labels_but_not_for_ever() {
        let side = |labels, name: fn(usize) -> String| {
            let image = image::load_from_memory(&drawn(labels, name)).unwrap();
            (image.width(), image.height())
        };
        let short: fn(usize) -> String = |i| format!("l{i}");
        let long: fn(usize) -> String = |i| format!("{i} {}", "long label ".repeat(8).trim());
        let (two, fifty, many) = (side(2, short), side(50, short), side(300, short));
        assert!(two.0 < 600 && two.1 < 600, "{two:?}");
        assert!((2000..2500).contains(&fifty.0), "{fifty:?}");
        assert!(many.0 < 2400 && many.1 < 2400, "{many:?}");
        assert!(side(50, long).0 < 2600);
    }

    #[test]
    fn equal_trainings_give_equal_bytes() {
        assert_eq!(drawn(6, |i| i.to_string()), drawn(6, |i| i.to_string()));
        assert_ne!(drawn(6, |i| i.to_string()), drawn(6, |i| format!("{i}x")));
    }

    #[test]
    fn more_of_the_row_is_more_colour_and_text_stays_legible() {
        assert_eq!(heat(RIGHT, 0.0), PAPER);
        assert_eq!(heat(RIGHT, 1.0), RIGHT);
        assert!(heat(WRONG, 0.02) != PAPER);
        for share in 0..=100 {
            for colour in [RIGHT, WRONG] {
                let ground = heat(colour, f64::from(share) / 100.0);
                let luma =
                    |c: Colour| 0.299 * f64::from(c[0]) + 0.587 * f64::from(c[1]) + 0.114 * f64::from(c[2]);
                assert!((luma(ground) - luma(ink_on(ground))).abs() > 100.0, "{ground:?}");
            }
        }
    }
}
