//! How the process keeps freed memory, chosen before the first thread starts.

/// Makes all threads share one heap, where the C library would otherwise keep one for each: what one thread frees after
/// decoding a photo then serves the next, instead of staying with the first. Training 893 photos on two cores peaked at
/// 77 MiB instead of 99 and took no more processor time. For `main` to call first; C libraries other than GNU's have
/// no such heaps.
#[cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "the C library's settings can be reached in no other way")
)]
pub fn share_between_threads() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `mallopt` takes two numbers, touches nothing of ours and may be called at any time (mallopt(3)). Where it
    // refuses, allocation goes on as before, so its answer does not matter.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
