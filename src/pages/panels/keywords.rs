//! The keyword table: what the customer talks about, most recent first, with the sentiment of the mentions.

use maud::{Markup, html};

use super::{Subject, nothing, panel, show, theirs};
use crate::insight::document::{KeywordRow, MentionSentiment};
use crate::pages::charts::{sentiment_parts, share::share_bar};

/// Rows that stand open; the others are one click away.
const ROWS_OPEN: usize = 18;

pub fn keywords(subject: &Subject) -> Markup {
    let keywords = &subject.document.keywords;
    let (first, more) = keywords.rows.split_at(keywords.rows.len().min(ROWS_OPEN));
    panel(
        "keywords",
        "Keywords",
        "What the customer talks about, the most recent mention first.",
        html! {
            @if first.is_empty() {
                (nothing("No keyword in this period."))
            } @else {
                (table(subject, first))
                @if !more.is_empty() {
                    details { summary { "Show " (more.len()) " more" } (table(subject, more)) }
                }
                @if keywords.total as usize > keywords.rows.len() {
                    p .small { (keywords.rows.len()) " of " (keywords.total) " keywords, the most recent ones." }
                }
            }
        },
    )
}

fn table(subject: &Subject, rows: &[KeywordRow]) -> Markup {
    html! {
        div .scroll {
            table {
                thead {
                    tr {
                        th scope="col" { "Keyword" } th .number scope="col" { "Mentions" }
                        th scope="col" { "Sentiment" } th scope="col" { "Last mention" }
                    }
                }
                tbody {
                    @for row in rows {
                        tr {
                            th .words scope="row" { a href=(subject.evidence("keywords", &row.keyword)) { (theirs(&row.keyword)) } }
                            td .number { (row.mentions) }
                            td { (mood(&row.keyword, &row.sentiment)) }
                            td .nowrap { @if let Some(at) = row.last_mentioned_at { (show::day(at)) } }
                        }
                    }
                }
            }
        }
    }
}

/// The sentiment of mentions: the most frequent one, and the shares as a bar.
pub fn mood(name: &str, sentiment: &MentionSentiment) -> Markup {
    html! {
        div .mood {
            @if let Some(label) = sentiment.label {
                (show::tone(label))
                (share_bar(name, &sentiment_parts(sentiment.positive, sentiment.neutral, sentiment.negative)))
            } @else { span .small { "not known" } }
        }
    }
}
