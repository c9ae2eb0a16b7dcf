//! The two inner loops that take nearly all the time of an inference, for each kind of processor.
//!
//! Activations lie pixel after pixel, the channels of a pixel side by side, so that one vector holds
//! neighbouring channels and neither borders nor odd widths ever cut a vector. Both loops work on one row
//! of output pixels, in tiles whose sums stay in registers:
//!
//! - [`conv_row`]: a row of an ordinary convolution (a 1 × 1 kernel above all) for one block of output
//!   channels: each input value is spread over a vector and multiplied with the block's weights;
//! - [`depthwise_row`]: a row of a depthwise convolution, all channels.
//!
//! [`Isa`] says which instructions are used: AVX-512, AVX2 with FMA, or NEON where the processor has them,
//! plain Rust elsewhere. Kinds differ in the last bits, since they round and add differently; one kind
//! gives the same bits each time.
//!
//! This module holds all of the crate's `unsafe`: vector loads and stores without a bounds check each. The
//! two entry points check once per row, before any pointer is made, that everything the row touches lies
//! within its slices.
#![expect(
    unsafe_code,
    reason = "loads without a bounds check each, and instructions the processor was asked for"
)]
#![expect(
    clippy::inline_always,
    reason = "what is not inlined is not compiled for the caller's instructions"
)]

/// The instructions in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Isa {
    /// x86-64 with AVX-512F: 16 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512(Proof),
    /// x86-64 with AVX2 and FMA: 8 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx2(Proof),
    /// 64-bit ARM, which always has NEON: 4 lanes.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Whatever the compiler makes of plain Rust: 4 lanes.
    Plain,
}

/// Only [`Isa::all`] can make one: whoever holds it has asked the processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Proof(());

impl Isa {
    /// What this processor can run, best first.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                all.push(Self::Avx512(Proof(())));
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Self::Avx2(Proof(())));
            }
        }
        #[cfg(target_arch = "aarch64")]
        all.push(Self::Neon);
        all.push(Self::Plain);
        all
    }

    /// The first of [`Isa::all`], or `None` where the engine's own operators are better.
    ///
    /// That is 32-bit ARM: the engine has NEON kernels for it, while stable Rust offers no NEON there and
    /// ours would compute one number at a time.
    pub(crate) fn best() -> Option<Self> {
        Self::all().first().copied().filter(|_| !cfg!(target_arch = "arm"))
    }

    /// Numbers in a vector: pixels are padded to a multiple of it.
    pub(crate) const fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => 16,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => 8,
            _ => 4,
        }
    }

    /// The most vectors of output channels that [`conv_row`] takes at once; with the pixels of a tile it
    /// fills the registers.
    pub(crate) const fn block(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => 3,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => 4,
            _ => 2,
        }
    }
}

/// A row of an ordinary convolution, for one block of output channels.
pub(crate) struct ConvRow<'a> {
    /// The input, from the row's first window on.
    pub(crate) input: &'a [f32],
    /// From one window to the next, in numbers.
    pub(crate) step: usize,
    /// How many output pixels.
    pub(crate) pixels: usize,
    /// The runs of input numbers under a window: offset from its first number, length.
    pub(crate) runs: &'a [(usize, usize)],
    /// For each number under the window, in the runs' order, its weights: one vector after the other.
    pub(crate) weights: &'a [f32],
    /// Numbers that are needed soon, fetched from far memory meanwhile.
    pub(crate) soon: &'a [f32],
    /// What each sum starts from: one vector after the other, which also says how many there are.
    pub(crate) bias: &'a [f32],
    /// Added to each output; laid out as the output is.
    pub(crate) residual: Option<&'a [f32]>,
    /// The output, from the row's first pixel and the block's first channel on.
    pub(crate) output: &'a mut [f32],
    /// From one output pixel to the next, in numbers.
    pub(crate) pitch: usize,
    /// Outputs are brought up to it,
    pub(crate) low: f32,
    /// and down to it.
    pub(crate) high: f32,
}

