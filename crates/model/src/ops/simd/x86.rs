//! Vectors of x86-64, and both loops compiled for them: AVX-512, and AVX2 with FMA.

use std::arch::x86_64::{
    __m256, __m512, _MM_HINT_T1, _mm_prefetch, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_max_ps, _mm256_min_ps, _mm256_set1_ps, _mm256_storeu_ps, _mm512_add_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_set1_ps, _mm512_storeu_ps,
};

use super::{ConvRow, DepthwiseRow, Vector, conv_row_of, depthwise_row_of};

/// # Safety
/// As [`conv_row_of`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn conv_row_avx512(row: &mut ConvRow<'_>) {
    // SAFETY: passed on.
    unsafe { conv_row_of::<F32x16>(row) }
}

/// # Safety
/// As [`conv_row_of`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn conv_row_avx2(row: &mut ConvRow<'_>) {
    // SAFETY: passed on.
    unsafe { conv_row_of::<F32x8>(row) }
}

/// # Safety
/// As [`depthwise_row_of`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn depthwise_row_avx512(row: &mut DepthwiseRow<'_>) {
    // SAFETY: passed on.
    unsafe { depthwise_row_of::<F32x16>(row) }
}

/// # Safety
/// As [`depthwise_row_of`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn depthwise_row_avx2(row: &mut DepthwiseRow<'_>) {
    // SAFETY: passed on.
    unsafe { depthwise_row_of::<F32x8>(row) }
}

/// Implements [`Vector`] by one intrinsic each.
macro_rules! vector {
    ($name:ident, $register:ty, $lanes:literal, $tile:literal, $splat:ident, $load:ident, $store:ident,
     $fma:ident, $add:ident, $max:ident, $min:ident) => {
        #[derive(Clone, Copy)]
        struct $name($register);

        impl Vector for $name {
            const LANES: usize = $lanes;
            const TILE: usize = $tile;

            #[inline(always)]
            fn fetch(from: *const f32) {
                // SAFETY: SSE, which x86-64 always has; a prefetch cannot fault.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
            }

            #[inline(always)]
            unsafe fn splat(value: f32) -> Self {
                // SAFETY: the caller's, here and below.
                Self(unsafe { $splat(value) })
            }

            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                // SAFETY: see `splat`.
                Self(unsafe { $load(from) })
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                // SAFETY: see `splat`.
                unsafe { $store(to, self.0) }
            }

            #[inline(always)]
            unsafe fn plus_product(self, a: Self, b: Self) -> Self {
                // SAFETY: see `splat`.
                Self(unsafe { $fma(a.0, b.0, self.0) })
            }

            #[inline(always)]
            unsafe fn plus(self, other: Self) -> Self {
                // SAFETY: see `splat`.
                Self(unsafe { $add(self.0, other.0) })
            }

            #[inline(always)]
            unsafe fn clamped(self, low: Self, high: Self) -> Self {
                // The instructions give their second operand where one is not a number.
                // SAFETY: see `splat`.
                Self(unsafe { $min(high.0, $max(low.0, self.0)) })
            }
        }
    };
}

vector!(
    F32x16,
    __m512,
    16,
    8,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps,
    _mm512_max_ps,
    _mm512_min_ps
);
vector!(
    F32x8,
    __m256,
    8,
    6,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps,
    _mm256_max_ps,
    _mm256_min_ps
);
