//! Which part of a history a reader asks for: the query parameters of a document and of its evidence.

use jiff::{Timestamp, tz::TimeZone};

use super::{PipelineError, ViewQuery};
use crate::insight::view::View;

impl ViewQuery {
    /// Reads the parameters; days are those of `tz`, an IANA name, or else of UTC.
    pub(super) fn view(&self, now: Timestamp) -> Result<View, PipelineError> {
        View::parse_in(self.window.as_deref(), self.as_of.as_deref(), self.zone()?, now)
            .map_err(|error| PipelineError::Query(error.to_string()))
    }

    fn zone(&self) -> Result<TimeZone, PipelineError> {
        match self.tz.as_deref() {
            None | Some("UTC" | "Z") => Ok(TimeZone::UTC),
            Some(name) => TimeZone::get(name).map_err(|_| {
                PipelineError::Query(format!(
                    "tz {name:?} is not a time zone of the IANA database (Europe/Berlin, Asia/Shanghai, UTC)"
                ))
            }),
        }
    }

    /// Whether nothing was asked for.
    pub(super) fn is_default(&self) -> bool {
        *self == ViewQuery::default()
    }
}
