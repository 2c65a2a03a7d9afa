//! Competitors that the customer mentions: how often, with which keywords, which side they lean to, and the risk.

use maud::{Markup, html};

use super::{Subject, keywords::mood, nothing, panel, show, theirs};
use crate::insight::document::CompetitorRow;
use crate::pages::charts::{balance::balance, interval::interval};

pub fn competitors(subject: &Subject) -> Markup {
    let rows = &subject.document.competitors.rows;
    panel(
        "competitors",
        "Competitors",
        "Mentions on any channel, in any script, of the competitors that are configured.",
        html! {
            @if rows.is_empty() {
                (nothing("No configured competitor was mentioned in this period."))
            } @else {
                @for row in rows { (competitor(subject, row)) }
            }
        },
    )
}

fn competitor(subject: &Subject, row: &CompetitorRow) -> Markup {
    html! {
        article .competitor {
            h3 { a href=(subject.evidence("competitors", &row.competitor)) { (theirs(&row.competitor)) } }
            p {
                (show::counted(row.mentions, "mention")) " in " (show::counted(row.responses, "message"))
                @if let Some(at) = row.last_mentioned_at { ", the last on " (show::day(at)) }
            }
            (mood(&row.competitor, &row.sentiment))
            dl .sides {
                (side("Toward them", row.stance.competitor))
                (side("Toward us", row.stance.us))
                dt { "Risk of loss" }
                dd {
                    (interval("Risk of loss in percent", Some(row.switch_risk.p * 100.0),
                        row.switch_risk.ci95.map(|end| end * 100.0), [0.0, 100.0]))
                    span {
                        (show::percent(row.switch_risk.p * 100.0)) " "
                        span .small { "(" (row.switch_risk.leaning) " of " (row.switch_risk.n) " lean away; 95 % between "
                            (format!("{:.0}", row.switch_risk.ci95[0] * 100.0)) " and "
                            (format!("{:.0}", row.switch_risk.ci95[1] * 100.0)) ")" }
                    }
                }
            }
            @if !row.keywords.is_empty() {
                p .small { "Mentioned together with" }
                ul .tags {
                    @for keyword in &row.keywords {
                        li {
                            a href=(subject.evidence("keywords", &keyword.keyword)) { (theirs(&keyword.keyword)) }
                            " " span .small { (keyword.count) "×" }
                        }
                    }
                }
            }
        }
    }
}

fn side(name: &str, value: Option<f64>) -> Markup {
    html! {
        dt { (name) }
        dd {
            @if let Some(value) = value { (balance(name, value)) (show::net(value)) }
            @else { span .small { "nothing said" } }
        }
    }
}