/// A row of a depthwise convolution.
pub(crate) struct DepthwiseRow<'a> {
    /// The input, from the row's first window on.
    pub(crate) input: &'a [f32],
    /// From one input row to the next, in numbers.
    pub(crate) row: usize,
    /// From one pixel to the next, in the input, the output and the weights: a multiple of the lanes.
    pub(crate) pitch: usize,
    /// Height and width of the kernel.
    pub(crate) kernel: (usize, usize),
    /// From one window to the next, in pixels.
    pub(crate) stride: usize,
    /// How many output pixels.
    pub(crate) pixels: usize,
    /// The kernel's weights, position after position, `pitch` each.
    pub(crate) weights: &'a [f32],
    /// What each sum starts from, `pitch` numbers.
    pub(crate) bias: &'a [f32],
    /// The output's row.
    pub(crate) output: &'a mut [f32],
    /// Outputs are brought up to it,
    pub(crate) low: f32,
    /// and down to it.
    pub(crate) high: f32,
}

/// Computes the row.
///
/// # Panics
/// If the row reaches beyond one of its slices, or the block is empty or larger than [`Isa::block`].
pub(crate) fn conv_row(isa: Isa, row: &mut ConvRow<'_>) {
    if row.pixels == 0 {
        return;
    }
    let last = row.pixels - 1;
    let (lanes, block) = (isa.lanes(), row.bias.len());
    assert!(block.is_multiple_of(lanes) && (1..=isa.block()).contains(&(block / lanes)));
    let reach = row.runs.iter().map(|(offset, length)| offset + length).max().unwrap_or(0);
    assert!(last * row.step + reach <= row.input.len());
    assert!(row.runs.iter().map(|(_, length)| length).sum::<usize>() * block <= row.weights.len());
    assert!(last * row.pitch + block <= row.output.len());
    assert!(row.residual.is_none_or(|residual| last * row.pitch + block <= residual.len()));
    // SAFETY: the row lies within its slices, as just checked; a `Proof` says that the processor has the
    // instructions.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => x86::conv_row_avx512(row),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => x86::conv_row_avx2(row),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => conv_row_of::<neon::F32x4>(row),
            Isa::Plain => conv_row_of::<Plain>(row),
        }
    }
}

/// Computes the row.
///
/// # Panics
/// If the row reaches beyond one of its slices, or the pitch is no multiple of the lanes.
pub(crate) fn depthwise_row(isa: Isa, row: &mut DepthwiseRow<'_>) {
    let (height, width) = row.kernel;
    if row.pixels == 0 || height == 0 || width == 0 {
        return;
    }
    let last = row.pixels - 1;
    assert!(row.pitch.is_multiple_of(isa.lanes()));
    let reach = (height - 1) * row.row + (last * row.stride + width) * row.pitch;
    assert!(reach <= row.input.len());
    assert!(height * width * row.pitch <= row.weights.len() && row.pitch <= row.bias.len());
    assert!(row.pixels * row.pitch <= row.output.len());
    // SAFETY: as in `conv_row`.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => x86::depthwise_row_avx512(row),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => x86::depthwise_row_avx2(row),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => depthwise_row_of::<neon::F32x4>(row),
            Isa::Plain => depthwise_row_of::<Plain>(row),
        }
    }
}

/// Numbers in a line of the caches.
const LINE: usize = 64 / size_of::<f32>();

/// A vector register. Each method is one instruction; all are inlined into code that was compiled for it.
trait Vector: Copy {
    const LANES: usize;
    /// The most pixels in a tile: with [`Isa::block`] it fills the registers.
    const TILE: usize;
    /// Asks for the cache line at `from`, which may lie anywhere: nothing is read. Does nothing where Rust
    /// has no such instruction.
    #[inline(always)]
    fn fetch(_from: *const f32) {}
    /// `value` in every lane.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn splat(value: f32) -> Self;
    /// # Safety
    /// `LANES` numbers can be read at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `LANES` numbers can be written at `to`.
    unsafe fn store(self, to: *mut f32);
    /// self + a · b.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn plus_product(self, a: Self, b: Self) -> Self;
    /// # Safety
    /// The processor has the instructions.
    unsafe fn plus(self, other: Self) -> Self;
    /// The number, brought into `low..=high`; what is not a number stays so.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn clamped(self, low: Self, high: Self) -> Self;
}

