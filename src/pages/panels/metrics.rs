//! Survey metrics, each with its n and its interval; none stands alone.

use maud::{Markup, html};

use super::{Subject, nothing, panel, show, theirs};
use crate::pages::charts::interval::interval;

pub fn metrics(subject: &Subject) -> Markup {
    let metrics = &subject.document.metrics;
    let answers = metrics.nps.n + metrics.csat.n + metrics.ces.n + metrics.cli.n;
    panel(
        "metrics",
        "Survey metrics",
        "What the customer answered when asked, with the number of answers.",
        html! {
            @if answers == 0 {
                (nothing("No survey was answered in this period."))
            } @else {
                div .scroll {
                    table .metrics {
                        thead {
                            tr {
                                th scope="col" { "Metric" } th .number scope="col" { "n" } th .number scope="col" { "Value" }
                                th scope="col" { "95 % interval" } th .number scope="col" { "Latest" }
                            }
                        }
                        tbody { (nps(subject)) (csat(subject)) (ces(subject)) (cli(subject)) }
                    }
                }
                @if !metrics.ces.by_touchpoint.is_empty() {
                    p .small {
                        "Effort by touchpoint, hardest first: "
                        @for (i, touchpoint) in metrics.ces.by_touchpoint.iter().enumerate() {
                            @if i > 0 { ", " }
                            (theirs(&touchpoint.touchpoint)) " " (format!("{:.1}", touchpoint.mean)) " (n = " (touchpoint.n) ")"
                        }
                        "."
                    }
                }
                @if let Some(gap) = metrics.gap {
                    p .small { "Experience minus expectation: " (show::signed(gap)) " on a scale from 0 to 1." }
                }
            }
        },
    )
}

/// A row: name, scale, n, value, interval on its scale, latest answer, note.
struct Row<'a> {
    key: &'a str,
    name: &'a str,
    about: String,
    n: u64,
    value: Option<String>,
    middle: Option<f64>,
    ci95: Option<[f64; 2]>,
    scale: [f64; 2],
    latest: Option<f64>,
    note: &'a Option<String>,
}

fn row(subject: &Subject, row: Row) -> Markup {
    html! {
        tr {
            th scope="row" { (row.name) " " span .small { (row.about) } }
            td .number { (subject.count("metrics", row.key, row.n)) }
            td .number {
                @if let Some(value) = &row.value { (value) } @else { "–" }
                @if let Some(note) = row.note { br; span .note { (show::words(note)) } }
            }
            td .bar {
                @if let Some(ci95) = row.ci95 { (interval(row.name, row.middle, ci95, row.scale)) (show::interval(Some(ci95))) }
            }
            td .number { @if let Some(latest) = row.latest { (latest) } @else { "–" } }
        }
    }
}

fn nps(subject: &Subject) -> Markup {
    let nps = &subject.document.metrics.nps;
    row(
        subject,
        Row {
            key: "nps",
            name: "NPS",
            about: [(nps.promoters, "promoter"), (nps.passives, "passive"), (nps.detractors, "detractor")]
                .map(|(count, name)| show::counted(count, name))
                .join(", "),
            n: nps.n,
            value: nps.value.map(|v| format!("{v:+.0}").replace('-', "−")),
            middle: nps.value,
            ci95: nps.ci95,
            scale: [-100.0, 100.0],
            latest: nps.latest,
            note: &nps.note,
        },
    )
}

fn csat(subject: &Subject) -> Markup {
    let csat = &subject.document.metrics.csat;
    let problem = if csat.below_threshold == Some(true) { ", below 3: a problem" } else { "" };
    row(
        subject,
        Row {
            key: "csat",
            name: "CSAT",
            about: format!("1-5{problem}; interval: share of 4 and 5"),
            n: csat.n,
            value: csat.mean.map(|v| format!("{v:.1}")),
            middle: csat.top2_pct,
            ci95: csat.ci95,
            scale: [0.0, 100.0],
            latest: csat.latest,
            note: &csat.note,
        },
    )
}

fn ces(subject: &Subject) -> Markup {
    let ces = &subject.document.metrics.ces;
    row(
        subject,
        Row {
            key: "ces",
            name: "Effort",
            about: "1-7, higher is easier; interval: share of 5 to 7".into(),
            n: ces.n,
            value: ces.mean.map(|v| format!("{v:.1}")),
            middle: ces.pct_5_to_7,
            ci95: ces.ci95,
            scale: [0.0, 100.0],
            latest: ces.latest,
            note: &ces.note,
        },
    )
}

fn cli(subject: &Subject) -> Markup {
    let cli = &subject.document.metrics.cli;
    row(
        subject,
        Row {
            key: "cli",
            name: "Loyalty index",
            about: "1-6, mean of three answers".into(),
            n: cli.n,
            value: cli.value.map(|v| format!("{v:.2}")),
            middle: None,
            ci95: None,
            scale: [1.0, 6.0],
            latest: cli.latest,
            note: &cli.note,
        },
    )
}
