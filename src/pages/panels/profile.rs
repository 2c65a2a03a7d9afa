//! What this customer wants, feels and thinks of products, and whether they can still be won.

use maud::{Markup, html};

use super::{Subject, keywords::mood, nothing, panel, show, theirs};
use crate::pages::charts::balance::balance;

pub fn profile(subject: &Subject) -> Markup {
    let profile = &subject.document.profile;
    let empty = profile.needs.is_empty() && profile.opinions.is_empty() && profile.feeling.is_none();
    panel(
        "profile",
        "The customer",
        "What they want, how they feel, and what they think of the products.",
        html! {
            @if empty {
                (nothing("Not enough was said in this period."))
            } @else {
                dl .facts {
                    @if let Some(feeling) = profile.feeling {
                        dt { "Feels" } dd { (balance("Net sentiment", feeling)) (show::net(feeling)) }
                    }
                    @if let Some(stance) = &profile.stance {
                        dt { "Stance" }
                        dd { (show::words(stance)) @if let Some(basis) = &profile.stance_basis { " " span .small { "by " (if basis == "nps" { "the last NPS answer" } else { "sentiment" }) } } }
                    }
                    @if let Some(saveable) = profile.saveable {
                        dt { "Can be saved" } dd { @if saveable { "yes" } @else { "no" } }
                    }
                    @if let Some(value) = profile.value {
                        dt { "Won so far" } dd { (show::amount(value)) }
                    }
                }
                @if !profile.needs.is_empty() {
                    h3 { "Wants" }
                    ul .tags {
                        @for need in &profile.needs {
                            li { a href=(subject.evidence("keywords", &need.keyword)) { (theirs(&need.keyword)) }
                                " " span .small { (need.count) "×" } }
                        }
                    }
                }
                @if !profile.opinions.is_empty() {
                    h3 { "Thinks of" }
                    table {
                        thead .visually-hidden { tr { th scope="col" { "Product" } th scope="col" { "Sentiment" } } }
                        tbody {
                            @for opinion in &profile.opinions {
                                tr { th scope="row" { (theirs(&opinion.product)) } td { (mood(&opinion.product, &opinion.sentiment)) } }
                            }
                        }
                    }
                }
            }
        },
    )
}
