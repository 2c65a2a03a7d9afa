//! Sentiment and intent by channel, and channels that are used for something else than intended.

use maud::{Markup, html};

use super::{Subject, nothing, panel, show, theirs};
use crate::pages::charts::{Part, intent_parts, sentiment_parts, share::share_bar, total};
use crate::scores::Label;

pub fn sentiment_by_channel(subject: &Subject) -> Markup {
    let rows = &subject.document.sentiment_by_channel;
    panel(
        "sentiment-by-channel",
        "Sentiment by channel",
        "Where the customer is pleased, and where not.",
        html! {
            @if rows.is_empty() {
                (nothing("No message with a sentiment in this period."))
            } @else {
                (table(subject, "sentiment_by_channel", rows.iter().map(|row| Row {
                    channel: &row.channel,
                    parts: sentiment_parts(row.positive, row.neutral, row.negative).to_vec(),
                    note: html! {},
                }).collect()))
            }
        },
    )
}

pub fn intent_by_channel(subject: &Subject) -> Markup {
    let rows = &subject.document.intent_by_channel;
    panel(
        "intent-by-channel",
        "Intent by channel",
        "What each channel is used for. Off purpose: used for something else than it is meant for.",
        html! {
            @if rows.is_empty() {
                (nothing("No message with an intent in this period."))
            } @else {
                (table(subject, "intent_by_channel", rows.iter().map(|row| Row {
                    channel: &row.channel,
                    parts: intent_parts(row.complaint, row.purchase, row.request, row.other).to_vec(),
                    note: html! {
                        @if let (Some(intended), Some(pct)) = (row.intended, row.off_purpose_pct) {
                            span .small { "meant for " (intended.name()) ", " (show::percent(pct)) " off purpose" }
                        }
                    },
                }).collect()))
            }
        },
    )
}

struct Row<'a> {
    channel: &'a str,
    parts: Vec<Part>,
    note: Markup,
}

fn table(subject: &Subject, panel: &str, rows: Vec<Row>) -> Markup {
    let names: Vec<&Part> = rows.first().map(|row| row.parts.iter().collect()).unwrap_or_default();
    html! {
        div .scroll {
            table .channels {
                thead {
                    tr {
                        th scope="col" { "Channel" }
                        th scope="col" { span .visually-hidden { "Shares" } }
                        @for part in names {
                            th .number scope="col" { span class={ "swatch " (part.class) } aria-hidden="true" {} (part.name) }
                        }
                    }
                }
                tbody {
                    @for row in &rows {
                        tr {
                            th scope="row" { a href=(subject.evidence(panel, row.channel)) { (theirs(row.channel)) } " "
                                span .small { (total(&row.parts)) } }
                            td .bar { (share_bar(row.channel, &row.parts)) (row.note) }
                            @for part in &row.parts { td .number { (part.count) } }
                        }
                    }
                }
            }
        }
    }
}
