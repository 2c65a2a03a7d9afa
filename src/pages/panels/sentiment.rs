//! Overall sentiment: the ring, its months, when the last negative was, and what moved.

use maud::{Markup, html};

use super::{Subject, legend, nothing, numbers, panel, show, theirs};
use crate::insight::document::{Change, SentimentPoint};
use crate::pages::charts::{
    columns::{Column, columns},
    ring::ring,
    sentiment_parts,
};

pub fn sentiment(subject: &Subject) -> Markup {
    let sentiment = &subject.document.sentiment;
    let counts = sentiment.distribution;
    let parts = sentiment_parts(counts.positive, counts.neutral, counts.negative);
    panel(
        "sentiment",
        "Sentiment",
        "How the customer feels, and how that changed.",
        html! {
            @if sentiment.series.is_empty() {
                (nothing("No message with a sentiment in this period."))
            } @else {
                div .ring-and-legend {
                    (ring("sentiment-ring", "Sentiment of all messages", "messages", &parts))
                    (legend(subject, "sentiment", "Messages by sentiment", &parts))
                }
                @if let Some(change) = &sentiment.change { (movement(change)) }
                div .chart-and-facts {
                    (columns("sentiment-months", "Sentiment by month", &months(&sentiment.series)))
                    dl .facts {
                        dt { "Conversations" }
                        dd { (sentiment.unique_responses) }
                        dt { "Last negative" }
                        dd {
                            @if let Some(at) = sentiment.last_negative_at { (show::day(at)) } @else { "none" }
                        }
                        dt { "Preferred channel" }
                        dd {
                            @if let Some(channel) = &sentiment.preferred_channel { (theirs(channel)) }
                            @else { "none" }
                        }
                    }
                }
                (numbers(
                    "Numbers by month",
                    &["positive", "neutral", "negative", "conversations"],
                    sentiment.series.iter().map(|p| {
                        (p.bucket.as_str(), vec![p.positive, p.neutral, p.negative, p.unique_responses])
                    }),
                ))
            }
        },
    )
}

fn months(series: &[SentimentPoint]) -> Vec<Column> {
    series
        .iter()
        .map(|p| Column {
            name: show::month(&p.bucket),
            parts: {
                // Negatives stand at the bottom, where their length is easiest to compare.
                let [positive, neutral, negative] = sentiment_parts(p.positive, p.neutral, p.negative);
                vec![negative, neutral, positive]
            },
        })
        .collect()
}

/// Above this p a movement may well be chance, and the page says so.
const CHANCE_P: f64 = 0.1;

fn movement(change: &Change) -> Markup {
    let arrow = match change.direction.as_str() {
        "up" => "↗ Better",
        "down" => "↘ Worse",
        _ => "→ Unchanged",
    };
    html! {
        p .movement {
            strong { (arrow) } " from " (show::month(&change.from)) " to " (show::month(&change.to)) ": net "
            (show::net(change.net_from)) " → " (show::net(change.net_to))
            @if let Some(p) = change.p {
                span .small { " (p = " (format!("{p:.2}")) @if p > CHANCE_P { ": may well be chance" } ")" }
            }
            @if !change.drivers.is_empty() {
                ". Driven by "
                @for (i, driver) in change.drivers.iter().enumerate() { @if i > 0 { ", " } (theirs(driver)) }
            }
            "."
            @if let Some(note) = &change.note { span .note { " " (show::words(note)) } }
        }
    }
}
