//! What pulls the mood up or down, and where the customer meets friction and what they did afterwards.

use maud::{Markup, html};

use super::{Subject, nothing, panel, show, theirs};
use crate::insight::document::Aftermath;

/// Most rows of each table: the strongest drivers, the worst places.
const ROWS_MAX: usize = 10;

pub fn drivers(subject: &Subject) -> Markup {
    let drivers = &subject.document.drivers;
    panel(
        "drivers",
        "Drivers",
        "Impact: share of messages times the difference that the theme makes. Below zero it pulls the mood down.",
        html! {
            @if drivers.is_empty() {
                (nothing("No theme stands out in this period."))
            } @else {
                div .scroll {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Theme" } th .number scope="col" { "Impact" } th .number scope="col" { "Messages" }
                                th .number scope="col" { "With" } th .number scope="col" { "Without" }
                            }
                        }
                        tbody {
                            @for driver in drivers.iter().take(ROWS_MAX) {
                                tr {
                                    th .words scope="row" { a href=(subject.evidence("drivers", &driver.theme)) { (theirs(&driver.theme)) }
                                        " " span .small { (show::words(&driver.kind)) } }
                                    td .number { (show::net(driver.impact)) }
                                    td .number { (driver.responses) }
                                    td .number { (show::signed(driver.mean_with)) }
                                    td .number { (show::signed(driver.mean_without)) }
                                }
                            }
                        }
                    }
                }
            }
        },
    )
}

pub fn friction(subject: &Subject) -> Markup {
    let friction = &subject.document.friction;
    panel(
        "friction",
        "Friction",
        "Where messages are negative, and what the customer did afterwards.",
        html! {
            @if friction.is_empty() {
                (nothing("No friction in this period."))
            } @else {
                div .scroll {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Place" } th .number scope="col" { "Negative" } th scope="col" { "Share" }
                                th scope="col" { "Afterwards" }
                            }
                        }
                        tbody {
                            @for place in friction.iter().take(ROWS_MAX) {
                                tr {
                                    th scope="row" { (theirs(&place.place)) " " span .small { (show::words(&place.kind)) } }
                                    td .number .nowrap { (subject.count("friction", &place.place, place.negatives)) " of " (place.responses) }
                                    td { (show::percent(place.negative_pct)) " " (show::interval(place.ci95)) }
                                    td { (aftermath(&place.aftermath)) }
                                }
                            }
                        }
                    }
                }
            }
        },
    )
}

fn aftermath(aftermath: &Aftermath) -> Markup {
    let counts = [
        (aftermath.contacted_again, "wrote again"),
        (aftermath.recovered, "recovered"),
        (aftermath.silent, "fell silent"),
        (aftermath.churned, "left"),
        (aftermath.purchased, "bought"),
    ];
    let said: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    html! {
        @if !said.is_empty() {
            (said.join(", ")) " " span .small { "within " (aftermath.within_days) " days" }
        }
    }
}
