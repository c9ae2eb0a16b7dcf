//! Values as people type them, each with the range that is allowed.

use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

/// A path as typed.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.contains('\0') { Err("a path cannot hold a NUL character".into()) } else { Ok(text.into()) }
}

/// A whole number from `min` to `max`.
pub(super) fn count<T>(text: &str, min: T, max: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy,
{
    text.parse()
        .ok()
        .filter(|value| (min..=max).contains(value))
        .ok_or_else(|| format!("a whole number from {min} to {max} is allowed"))
}

/// A decimal number from `min` to `max`.
pub(super) fn decimal(text: &str, min: f32, max: f32) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|value| (min..=max).contains(value))
        .ok_or_else(|| format!("a number from {min} to {max} is allowed"))
}

pub(super) fn probability(text: &str, max: f32) -> Result<f32, String> {
    decimal(text, 0.0, max)
}

/// A length of time in seconds, 0 to `max`.
pub(super) fn seconds(text: &str, max: f32) -> Result<Duration, String> {
    decimal(text, 0.0, max).map(Duration::from_secs_f32)
}

pub(super) fn level(text: &str) -> Result<LevelFilter, String> {
    match text {
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        _ => Err("`error`, `warn`, `info` or `debug` is allowed".into()),
    }
}

/// The tag of a language, such as `zh-CN` (RFC 5646, by its letters only).
pub(super) fn language(text: &str) -> Result<String, String> {
    let part =
        |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if text.split('-').all(part) {
        Ok(text.to_owned())
    } else {
        Err("a language such as `de` or `zh-CN` is allowed".into())
    }
}
