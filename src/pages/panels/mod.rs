//! The panels of a record's page, one file each: from a part of the document to a section of the page.
//!
//! A panel shows what the document says and counts nothing itself. Charts are beside a table with the same numbers, and
//! each number leads to the interactions behind it.

pub mod alarms;

pub mod highlights;

pub mod sentiment;

pub mod intent;

pub mod requests;

pub mod keywords;

pub mod competitors;

pub mod channels;

pub mod conversion;

pub mod deals;

pub mod profile;

pub mod metrics;

pub mod journey;

pub mod causes;

pub mod signals;

use maud::{Markup, html};

use super::charts::{Part, share_pct, total};
use super::{links, show};
use crate::insight::document::Document;
use crate::insight::event::RecordKey;

/// The record that a page is about, and its document.
pub struct Subject<'a> {
    pub key: RecordKey,
    pub document: &'a Document,
}

impl<'a> Subject<'a> {
    pub fn new(document: &'a Document) -> Self {
        let key = RecordKey { module: document.record.module.clone(), id: document.record.id.clone() };
        Self { key, document }
    }

    /// Where the interactions behind a row of `panel` are shown.
    pub fn evidence(&self, panel: &str, item: &str) -> String {
        links::evidence(&self.key, panel, Some(item))
    }

    /// A count that leads to its evidence, where there is any.
    pub fn count(&self, panel: &str, item: &str, count: u64) -> Markup {
        html! {
            @if count > 0 {
                a .count href=(self.evidence(panel, item)) { (count) }
            } @else { (count) }
        }
    }
}

/// A section of the page. `about` says in a sentence what the reader sees.
pub fn panel(id: &str, title: &str, about: &str, body: Markup) -> Markup {
    html! {
        section .panel id=(id) aria-labelledby={ (id) "-h" } {
            h2 id={ (id) "-h" } { (title) }
            p .about { (about) }
            (body)
        }
    }
}

/// What stands in a panel that has nothing to show, and what would fill it.
pub fn nothing(text: &str) -> Markup {
    html! { p .nothing { (text) } }
}

/// A chart's legend that is its table as well: sign, name, count, share.
pub fn legend(subject: &Subject, panel: &str, caption: &str, parts: &[Part]) -> Markup {
    let whole = total(parts);
    html! {
        table .legend {
            caption .visually-hidden { (caption) }
            thead .visually-hidden { tr { th scope="col" { "Kind" } th scope="col" { "Count" } th scope="col" { "Share" } } }
            tbody {
                @for part in parts {
                    tr {
                        th scope="row" { span class={ "swatch " (part.class) } aria-hidden="true" {} (part.name) }
                        td .number { (subject.count(panel, part.name, part.count)) }
                        td .number { (show::percent(share_pct(part.count, whole))) }
                    }
                }
            }
        }
    }
}

/// The numbers of a chart over time, folded away: month, then a count for each part.
pub fn numbers<'a>(summary: &str, heads: &[&str], rows: impl Iterator<Item = (&'a str, Vec<u64>)>) -> Markup {
    html! {
        details .numbers {
            summary { (summary) }
            div .scroll {
                table {
                    thead { tr { th scope="col" { "Month" } @for head in heads { th .number scope="col" { (head) } } } }
                    tbody {
                        @for (month, counts) in rows {
                            tr { th scope="row" { (show::month(month)) } @for count in counts { td .number { (count) } } }
                        }
                    }
                }
            }
        }
    }
}

/// A customer's or a CRM's own words: their direction is their own.
pub fn theirs(text: &str) -> Markup {
    html! { bdi dir="auto" { (text) } }
}