/// # Safety
/// The row lies within its slices; the processor has the instructions of `V`.
#[inline(always)]
unsafe fn conv_row_of<V: Vector>(row: &mut ConvRow<'_>) {
    let tiles = row.pixels.div_ceil(V::TILE);
    for tile in 0..tiles {
        // Tiles as even as can be: 14 pixels are 7 and 7, not 8 and 6.
        let first = row.pixels * tile / tiles;
        let pixels = row.pixels * (tile + 1) / tiles - first;
        // SAFETY: the tile lies within the row.
        unsafe {
            match row.bias.len() / V::LANES {
                1 => conv_tiles::<V, 1>(row, first, pixels),
                2 => conv_tiles::<V, 2>(row, first, pixels),
                3 => conv_tiles::<V, 3>(row, first, pixels),
                _ => conv_tiles::<V, 4>(row, first, pixels),
            }
        }
    }
}

/// # Safety
/// As [`conv_row_of`]; the block is of `BLOCK` vectors; `first + pixels` is within the row.
#[inline(always)]
unsafe fn conv_tiles<V: Vector, const BLOCK: usize>(row: &mut ConvRow<'_>, first: usize, pixels: usize) {
    // SAFETY: passed on.
    unsafe {
        match pixels {
            1 => conv_tile::<V, BLOCK, 1>(row, first),
            2 => conv_tile::<V, BLOCK, 2>(row, first),
            3 => conv_tile::<V, BLOCK, 3>(row, first),
            4 => conv_tile::<V, BLOCK, 4>(row, first),
            5 => conv_tile::<V, BLOCK, 5>(row, first),
            6 => conv_tile::<V, BLOCK, 6>(row, first),
            7 => conv_tile::<V, BLOCK, 7>(row, first),
            _ => conv_tile::<V, BLOCK, 8>(row, first),
        }
    }
}

/// # Safety
/// As [`conv_row_of`]; the block is of `BLOCK` vectors; `first + PIXELS` is within the row.
#[inline(always)]
unsafe fn conv_tile<V: Vector, const BLOCK: usize, const PIXELS: usize>(row: &mut ConvRow<'_>, first: usize) {
    // SAFETY: every pointer stays within the slice it comes from, as the entry point has checked for all
    // pixels of the row.
    unsafe {
        let bias: [V; BLOCK] = std::array::from_fn(|at| V::load(row.bias.as_ptr().add(at * V::LANES)));
        let mut sums = [bias; PIXELS];
        let mut weights = row.weights.as_ptr();
        let input = row.input.as_ptr().add(first * row.step);
        // Each tile fetches its share of what is needed soon, a line for each input number.
        let mut soon = row.soon.as_ptr().add(row.soon.len() * first / row.pixels);
        for &(offset, length) in row.runs {
            let windows: [*const f32; PIXELS] =
                std::array::from_fn(|pixel| input.add(pixel * row.step + offset));
            for at in 0..length {
                V::fetch(soon);
                soon = soon.wrapping_add(LINE);
                let factors: [V; BLOCK] = std::array::from_fn(|of| V::load(weights.add(of * V::LANES)));
                weights = weights.add(BLOCK * V::LANES);
                for (sums, window) in sums.iter_mut().zip(windows) {
                    let value = V::splat(*window.add(at));
                    for (sum, factor) in sums.iter_mut().zip(factors) {
                        *sum = sum.plus_product(value, factor);
                    }
                }
            }
        }
        let (low, high) = (V::splat(row.low), V::splat(row.high));
        for (pixel, sums) in sums.into_iter().enumerate() {
            let place = (first + pixel) * row.pitch;
            for (of, mut sum) in sums.into_iter().enumerate() {
                let place = place + of * V::LANES;
                if let Some(residual) = row.residual {
                    sum = sum.plus(V::load(residual.as_ptr().add(place)));
                }
                sum.clamped(low, high).store(row.output.as_mut_ptr().add(place));
            }
        }
    }
}

