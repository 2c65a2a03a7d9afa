//! Signals with their meaning and what to do, suggested actions, and watched phrases.

use maud::{Markup, html};

use super::{Subject, alarms, nothing, panel, show, theirs};

pub fn signals(subject: &Subject) -> Markup {
    let signals = &subject.document.signals;
    panel(
        "signals",
        "Signals",
        "What behaviour and words mean, and what to do about them.",
        html! {
            @if signals.is_empty() {
                (nothing("No signal in this period."))
            } @else {
                ul .signals {
                    @for signal in signals {
                        li {
                            p { strong { (show::capital(&show::words(&signal.type_))) } " " span .small {
                                (signal.count) "×, last " (show::day(signal.last_at)) } }
                            p { (signal.meaning) }
                            p { "→ " (signal.action) " " a href=(subject.evidence("signals", &signal.type_)) { "Evidence" } }
                        }
                    }
                }
            }
        },
    )
}

/// Alert rules that open cases of their own; other cases belong to a label.
const RULES: [&str; 4] = ["competitor_mentioned", "turned_negative", "critical_feedback", "watch_hit"];

pub fn actions(subject: &Subject) -> Markup {
    let actions = &subject.document.actions;
    panel(
        "actions",
        "Actions",
        "What should be done, by whom, and whether the customer was told.",
        html! {
            @if actions.is_empty() {
                (nothing("Nothing to do: no alarm is active."))
            } @else {
                div .scroll {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Action" } th scope="col" { "State" } th scope="col" { "Team" }
                                th scope="col" { "Due" } th scope="col" { "Customer told" }
                            }
                        }
                        tbody {
                            @for action in actions {
                                tr {
                                    th scope="row" { (show::capital(&show::words(&action.kind))) br;
                                        @if RULES.contains(&&*action.label) {
                                            span .small { (show::capital(&show::words(&action.label))) }
                                        } @else {
                                            a .small href=(subject.evidence("labels", &action.label)) { (alarms::name(&action.label)) }
                                        }
                                        @if let Some(note) = &action.note { br; span .small { (theirs(note)) } } }
                                    td { (show::words(&action.state)) }
                                    td {
                                        @if let Some(team) = &action.owner_team { (theirs(team)) } @else { "–" }
                                        @if let Some(person) = &action.assignee { br; span .small { (theirs(person)) } }
                                    }
                                    td .nowrap { @if let Some(at) = action.due_at { (show::day(at)) } @else { "–" } }
                                    td .nowrap { @if let Some(at) = action.customer_told_at { (show::day(at)) } @else { "–" } }
                                }
                            }
                        }
                    }
                }
            }
        },
    )
}

pub fn watch(subject: &Subject) -> Markup {
    let hits = &subject.document.watch.hits;
    panel(
        "watch",
        "Watched phrases",
        "Phrases of the watchlists that the customer used.",
        html! {
            @if hits.is_empty() {
                (nothing("No watched phrase in this period."))
            } @else {
                div .scroll {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Phrase" } th scope="col" { "List" } th .number scope="col" { "Uses" }
                                th .number scope="col" { "Conversations" } th scope="col" { "Last" }
                            }
                        }
                        tbody {
                            @for hit in hits {
                                tr {
                                    th .words scope="row" { a href=(subject.evidence("watch", &hit.phrase)) { (theirs(&hit.phrase)) } }
                                    td { (theirs(&hit.name)) " " span .small { (theirs(&hit.kind)) } }
                                    td .number { (hit.count) }
                                    td .number { (hit.reach) }
                                    td .nowrap { (show::day(hit.last_at)) }
                                }
                            }
                        }
                    }
                }
            }
        },
    )
}
