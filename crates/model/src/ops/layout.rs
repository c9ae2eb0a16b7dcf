//! How an activation lies in memory, and memory that vectors load from at full speed.

use std::ops::{Deref, DerefMut};

/// Zeros kept around a picture, in pixels, so that no window is ever cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) struct Pads {
    pub(crate) top: usize,
    pub(crate) left: usize,
    pub(crate) bottom: usize,
    pub(crate) right: usize,
}

impl Pads {
    /// The larger of both on each side.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            top: self.top.max(other.top),
            left: self.left.max(other.left),
            bottom: self.bottom.max(other.bottom),
            right: self.right.max(other.right),
        }
    }
}

/// Pixel after pixel, row after row, the channels of a pixel side by side, zeros all around.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) pads: Pads,
    /// From one pixel to the next, in numbers; those beyond `channels` mean nothing.
    pub(crate) pitch: usize,
}

impl Layout {
    /// From one row to the next, in numbers.
    pub(crate) fn row(&self) -> usize {
        (self.pads.left + self.width + self.pads.right) * self.pitch
    }

    /// Numbers in all.
    pub(crate) fn len(&self) -> usize {
        (self.pads.top + self.height + self.pads.bottom) * self.row()
    }

    /// Where the pixel at row `y` and column `x` begins; the padding's rows and columns are counted too.
    pub(crate) fn at(&self, y: usize, x: usize) -> usize {
        y * self.row() + x * self.pitch
    }

    /// Where row `y` of the picture itself begins.
    pub(crate) fn inner(&self, y: usize) -> usize {
        self.at(self.pads.top + y, self.pads.left)
    }

    /// Writes the zeros around the picture: memory is used again, for pictures of other sizes.
    pub(crate) fn clear_border(&self, data: &mut [f32]) {
        if self.pads == Pads::default() {
            return;
        }
        let (row, first, last) = (self.row(), self.inner(0), self.inner(self.height - 1));
        data[..first].fill(0.0);
        let width = self.width * self.pitch;
        let gap = row - width;
        for y in 0..self.height - 1 {
            let end = first + y * row + width;
            data[end..end + gap].fill(0.0);
        }
        data[last + width..self.len()].fill(0.0);
    }

    /// Fills the picture from numbers that lie channel after channel.
    pub(crate) fn import(&self, planes: &[f32], data: &mut [f32]) {
        self.clear_border(data);
        let plane = self.height * self.width;
        for y in 0..self.height {
            let start = self.inner(y);
            let row = &mut data[start..start + self.width * self.pitch];
            for (channel, plane) in planes.chunks_exact(plane).enumerate() {
                let values = &plane[y * self.width..(y + 1) * self.width];
                for (pixel, value) in row.chunks_exact_mut(self.pitch).zip(values) {
                    pixel[channel] = *value;
                }
            }
        }
    }

    /// Writes the picture channel after channel.
    pub(crate) fn export(&self, data: &[f32], planes: &mut [f32]) {
        let plane = self.height * self.width;
        for y in 0..self.height {
            let start = self.inner(y);
            let row = &data[start..start + self.width * self.pitch];
            for (channel, plane) in planes.chunks_exact_mut(plane).enumerate() {
                let values = &mut plane[y * self.width..(y + 1) * self.width];
                for (pixel, value) in row.chunks_exact(self.pitch).zip(values) {
                    *value = pixel[channel];
                }
            }
        }
    }
}

/// Numbers that begin at a cache line: a vector of 64 bytes that spans two lines costs two loads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aligned {
    numbers: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    const LINE: usize = 64;

    /// Zeros.
    pub(crate) fn new(len: usize) -> Self {
        let numbers = vec![0.0; len + Self::LINE / size_of::<f32>()];
        // An unknown offset (`usize::MAX`, which only a const context may give) costs speed, not soundness.
        let start = numbers.as_ptr().align_offset(Self::LINE).min(Self::LINE / size_of::<f32>());
        Self { numbers, start, len }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers[self.start..self.start + self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_goes_in_and_out_between_zeros() {
        let pads = Pads { top: 1, left: 2, bottom: 0, right: 1 };
        let layout = Layout { channels: 2, height: 2, width: 3, pads, pitch: 4 };
        let planes: Vec<f32> = (1..=12).map(|value| value as f32).collect();
        let mut data = vec![7.0; layout.len()];
        layout.import(&planes, &mut data);
        let mut back = vec![0.0; 12];
        layout.export(&data, &mut back);
        assert_eq!(back, planes);
        // All of the first row, and the pixels beside the picture in the others.
        assert!(data[..layout.row()].iter().all(|value| *value == 0.0));
        for y in 1..3 {
            for x in [0, 1, 5] {
                assert_eq!(data[layout.at(y, x)..][..4], [0.0; 4], "row {y}, column {x}");
            }
        }
    }

    #[test]
    fn aligned_numbers_are_aligned() {
        for len in [0, 1, 15, 1000] {
            let aligned = Aligned::new(len);
            assert_eq!((aligned.as_ptr() as usize % 64, aligned.len()), (0, len));
        }
    }
}
