//! Deals: what was said before and after the decisive stage, whether the mood turned, and why a deal was won or lost.

use maud::{Markup, html};

use super::{Subject, nothing, panel, show, theirs};
use crate::insight::document::{Deal, DealOutcome, DealSide};
use crate::pages::charts::balance::balance;
use crate::scores::Label;

pub fn deals(subject: &Subject) -> Markup {
    let deals = &subject.document.deals;
    panel(
        "deals",
        "Deals",
        "What was said before and after the decisive stage, and why deals were won or lost.",
        html! {
            @if deals.is_empty() {
                (nothing("No deal is connected with this record."))
            } @else {
                div .deals { @for deal in deals { (one(subject, deal)) } }
            }
        },
    )
}

fn one(subject: &Subject, deal: &Deal) -> Markup {
    html! {
        article .deal {
            h3 {
                a href=(subject.evidence("deals", &deal.deal_id)) { (theirs(&deal.deal_id)) } " "
                span class={ "outcome " (outcome(deal.outcome)) } { (outcome(deal.outcome)) }
                @if let Some(amount) = deal.amount { " " span .small { (show::amount(amount)) } }
            }
            p .small {
                @for (i, transition) in deal.transitions.iter().enumerate() {
                    @if i > 0 { " → " } (theirs(&show::words(&transition.to))) " " (show::day(transition.at))
                }
            }
            @if let Some(flip) = &deal.flip {
                p .flip {
                    strong { "The mood turned from " (show::words(&flip.type_)) "." }
                    @if !flip.advice.is_empty() { " " (show::capital(&show::words(&flip.advice))) "." }
                    @if let Some(note) = &flip.note { span .note { " " (show::words(note)) } }
                }
            }
            div .before-after {
                (side("Before", &deal.before))
                (side("After", &deal.after))
            }
            @if !deal.reasons.is_empty() {
                table .reasons {
                    caption { "Why" }
                    thead { tr { th scope="col" { "Reason" } th scope="col" { "Known from" } th .number scope="col" { "Count" } } }
                    tbody {
                        @for reason in &deal.reasons {
                            tr {
                                th .words scope="row" { (theirs(&reason.keyword)) }
                                td { @if reason.from == "stage" { "given at the stage" } @else { "said in messages" } }
                                td .number { (reason.count) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn side(name: &str, side: &DealSide) -> Markup {
    html! {
        div {
            h4 { (name) " " span .small { (show::counted(side.responses, "message")) } }
            @if let Some(net) = side.net_sentiment { (balance(name, net)) p { "net " (show::net(net)) } }
            ul .tags {
                @for keyword in &side.keywords {
                    li {
                        @if let Some(sentiment) = keyword.sentiment {
                            span class={ "tone " (sentiment.name()) } aria-hidden="true" {
                                (show::sign(sentiment.name())) } " "
                        }
                        (theirs(&keyword.keyword)) " " span .small { (keyword.count) "×" }
                    }
                }
            }
        }
    }
}

fn outcome(outcome: DealOutcome) -> &'static str {
    match outcome {
        DealOutcome::Open => "open",
        DealOutcome::Won => "won",
        DealOutcome::Lost => "lost",
    }
}
