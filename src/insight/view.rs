//! Which part of a history a document shows: the days of its window and the moment up to which it knows.

use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date, tz::TimeZone};

/// Days of the window that is served where none is asked for.
pub const WINDOW_DAYS_DEFAULT: i64 = 90;
/// Longest window in days that can be asked for by number (`all` has no bound).
pub const WINDOW_DAYS_MAX: i64 = 36_500;

/// A window of days in a time zone and an optional moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// First day; `None` takes everything.
    pub from: Option<Date>,
    /// Last day, inside.
    pub to: Date,
    /// The document as it would have been then: only events up to this moment.
    pub as_of: Option<Timestamp>,
    /// Whose days and months are meant.
    pub zone: TimeZone,
}

/// Why a view cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    #[error("window {0:?} is neither a number of days (90d), nor `all`, nor FROM/TO (2026-01-01/2026-03-01)")]
    Window(String),
    #[error("window {0:?} ends before it begins")]
    Backwards(String),
    #[error("as_of {0:?} is not an RFC 3339 time (2026-03-01T12:00:00Z)")]
    AsOf(String),
}

impl View {
    /// Reads the query parameters. Without `window` the last [`WINDOW_DAYS_DEFAULT`] days, counted back from `as_of` or
    /// `now`.
    pub fn parse(window: Option<&str>, as_of: Option<&str>, now: Timestamp) -> Result<View, ViewError> {
        Self::parse_in(window, as_of, TimeZone::UTC, now)
    }

    /// [`View::parse`] by the days of a time zone.
    pub fn parse_in(
        window: Option<&str>,
        as_of: Option<&str>,
        zone: TimeZone,
        now: Timestamp,
    ) -> Result<View, ViewError> {
        let as_of = as_of
            .map(|text| text.parse::<Timestamp>().map_err(|_| ViewError::AsOf(text.into())))
            .transpose()?;
        let today = day_in(as_of.unwrap_or(now), &zone);
        let Some(text) = window else { return Ok(Self::last_days(WINDOW_DAYS_DEFAULT, today, as_of, zone)) };
        let unreadable = || ViewError::Window(text.into());
        if text == "all" {
            return Ok(View { from: None, to: today, as_of, zone });
        }
        if let Some(days) = text.strip_suffix('d') {
            let days: i64 = days.parse().map_err(|_| unreadable())?;
            if !(1..=WINDOW_DAYS_MAX).contains(&days) {
                return Err(unreadable());
            }
            return Ok(Self::last_days(days, today, as_of, zone));
        }
        let (from, to) = text.split_once('/').ok_or_else(unreadable)?;
        let (from, to): (Date, Date) =
            (from.parse().map_err(|_| unreadable())?, to.parse().map_err(|_| unreadable())?);
        if to < from {
            return Err(ViewError::Backwards(text.into()));
        }
        Ok(View { from: Some(from), to, as_of, zone })
    }

    fn last_days(days: i64, today: Date, as_of: Option<Timestamp>, zone: TimeZone) -> View {
        // Cannot overflow within the limits of days, except at the beginning of the calendar.
        View { from: Some(today.saturating_sub(days.days())), to: today, as_of, zone }
    }

    /// Whether the document knows of something that happened at `time`.
    pub fn knows(&self, time: Timestamp) -> bool {
        self.as_of.is_none_or(|as_of| time <= as_of)
    }

    /// Whether the panels count something that happened at `time`.
    pub fn shows(&self, time: Timestamp) -> bool {
        self.knows(time)
            && self.from.is_none_or(|from| {
                let day = day_in(time, &self.zone);
                from <= day && day <= self.to
            })
    }

    /// When a day begins; `None` at the end of the calendar.
    pub fn midnight(&self, day: Date) -> Option<Timestamp> {
        self.zone.to_timestamp(day.at(0, 0, 0, 0)).ok()
    }

    /// What the time zone is called.
    pub fn zone_name(&self) -> String {
        self.zone.iana_name().unwrap_or("UTC").to_owned()
    }

