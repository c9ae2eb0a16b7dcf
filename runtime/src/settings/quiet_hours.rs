//! The hours in which nothing is said aloud: `22:00-07:00`, by the device's own time zone.

use jiff::civil::Time;

/// A span of the day; it may pass midnight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuietHours {
    from: Time,
    to: Time,
}

impl QuietHours {
    /// Reads `HH:MM-HH:MM`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "two times of the day such as `22:00-07:00` are allowed".to_owned();
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let time = |text: &str| {
            let (hour, minute) = text.trim().split_once(':').ok_or_else(wrong)?;
            Time::new(hour.parse().map_err(|_| wrong())?, minute.parse().map_err(|_| wrong())?, 0, 0)
                .map_err(|_| wrong())
        };
        let (from, to) = (time(from)?, time(to)?);
        if from == to {
            Err("the hours begin and end at the same time".into())
        } else {
            Ok(Self { from, to })
        }
    }

    /// Whether the time of day lies in them; the end does not.
    pub fn hold(&self, now: Time) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&now)
        } else {
            now >= self.from || now < self.to
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_may_pass_midnight() {
        let at = |hour, minute| Time::new(hour, minute, 0, 0).unwrap();
        let night = QuietHours::parse("22:00-07:30").unwrap();
        for (time, quiet) in
            [(at(21, 59), false), (at(22, 0), true), (at(0, 0), true), (at(7, 29), true), (at(7, 30), false)]
        {
            assert_eq!(night.hold(time), quiet, "{time}");
        }
        let noon = QuietHours::parse("12:00 - 13:00").unwrap();
        assert!(noon.hold(at(12, 30)) && !noon.hold(at(13, 0)) && !noon.hold(at(0, 0)));
        for bad in ["", "22", "22:00", "25:00-07:00", "22:00-22:00", "a:b-c:d"] {
            assert!(QuietHours::parse(bad).is_err(), "{bad}");
        }
    }
}
