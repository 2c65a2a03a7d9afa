//! The journey: conversations that escalated, the effort it takes to be heard, and how contacts went.

use maud::{Markup, html};

use super::{Subject, nothing, panel, show, theirs};

pub fn journey(subject: &Subject) -> Markup {
    let journey = &subject.document.journey;
    let (effort, operations) = (&journey.effort, &subject.document.ops);
    let empty = journey.escalation.is_empty() && effort.contacts_per_response.is_none() && operations.n == 0;
    panel(
        "journey",
        "Journey",
        "What it takes the customer to be heard, and conversations that turned sour.",
        html! {
            @if empty {
                (nothing("No conversation in this period."))
            } @else {
                dl .facts {
                    @if let Some(contacts) = effort.contacts_per_response {
                        dt { "Contacts per conversation" } dd { (format!("{contacts:.1}")) }
                    }
                    dt { "Conversations of several contacts" } dd { (effort.repeated) }
                    dt { "Over several channels" } dd { (effort.channel_switches) }
                    @if operations.n > 0 {
                        dt { "Measured contacts" } dd { (operations.n) }
                        @if let Some(wait) = operations.wait_s_mean { dt { "Waiting, on average" } dd { (minutes(wait)) } }
                        @if let Some(handle) = operations.handle_s_mean { dt { "Handling, on average" } dd { (minutes(handle)) } }
                        @if let Some(pct) = operations.resolved_pct { dt { "Resolved" } dd { (show::percent(pct)) } }
                        @if let (Some(resolved), Some(open)) =
                            (operations.negative_pct_resolved, operations.negative_pct_unresolved) {
                            dt { "Negative when resolved, when not" }
                            dd { (show::percent(resolved)) ", " (show::percent(open)) }
                        }
                    }
                }
                @if !journey.escalation.is_empty() {
                    h3 { "Escalated" }
                    div .scroll {
                        table {
                            thead {
                                tr {
                                    th scope="col" { "Conversation" } th .number scope="col" { "Contacts" }
                                    th scope="col" { "Mood" } th scope="col" { "Since" }
                                }
                            }
                            tbody {
                                @for row in &journey.escalation {
                                    tr {
                                        th scope="row" { a href=(subject.evidence("journey", &row.thread_id)) { (theirs(&row.thread_id)) }
                                            " " span .small { (row.channels.join(", ")) } }
                                        td .number { (row.contacts) }
                                        td .nowrap { (show::net(row.net_from)) " → " (show::net(row.net_to)) }
                                        td .nowrap { (show::day(row.since)) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        },
    )
}

/// Seconds as `16:42`, minutes and seconds.
fn minutes(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}:{:02} min", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn seconds_are_written_as_minutes() {
        assert_eq!(super::minutes(1001.6), "16:42 min");
        assert_eq!(super::minutes(5.0), "0:05 min");
    }
}