    /// Labels are judged by what happened before this moment: just after `as_of`, or the end of the last day.
    pub fn end(&self) -> Timestamp {
        let end = match self.as_of {
            Some(as_of) => as_of.checked_add(SignedDuration::from_nanos(1)).ok(),
            None => self.to.tomorrow().ok().and_then(|day| self.midnight(day)),
        };
        end.unwrap_or(Timestamp::MAX)
    }
}

/// The day of a moment in a time zone.
pub fn day_in(time: Timestamp, zone: &TimeZone) -> Date {
    zone.to_datetime(time).date()
}

/// The day of a moment, in UTC.
pub fn day(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(window: Option<&str>, as_of: Option<&str>, expected: Result<(&str, &str), &str>) {
        let now = "2026-03-02T09:14:07Z".parse().unwrap();
        let found = View::parse(window, as_of, now);
        let found = found
            .map(|v| (v.from.map_or("all".into(), |d| d.to_string()), v.to.to_string()))
            .map_err(|e| e.to_string());
        let expected =
            expected.map(|(from, to)| (from.to_string(), to.to_string())).map_err(|e| e.to_string());
        assert_eq!(found, expected);
    }

    #[test]
    fn windows_as_asked_for() {
        check(None, None, Ok(("2025-12-02", "2026-03-02")));
        check(Some("30d"), None, Ok(("2026-01-31", "2026-03-02")));
        check(Some("all"), None, Ok(("all", "2026-03-02")));
        check(Some("2026-01-01/2026-03-01"), None, Ok(("2026-01-01", "2026-03-01")));
        check(Some("30d"), Some("2026-02-01T00:00:00+02:00"), Ok(("2026-01-01", "2026-01-31")));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let form = "is neither a number of days (90d), nor `all`, nor FROM/TO (2026-01-01/2026-03-01)";
        for window in ["", "90", "0d", "-3d", "x/y", "99999999d"] {
            check(Some(window), None, Err(&format!("window {window:?} {form}")));
        }
        check(
            Some("2026-03-01/2026-01-01"),
            None,
            Err("window \"2026-03-01/2026-01-01\" ends before it begins"),
        );
        check(
            None,
            Some("yesterday"),
            Err("as_of \"yesterday\" is not an RFC 3339 time (2026-03-01T12:00:00Z)"),
        );
    }

    #[test]
    fn days_are_those_of_the_time_zone() {
        let zone = TimeZone::get("Asia/Tokyo").unwrap();
        let now = "2026-03-02T20:00:00Z".parse().unwrap();
        let view = View::parse_in(Some("2026-03-03/2026-03-03"), None, zone.clone(), now).unwrap();
        assert!(view.shows(now) && !view.shows("2026-03-02T14:59:59Z".parse().unwrap()));
        assert_eq!(view.end(), "2026-03-03T15:00:00Z".parse().unwrap());
        assert_eq!(View::parse_in(None, None, zone, now).unwrap().to, jiff::civil::date(2026, 3, 3));
        assert_eq!(
            (view.zone_name(), View::parse(None, None, now).unwrap().zone_name()),
            ("Asia/Tokyo".into(), "UTC".into())
        );
    }

    #[test]
    fn the_last_day_and_the_moment_itself_are_inside() {
        let view = View::parse(Some("2026-01-01/2026-03-01"), None, Timestamp::UNIX_EPOCH).unwrap();
        assert!(view.shows("2026-03-01T23:59:59.999Z".parse().unwrap()));
        assert!(!view.shows("2026-03-02T00:00:00Z".parse().unwrap()));
        assert!(view.shows("2026-01-01T00:00:00Z".parse().unwrap()));
        let as_of = "2026-03-01T12:00:00Z";
        let view = View::parse(None, Some(as_of), Timestamp::UNIX_EPOCH).unwrap();
        assert!(view.shows(as_of.parse().unwrap()) && as_of.parse::<Timestamp>().unwrap() < view.end());
    }
}
