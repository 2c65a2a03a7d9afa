//! Intent: what the customer wanted, as a ring and by month. The single requests have a panel of their own.

use maud::{Markup, html};

use super::{Subject, legend, nothing, numbers, panel, show};
use crate::pages::charts::{
    columns::{Column, columns},
    intent_parts,
    ring::ring,
};

pub fn intent(subject: &Subject) -> Markup {
    let intent = &subject.document.intent;
    let counts = intent.distribution;
    let parts = intent_parts(counts.complaint, counts.purchase, counts.request, counts.other);
    let months: Vec<Column> = intent
        .series
        .iter()
        .map(|p| Column {
            name: show::month(&p.bucket),
            parts: intent_parts(p.complaint, p.purchase, p.request, p.other).to_vec(),
        })
        .collect();
    panel(
        "intent",
        "Intent",
        "What the customer wanted: each message has one intent.",
        html! {
            @if months.is_empty() {
                (nothing("No message with an intent in this period."))
            } @else {
                div .ring-and-legend {
                    (ring("intent-ring", "Intent of all messages", "messages", &parts))
                    (legend(subject, "intent", "Messages by intent", &parts))
                }
                div .chart-and-facts {
                    (columns("intent-months", "Intent by month", &months))
                    dl .facts {
                        dt { "Still open" }
                        dd { a href="#requests" { (intent.open_total) " complaints and requests" } }
                    }
                }
                (numbers(
                    "Numbers by month",
                    &["complaint", "purchase", "request", "other"],
                    intent.series.iter().map(|p| {
                        (p.bucket.as_str(), vec![p.complaint, p.purchase, p.request, p.other])
                    }),
                ))
            }
        },
    )
}
