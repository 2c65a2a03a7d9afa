//! The first page: search, the list of records, and how the pipeline is doing.

use maud::{Markup, html};

use super::charts::balance::balance;
use super::panels::{alarms, nothing, theirs};
use super::{layout, links, show};
use crate::{
    insight::rules::LABELS,
    pipeline::{Health, Page, RecordQuery, RecordRow},
};

/// Modules that the filter offers; a CRM's own can be given in the address.
const MODULES: [&str; 4] = ["lead", "contact", "account", "deal"];

/// `host` is the address that the reader used, for the first event's command line.
pub fn page(query: &RecordQuery, rows: &Page<RecordRow>, health: &Health, host: &str) -> Markup {
    let filtered = query.search.is_some() || query.label.is_some() || query.module.is_some();
    let empty = rows.items.is_empty() && !filtered && query.cursor.is_none();
    layout::page(
        "Records",
        None,
        html! {
            h1 { "Records" }
            (condition(health))
            @if empty {
                (first_steps(host))
            } @else {
                (filter(query))
                @if rows.items.is_empty() {
                    (nothing("No record fits. Try another part of the id, or another filter."))
                } @else {
                    (table(&rows.items))
                }
                @if let Some(next) = &rows.next {
                    p .paging { a href=(address(query, Some(next))) rel="next" { "More records" } }
                }
                @if query.cursor.is_some() {
                    p .paging { a href=(address(query, None)) { "Back to the beginning" } }
                }
            }
        },
    )
}

fn address(query: &RecordQuery, cursor: Option<&str>) -> String {
    links::query(
        "/",
        &[
            ("q", query.search.as_deref()),
            ("module", query.module.as_deref()),
            ("label", query.label.as_deref()),
            ("cursor", cursor),
        ],
    )
}

/// What the pipeline has done and what it has before it.
fn condition(health: &Health) -> Markup {
    let behind = health.logged.saturating_sub(health.applied);
    html! {
        @if let Some(reason) = &health.stalled {
            p .stalled role="alert" { strong { "Nothing is being applied. " } (reason) }
        }
        p .condition {
            @if behind == 0 { span .done { "✓" } " Up to date" } @else { span .open { "○" } " " (show::counted(behind, "event")) " to apply" }
            " · " (show::counted(health.records, "record")) " · " (show::counted(health.logged, "event")) " in the log"
        }
    }
}

fn filter(query: &RecordQuery) -> Markup {
    let module = query.module.as_deref();
    let label = query.label.as_deref();
    html! {
        form .filter method="get" action="/" role="search" {
            label { "Id" input type="search" name="q" value=[query.search.as_deref()] placeholder="part of an id"; }
            label {
                "Module"
                select name="module" {
                    option value="" { "any" }
                    @for name in MODULES { option value=(name) selected[module == Some(name)] { (name) } }
                    @if let Some(other) = module.filter(|m| !MODULES.contains(m)) { option value=(other) selected { (other) } }
                }
            }
            label {
                "Alarm"
                select name="label" {
                    option value="" { "any or none" }
                    @for id in LABELS { option value=(id) selected[label == Some(id)] { (alarms::name(id)) } }
                }
            }
            button type="submit" { "Find" }
        }
    }
}

fn table(rows: &[RecordRow]) -> Markup {
    html! {
        div .scroll {
            table .records {
                thead {
                    tr {
                        th scope="col" { "Record" } th scope="col" { "Alarms" } th scope="col" { "Net sentiment" }
                        th .number scope="col" { "Messages" } th scope="col" { "Last active" }
                    }
                }
                tbody {
                    @for row in rows {
                        tr {
                            th scope="row" { a href=(links::record(&row.key)) { (theirs(&row.key.id)) } " " span .small { (theirs(&row.key.module)) } }
                            td {
                                @for label in &row.labels { span .chip { span aria-hidden="true" { "! " } (alarms::name(label)) } " " }
                                @if row.labels.is_empty() { span .small { "none" } }
                            }
                            td { @if let Some(net) = row.net_sentiment { div .mood { (show::net(net)) (balance("Net sentiment", net)) } }
                                @else { span .small { "–" } } }
                            td .number { (row.interactions) }
                            td .nowrap { @if let Some(at) = row.last_activity_at { (show::moment(at)) } @else { "–" } }
                        }
                    }
                }
            }
        }
    }
}

fn first_steps(host: &str) -> Markup {
    let command = format!(
        r#"curl 'http://{host}/v1/events?wait=applied' -H 'content-type: application/cloudevents+json' -d '
{{"specversion": "1.0", "id": "1", "source": "my-crm", "type": "voc.interaction.received.v1",
  "data": {{"record": {{"module": "contact", "id": "C-1"}}, "channel": "email",
           "text": "The connection drops every evening and nobody calls back."}}}}'"#
    );
    html! {
        section .panel {
            h2 { "Nothing has been received yet" }
            p { "Send a first event, then open " a href="/records/contact/C-1" { "its record" } ":" }
            pre tabindex="0" { code { (command) } }
            p { "The " a href="/docs" { "API page" } " shows every kind of event. " code { "hearken demo" }
                " serves the same pages over a bundled history." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::event::RecordKey;

    fn row(id: &str, labels: &[&str]) -> RecordRow {
        RecordRow {
            key: RecordKey { module: "contact".into(), id: id.into() },
            labels: labels.iter().map(|l| (*l).to_owned()).collect(),
            interactions: 3,
            net_sentiment: Some(-0.5),
            last_activity_at: None,
        }
    }

    #[test]
    fn empty_store_says_how_to_begin() {
        let page = page(
            &RecordQuery::default(),
            &Page { items: vec![], next: None },
            &Health::default(),
            "127.0.0.1:8080",
        )
        .into_string();
        assert!(page.contains("curl") && page.contains("127.0.0.1:8080/v1/events"));
        assert!(!page.contains("<form"));
    }

    #[test]
    fn filter_without_a_hit_keeps_the_filter() {
        let query = RecordQuery {
            search: Some("\"><script>".into()),
            module: Some("ship".into()),
            ..Default::default()
        };
        let page = page(&query, &Page { items: vec![], next: None }, &Health::default(), "h").into_string();
        assert!(page.contains("No record fits") && page.contains("<option value=\"ship\" selected>"));
        assert!(page.contains("value=\"&quot;&gt;&lt;script&gt;\""));
    }

    #[test]
    fn rows_carry_their_alarms_and_the_list_goes_on_with_the_same_filter() {
        let query = RecordQuery { label: Some("negative_customer".into()), ..Default::default() };
        let rows = Page { items: vec![row("C-1", &["negative_customer"])], next: Some("abc".into()) };
        let health = Health { logged: 9, applied: 7, records: 1, stalled: Some("no disk".into()) };
        let page = page(&query, &rows, &health, "h").into_string();
        assert!(page.contains("negative customer</span>") && page.contains("href=\"/records/contact/C-1\""));
        assert!(page.contains("href=\"/?label=negative_customer&amp;cursor=abc\""));
        assert!(page.contains("2 events to apply") && page.contains("no disk"));
    }
}
