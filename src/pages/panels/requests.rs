//! What was asked for, when, on which channel, and whether it was resolved.

use maud::{Markup, html};

use super::{Subject, links, nothing, panel, show, theirs};
use crate::insight::document::IntentItem;
use crate::scores::{Intent, Label};

/// Rows that stand open; the others are one click away.
const ROWS_OPEN: usize = 10;

pub fn requests(subject: &Subject) -> Markup {
    let intent = &subject.document.intent;
    let (first, more) = intent.items.split_at(intent.items.len().min(ROWS_OPEN));
    panel(
        "requests",
        "What was asked for",
        "Complaints, purchases and requests, newest first.",
        html! {
            @if first.is_empty() {
                (nothing("No complaint, purchase or request in this period."))
            } @else {
                (table(subject, first))
                @if !more.is_empty() {
                    details { summary { "Show " (more.len()) " more" } (table(subject, more)) }
                }
                @if intent.items_total as usize > intent.items.len() {
                    p .small { "The newest " (intent.items.len()) " of " (intent.items_total) "." }
                }
            }
        },
    )
}

fn table(subject: &Subject, items: &[IntentItem]) -> Markup {
    html! {
        div .scroll {
            table {
                thead {
                    tr {
                        th scope="col" { "When" } th scope="col" { "What" } th scope="col" { "Intent" }
                        th scope="col" { "Channel" } th scope="col" { "State" }
                    }
                }
                tbody {
                    @for item in items {
                        tr {
                            td .nowrap { (show::day(item.at)) }
                            td .words { a href={ (subject.evidence("intent", item.intent.name())) "#" (links::encode(&item.id)) } { (theirs(&item.summary)) } }
                            td .nowrap {
                                (show::intent(item.intent)) " "
                                span .small { (show::percent(item.confidence * 100.0)) }
                            }
                            td { (theirs(&item.channel)) }
                            td .nowrap { (state(item)) }
                        }
                    }
                }
            }
        }
    }
}

fn state(item: &IntentItem) -> Markup {
    html! {
        @if item.resolved {
            span .done { "✓ resolved" }
            @if let Some(at) = item.resolved_at { " " span .small { (show::day(at)) } }
        } @else if item.intent == Intent::Purchase {
            span .small { "–" }
        } @else {
            span .open { "○ open" }
        }
    }
}
