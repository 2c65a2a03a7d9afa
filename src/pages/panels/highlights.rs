//! Highlights: how many messages are positive, neutral and negative, as shares of all with their intervals.

use maud::{Markup, html};

use super::{Subject, nothing, panel, show};
use crate::pages::charts::{sentiment_parts, share::share_bar};

pub fn highlights(subject: &Subject) -> Markup {
    let highlights = &subject.document.highlights;
    let shares = &highlights.sentiment;
    let parts = sentiment_parts(shares.positive.count, shares.neutral.count, shares.negative.count);
    panel(
        "highlights",
        "Highlights",
        "All that the customer said in this period, across channels.",
        html! {
            @if highlights.total == 0 {
                (nothing("Nothing was said in this period. A longer window may show more."))
            } @else {
                dl .figures {
                    div {
                        dt { "messages" }
                        dd .big { (highlights.total) }
                        dd .small { "in " (show::counted(subject.document.sentiment.unique_responses, "conversation")) }
                    }
                    @for (part, share) in parts.iter().zip([&shares.positive, &shares.neutral, &shares.negative]) {
                        div {
                            dt { span class={ "tone " (part.class) } aria-hidden="true" { (show::sign(part.class)) } " " (part.name) }
                            dd .big { (subject.count("highlights", part.name, share.count)) }
                            dd { (show::percent(share.pct)) " " (show::interval(share.ci95)) }
                        }
                    }
                }
                div .wide-bar { (share_bar("Share of all messages", &parts)) }
            }
            (coverage(subject))
        },
    )
}

/// What the numbers rest on, and what they leave out.
fn coverage(subject: &Subject) -> Markup {
    let coverage = &subject.document.meta.coverage;
    html! {
        p .small .coverage {
            (show::counted(coverage.survey_answers, "survey answer")) ", "
            (show::counted(coverage.outbound, "message")) " from the company"
            @if coverage.unscored > 0 { ", " (show::counted(coverage.unscored, "message")) " not read by a model yet" }
            @if !coverage.behaviour.is_empty() {
                "; observed: "
                @for (i, (kind, count)) in coverage.behaviour.iter().enumerate() {
                    @if i > 0 { ", " } (show::words(kind)) " " (count) "×"
                }
            }
            "."
        }
    }
}
