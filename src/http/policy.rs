//! How long a client waits, and how often it tries.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// What one answered request gives back to the budget, in tenths of a retry.
const REFUND: u32 = 2;

/// The waits and limits of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// For a connection to be made.
    pub connect: Duration,
    /// Without a byte arriving, before an answer counts as lost.
    pub idle: Duration,
    /// How often a request is sent at most.
    pub tries: u32,
    /// Before the second try; it doubles with every further one.
    pub first_wait: Duration,
    /// Between two tries, where the service asks for nothing else.
    pub longest_wait: Duration,
    /// For a request with all its tries.
    pub deadline: Duration,
    /// Of a body that is read into memory, in bytes.
    pub largest_body: u64,
    /// How many retries the client spends in a row where no service asked for them; every five answers give one
    /// back. It keeps many parallel requests from hammering a service that is down.
    pub budget: u32,
    /// Whether the environment's proxies are used.
    pub proxy: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            idle: Duration::from_mins(1),
            tries: 6,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            deadline: Duration::from_mins(5),
            largest_body: 16 << 20,
            budget: 60,
            proxy: true,
        }
    }
}

impl Policy {
    /// The wait after the try numbered `tried` from 1: exponential, of which a random half to whole is taken, so
    /// that clients that failed together do not come back together.
    pub(super) fn back_off(&self, tried: u32) -> Duration {
        let factor = 1_u32.checked_shl(tried.saturating_sub(1)).unwrap_or(u32::MAX);
        let whole = self.first_wait.saturating_mul(factor).min(self.longest_wait);
        let random = RandomState::new().build_hasher().finish();
        whole.mul_f64(0.5 + 0.5 * (random as f64 / u64::MAX as f64))
    }
}

/// Retries left to a client and its clones.
#[derive(Debug)]
pub(super) struct Budget {
    tenths: AtomicU32,
    full: u32,
}

impl Budget {
    pub(super) fn new(retries: u32) -> Self {
        let full = retries.saturating_mul(10);
        Self { tenths: AtomicU32::new(full), full }
    }

    /// Takes one retry, if one is left.
    pub(super) fn take(&self) -> bool {
        self.tenths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tenths| tenths.checked_sub(10))
            .is_ok()
    }

    /// A request was answered.
    pub(super) fn answered(&self) {
        let full = self.full;
        // The closure always gives a value.
        let _ = self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tenths| {
            Some(tenths.saturating_add(REFUND).min(full))
        });
    }
}

/// How long the answer asks to wait: `Retry-After` in seconds or as a date (RFC 9110, 10.2.3), or in Azure's own
/// milliseconds. A date is read against the answer's own clock, which this machine's need not agree with.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let milliseconds = text("retry-after-ms").or_else(|| text("x-ms-retry-after-ms"));
    if let Some(milliseconds) = milliseconds.and_then(|text| text.parse().ok()) {
        return Some(Duration::from_millis(milliseconds));
    }
    let asked = text(RETRY_AFTER.as_str())?;
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = date(headers).unwrap_or_else(jiff::Timestamp::now);
    let wait = http_date(asked)?.duration_since(now);
    Some(Duration::try_from(wait).unwrap_or(Duration::ZERO))
}

/// The service's clock, where it tells the time.
pub(super) fn date(headers: &HeaderMap) -> Option<jiff::Timestamp> {
    headers.get(DATE).and_then(|value| value.to_str().ok()).and_then(http_date)
}

fn http_date(text: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&'static str, &'static str)]) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        retry_after(&headers)
    }

    #[test]
    fn retry_after_is_read_in_every_form() {
        assert_eq!(asked(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(
            asked(&[("retry-after-ms", "250"), ("retry-after", "1")]),
            Some(Duration::from_millis(250))
        );
        let later =
            [("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")];
        assert_eq!(asked(&later), Some(Duration::from_secs(30)));
        let past =
            [("date", "Sun, 06 Nov 1994 08:50:07 GMT"), ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")];
        assert_eq!(asked(&past), Some(Duration::ZERO));
        for useless in ["", "soon", "-1", "99999999999999999999999"] {
            assert_eq!(asked(&[("retry-after", useless)]), None, "{useless}");
        }
    }

    #[test]
    fn waits_double_to_a_limit_and_differ() {
        let policy = Policy::default();
        for (tried, whole) in [(1, 500), (2, 1000), (3, 2000), (9, 30_000), (4_000_000, 30_000)] {
            let wait = policy.back_off(tried);
            let whole = Duration::from_millis(whole);
            assert!(wait >= whole / 2 && wait <= whole, "{tried}: {wait:?}");
        }
        let waits: std::collections::BTreeSet<_> = (0..20).map(|_| policy.back_off(5)).collect();
        assert!(waits.len() > 1);
    }

    #[test]
    fn a_budget_is_spent_and_earned_back() {
        let budget = Budget::new(1);
        assert!(budget.take());
        assert!(!budget.take());
        (0..5).for_each(|_| budget.answered());
        assert!(budget.take());
        (0..100).for_each(|_| budget.answered());
        assert!(budget.take());
        assert!(!budget.take(), "no more than the budget is saved up");
    }
}
