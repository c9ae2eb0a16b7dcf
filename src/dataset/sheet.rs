//! Contact sheets: one picture of a label's photos, for the eye that finds the wrong one.

use mynah_contracts::Photo;
use mynah_photo::{EncodeError, RgbImage, encode_png};

/// How many photos a sheet shows.
pub(super) const SHOWN: usize = 48;

/// A cell's side, in pixels: a thumbnail fits into it.
pub(super) const CELL: u32 = 96;

/// Cells side by side.
const COLUMNS: u32 = 8;

/// White between the cells and around them, in pixels.
const MARGIN: u32 = 8;

/// The photos a sheet shows, out of a label's photos in the dataset's order.
pub(super) fn shown<'a>(photos: impl IntoIterator<Item = &'a Photo>) -> Vec<&'a Photo> {
    photos.into_iter().take(SHOWN).collect()
}

/// The sheet as PNG: thumbnails of at most [`CELL`] pixels, each in the middle of its cell. The same thumbnails
/// give the same bytes.
pub(super) fn render(thumbnails: &[RgbImage]) -> Result<Vec<u8>, EncodeError> {
    let cells = thumbnails.len().clamp(1, SHOWN) as u32;
    let (columns, rows) = (cells.min(COLUMNS), cells.div_ceil(COLUMNS));
    let side = |cells: u32| MARGIN + cells * (CELL + MARGIN);
    let (width, height) = (side(columns), side(rows));
    let mut pixels = vec![255; 3 * (width * height) as usize];
    for (i, thumbnail) in (0..cells).zip(thumbnails) {
        let left = side(i % COLUMNS) + CELL.saturating_sub(thumbnail.width()) / 2;
        let top = side(i / COLUMNS) + CELL.saturating_sub(thumbnail.height()) / 2;
        let row_bytes = 3 * thumbnail.width() as usize;
        for (y, row) in (top..).zip(thumbnail.pixels().chunks_exact(row_bytes)) {
            let start = 3 * (y * width + left) as usize;
            if let Some(target) = pixels.get_mut(start..start + row_bytes) {
                target.copy_from_slice(row);
            }
        }
    }
    match RgbImage::new(width, height, pixels) {
        Some(sheet) => encode_png(&sheet),
        // The buffer was made for these sides.
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_photo::{Limits, decode};

    fn square(side: u32, value: u8) -> RgbImage {
        RgbImage::new(side, side, vec![value; 3 * (side * side) as usize]).unwrap()
    }

    #[test]
    fn thumbnails_stand_in_a_grid_on_white() {
        let thumbnails: Vec<_> = (0..10).map(|i| square(if i == 9 { 48 } else { 96 }, i * 20)).collect();
        let png = render(&thumbnails).unwrap();
        assert_eq!(png, render(&thumbnails).unwrap());
        let sheet = decode(&png, &Limits::default()).unwrap().image;
        assert_eq!((sheet.width(), sheet.height()), (8 + 8 * 104, 8 + 2 * 104));
        let at = |x: u32, y: u32| sheet.pixels()[3 * (y * sheet.width() + x) as usize];
        assert_eq!((at(0, 0), at(8, 8), at(103, 103), at(104, 104)), (255, 0, 0, 255));
        assert_eq!(at(8 + 104 + 48, 8 + 48), 20);
        // The tenth is smaller than its cell and stands in its middle.
        assert_eq!((at(8 + 104 + 20, 8 + 104 + 48), at(8 + 104 + 48, 8 + 104 + 48)), (255, 180));
    }

    #[test]
    fn more_than_a_sheet_holds_are_left_out() {
        let thumbnails: Vec<_> = (0..60).map(|_| square(1, 0)).collect();
        let sheet = decode(&render(&thumbnails).unwrap(), &Limits::default()).unwrap().image;
        assert_eq!(sheet.height(), 8 + 6 * 104);
    }
}
