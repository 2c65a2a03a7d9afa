//! The warning labels as alarms: how urgent, since when, by which rule, from which inputs, on what evidence.

use maud::{Markup, html};
use serde_json::Value;

use super::{Subject, show};
use crate::insight::document::Label;

/// Grades of severity; a label's goes from 1 to this.
const SEVERITY_MAX: u8 = 3;

/// Active labels first and large; the others in one quiet line, so that their absence is a statement too.
pub fn alarms(subject: &Subject) -> Markup {
    let labels = &subject.document.highlights.labels;
    let (mut active, quiet): (Vec<&Label>, Vec<&Label>) = labels.iter().partition(|l| l.active);
    active.sort_by_key(|l| std::cmp::Reverse(l.severity));
    let quiet: Vec<String> = quiet.iter().map(|l| name(&l.id)).collect();
    html! {
        section .alarms aria-labelledby="alarms-h" {
            h2 #alarms-h .visually-hidden { "Alarms" }
            @for label in active { (alarm(subject, label)) }
            @if !quiet.is_empty() {
                p .calm { span aria-hidden="true" { "○ " } "Not raised: " (quiet.join(", ")) "." }
            }
        }
    }
}

fn alarm(subject: &Subject, label: &Label) -> Markup {
    let severity = label.severity.unwrap_or(1).min(SEVERITY_MAX);
    html! {
        article class={ "alarm severity-" (severity) } {
            h3 { (show::capital(&name(&label.id))) }
            p .grade {
                span .steps aria-hidden="true" {
                    @for step in 1..=SEVERITY_MAX { span .on[step <= severity] {} }
                }
                (grade(severity)) " · " @if label.basis.as_deref() == Some("fact") { "a fact" } @else { "inferred" }
                @if let Some(since) = label.since { " · since " (show::day(since)) }
            }
            @if !label.cause.is_empty() { p { "It is about the " (label.cause.join(" and the ")) "." } }
            @if let Some(rule) = &label.rule {
                details {
                    summary { "Rule: " (show::words(rule)) }
                    dl .inputs { (inputs(&label.inputs)) }
                }
            }
            p {
                a href=(subject.evidence("labels", &label.id)) {
                    "See the " (show::counted(label.evidence_total, "message")) " behind it"
                }
            }
        }
    }
}

fn inputs(inputs: &Value) -> Markup {
    html! {
        @if let Value::Object(inputs) = inputs {
            @for (name, value) in inputs {
                dt { (show::words(name)) }
                dd { (plain(value)) }
            }
        }
    }
}

/// A rule's input in plain words.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(k, v)| format!("{}: {}", show::words(k), plain(v))).collect();
            fields.join("; ")
        }
        Value::Number(number) => number.to_string(),
    }
}

fn grade(severity: u8) -> &'static str {
    match severity {
        1 => "Notice",
        2 => "Warning",
        _ => "Act now",
    }
}

/// What a label is called on pages.
pub fn name(id: &str) -> String {
    match id {
        "may_switch_to_competitor" => "may switch to a competitor".into(),
        other => show::words(other),
    }
}
