//! How a lead became a contact: when, how fast, and what was talked about before.

use maud::{Markup, html};

use super::{Subject, nothing, panel, show, theirs};
use crate::insight::document::KeywordBefore;

pub fn conversion(subject: &Subject) -> Markup {
    let conversion = &subject.document.conversion;
    panel(
        "conversion",
        "Conversion",
        "From lead to contact, and what the lead talked about before.",
        html! {
            @match conversion.status.as_str() {
                "converted" => {
                    dl .figures {
                        div {
                            dt { "days to convert" }
                            dd .big { @if let Some(days) = conversion.days_to_convert { (format!("{days:.1}")) } @else { "?" } }
                            dd .small {
                                @if let Some(at) = conversion.at { "on " (show::day(at)) }
                                @if let Some(lead) = &conversion.lead_id { ", was lead " (theirs(lead)) }
                            }
                        }
                        div {
                            dt { "messages before" }
                            dd .big { (conversion.responses_before) }
                        }
                    }
                    (before(subject))
                }
                "open" => {
                    p { "An open lead, not converted yet." }
                    (before(subject))
                }
                _ => (nothing("This record did not come from a lead.")),
            }
        },
    )
}

/// Rows that stand open; the others are one click away.
const ROWS_OPEN: usize = 5;

fn before(subject: &Subject) -> Markup {
    let keywords = &subject.document.conversion.keywords_before;
    let (first, more) = keywords.split_at(keywords.len().min(ROWS_OPEN));
    html! {
        @if first.is_empty() {
            p .small { "No keywords before the conversion." }
        } @else {
            (table(subject, first))
            @if !more.is_empty() {
                details { summary { "Show " (more.len()) " more" } (table(subject, more)) }
            }
        }
    }
}

fn table(subject: &Subject, rows: &[KeywordBefore]) -> Markup {
    html! {
        div .scroll {
            table {
                thead {
                    tr {
                        th scope="col" { "Keyword before" } th .number scope="col" { "Messages" }
                        th scope="col" { "Sentiment" }
                    }
                }
                tbody {
                    @for row in rows {
                        tr {
                            th .words scope="row" {
                                a href=(subject.evidence("conversion", &row.keyword)) { (theirs(&row.keyword)) }
                            }
                            td .number { (row.count) }
                            td { @if let Some(sentiment) = row.sentiment { (show::tone(sentiment)) } }
                        }
                    }
                }
            }
        }
    }
}