/// # Safety
/// The row lies within its slices; the processor has the instructions of `V`.
#[inline(always)]
unsafe fn depthwise_row_of<V: Vector>(row: &mut DepthwiseRow<'_>) {
    // SAFETY: passed on. Literal sizes let the compiler unroll the common kernels.
    unsafe {
        match (row.kernel, row.stride) {
            ((3, 3), 1) => depthwise_tiles::<V>(row, (3, 3), 1),
            ((3, 3), 2) => depthwise_tiles::<V>(row, (3, 3), 2),
            ((5, 5), 1) => depthwise_tiles::<V>(row, (5, 5), 1),
            ((5, 5), 2) => depthwise_tiles::<V>(row, (5, 5), 2),
            (kernel, stride) => depthwise_tiles::<V>(row, kernel, stride),
        }
    }
}

/// # Safety
/// As [`depthwise_row_of`]; `kernel` and `stride` are the row's.
#[inline(always)]
unsafe fn depthwise_tiles<V: Vector>(row: &mut DepthwiseRow<'_>, kernel: (usize, usize), stride: usize) {
    let tiles = row.pixels.div_ceil(V::TILE);
    for channel in (0..row.pitch).step_by(V::LANES) {
        for tile in 0..tiles {
            let first = row.pixels * tile / tiles;
            let pixels = row.pixels * (tile + 1) / tiles - first;
            // SAFETY: the tile lies within the row, the channel within the pitch.
            unsafe {
                match pixels {
                    1 => depthwise_tile::<V, 1>(row, kernel, stride, channel, first),
                    2 => depthwise_tile::<V, 2>(row, kernel, stride, channel, first),
                    3 => depthwise_tile::<V, 3>(row, kernel, stride, channel, first),
                    4 => depthwise_tile::<V, 4>(row, kernel, stride, channel, first),
                    5 => depthwise_tile::<V, 5>(row, kernel, stride, channel, first),
                    6 => depthwise_tile::<V, 6>(row, kernel, stride, channel, first),
                    7 => depthwise_tile::<V, 7>(row, kernel, stride, channel, first),
                    _ => depthwise_tile::<V, 8>(row, kernel, stride, channel, first),
                }
            }
        }
    }
}

/// # Safety
/// As [`depthwise_tiles`]; `channel` is a multiple of the lanes below the pitch; `first + PIXELS` is within
/// the row.
#[inline(always)]
unsafe fn depthwise_tile<V: Vector, const PIXELS: usize>(
    row: &mut DepthwiseRow<'_>,
    (height, width): (usize, usize),
    stride: usize,
    channel: usize,
    first: usize,
) {
    // SAFETY: every pointer stays within the slice it comes from, as the entry point has checked for all
    // pixels of the row.
    unsafe {
        let pitch = row.pitch;
        let mut sums = [V::load(row.bias.as_ptr().add(channel)); PIXELS];
        let mut weights = row.weights.as_ptr().add(channel);
        for y in 0..height {
            let line = row.input.as_ptr().add(y * row.row + first * stride * pitch + channel);
            for x in 0..width {
                let factor = V::load(weights);
                weights = weights.add(pitch);
                for (pixel, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.plus_product(V::load(line.add((pixel * stride + x) * pitch)), factor);
                }
            }
        }
        let (low, high) = (V::splat(row.low), V::splat(row.high));
        for (pixel, sum) in sums.into_iter().enumerate() {
            sum.clamped(low, high).store(row.output.as_mut_ptr().add((first + pixel) * pitch + channel));
        }
    }
}

/// Four lanes in plain Rust.
#[derive(Clone, Copy)]
struct Plain([f32; 4]);

impl Vector for Plain {
    const LANES: usize = 4;
    const TILE: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's; alignment 1 is enough for `read_unaligned`.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as in `load`.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn plus_product(self, a: Self, b: Self) -> Self {
        // Two roundings: without an FMA instruction `mul_add` would be a call.
        Self(std::array::from_fn(|lane| self.0[lane] + a.0[lane] * b.0[lane]))
    }

    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] + other.0[lane]))
    }

    #[inline(always)]
    unsafe fn clamped(self, low: Self, high: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            let value = if self.0[lane] < low.0[lane] { low.0[lane] } else { self.0[lane] };
            if value > high.0[lane] { high.0[lane] } else { value }
        }))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
mod neon;
