//! Which part of a history a document shows: the days of its window and the moment up to which it knows.

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};

/// Days of the window that is served where none is asked for.
pub const WINDOW_DAYS_DEFAULT: i64 = 90;
/// Longest window in days that can be asked for by number (`all` has no bound).
pub const WINDOW_DAYS_MAX: i64 = 36_500;

/// A window of days in UTC and an optional moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// First day; `None` takes everything.
    pub from: Option<Date>,
    /// Last day, inside.
    pub to: Date,
    /// The document as it would have been then: only events up to this moment.
    pub as_of: Option<Timestamp>,
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
        let as_of = as_of
            .map(|text| text.parse::<Timestamp>().map_err(|_| ViewError::AsOf(text.into())))
            .transpose()?;
        let today = day(as_of.unwrap_or(now));
        let Some(text) = window else { return Ok(Self::last_days(WINDOW_DAYS_DEFAULT, today, as_of)) };
        let unreadable = || ViewError::Window(text.into());
        if text == "all" {
            return Ok(View { from: None, to: today, as_of });
        }
        if let Some(days) = text.strip_suffix('d') {
            let days: i64 = days.parse().map_err(|_| unreadable())?;
            if !(1..=WINDOW_DAYS_MAX).contains(&days) {
                return Err(unreadable());
            }
            return Ok(Self::last_days(days, today, as_of));
        }
        let (from, to) = text.split_once('/').ok_or_else(unreadable)?;
        let (from, to): (Date, Date) =
            (from.parse().map_err(|_| unreadable())?, to.parse().map_err(|_| unreadable())?);
        if to < from {
            return Err(ViewError::Backwards(text.into()));
        }
        Ok(View { from: Some(from), to, as_of })
    }

    fn last_days(days: i64, today: Date, as_of: Option<Timestamp>) -> View {
        // Cannot overflow within the limits of days, except at the beginning of the calendar.
        View { from: Some(today.saturating_sub(days.days())), to: today, as_of }
    }

    /// Whether the document knows of something that happened at `time`.
    pub fn knows(&self, time: Timestamp) -> bool {
        self.as_of.is_none_or(|as_of| time <= as_of)
    }

    /// Whether the panels count something that happened at `time`.
    pub fn shows(&self, time: Timestamp) -> bool {
        self.knows(time)
            && self.from.is_none_or(|from| {
                let day = day(time);
                from <= day && day <= self.to
            })
    }

    /// The moment at which labels are judged: `as_of`, or the end of the last day.
    pub fn end(&self) -> Timestamp {
        self.as_of.unwrap_or_else(|| {
            let next = self.to.saturating_add(1.day());
            TimeZone::UTC.to_timestamp(next.at(0, 0, 0, 0)).unwrap_or(Timestamp::MAX)
        })
    }
}

/// The day of a moment, in UTC.
pub fn day(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}
