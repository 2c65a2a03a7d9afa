//! The interactions behind one number: who said what, when and where, with the mention marked.

use maud::{Markup, html};

use super::panels::{alarms, nothing, theirs};
use super::passages::{Passage, passages};
use super::{layout, links, show};
use crate::{
    insight::event::{EventData, Interaction, RecordKey},
    pipeline::{InteractionRow, Page},
};

/// Texts longer than this are folded where nothing in them is marked.
const FOLD_CHARS: usize = 700;

/// What a reader asked to see the evidence of.
pub struct Question<'a> {
    pub key: &'a RecordKey,
    pub panel: &'a str,
    pub item: Option<&'a str>,
}

pub fn page(question: &Question, rows: &Page<InteractionRow>) -> Markup {
    let back = links::record(question.key);
    let title = format!("{} · {}", subject(question), question.key.id);
    let next = rows.next.as_deref().map(|cursor| {
        links::query(
            &format!("{back}/evidence"),
            &[("panel", Some(question.panel)), ("key", question.item), ("cursor", Some(cursor))],
        )
    });
    layout::page(
        &title,
        None,
        html! {
            p .kicker {
                a href="/" { "Records" } " / " a href=(back) { (theirs(&question.key.module)) " " (theirs(&question.key.id)) } " / evidence"
            }
            h1 { (show::capital(&show::words(question.panel)))
                @if let Some(item) = question.item { ": " (theirs(&item_name(question.panel, item))) } }
            p .about { "What stands behind the number in the last 90 days, newest first." }
            @if rows.items.is_empty() {
                (nothing("Nothing is behind it any more: it may have been corrected, erased, or left the period."))
            }
            @for row in &rows.items { (said(row)) }
            @if let Some(next) = next { p .paging { a href=(next) { "Older ones" } } }
        },
    )
}

fn subject(question: &Question) -> String {
    match question.item {
        Some(item) => format!("{}: {}", show::words(question.panel), item_name(question.panel, item)),
        None => show::words(question.panel),
    }
}

fn item_name(panel: &str, item: &str) -> String {
    if panel == "labels" { alarms::name(item) } else { item.into() }
}

fn said(row: &InteractionRow) -> Markup {
    let scores = row.scores.as_ref();
    html! {
        article .said id=(row.event.id.id) {
            p .said-head {
                (show::moment(row.event.time))
                @if let EventData::InteractionReceived(interaction) = &row.event.data { (origin(interaction)) }
                @if let Some(sentiment) = scores.and_then(|s| s.sentiment.as_ref()) { " " (show::tone(sentiment.label)) }
                @if let Some(intent) = scores.and_then(|s| s.intent.as_ref()) { " " (show::intent(intent.label)) }
            }
            @if let Some(text) = &row.text {
                @let sentences = scores.map(|s| s.sentences.as_slice()).unwrap_or_default();
                @let found = passages(text, sentences, &row.spans);
                @let partial = found.iter().any(|p| p.cut.0 || p.cut.1);
                @if !partial && text.chars().count() > FOLD_CHARS && row.spans.is_empty() {
                    details { summary { (theirs(&opening(text))) " …" } (whole(text)) }
                } @else {
                    @for passage in &found { (quote(passage)) }
                    @if partial { details { summary { "The whole message" } (whole(text)) } }
                }
            } @else { (without_words(&row.event.data)) }
            p .small .source { (theirs(&row.event.id.source)) " " (theirs(&row.event.id.id))
                @if let Some(language) = scores.and_then(|s| s.language.as_deref()) { " · " (theirs(language)) } }
        }
    }
}

fn origin(interaction: &Interaction) -> Markup {
    html! {
        " · " (theirs(&interaction.channel))
        @if let Some(touchpoint) = &interaction.touchpoint { " · " (theirs(touchpoint)) }
        @if let Some(product) = &interaction.product { " · " (theirs(product)) }
        @if let Some(thread) = &interaction.thread_id { " · " (theirs(thread)) }
        @if let Some(survey) = &interaction.survey {
            " · " (theirs(&survey.metric)) " "
            @for value in survey.value.iter().chain(&survey.values) { (value) " " }
        }
    }
}

fn quote(passage: &Passage) -> Markup {
    html! {
        blockquote dir="auto" {
            p {
                @if passage.cut.0 { "… " }
                @for (mention, piece) in &passage.pieces { @if *mention { mark { (piece) } } @else { (piece) } }
                @if passage.cut.1 { " …" }
                @if let Some(sentiment) = passage.sentiment { " " span .small { (show::tone(sentiment)) } }
            }
        }
    }
}

fn whole(text: &str) -> Markup {
    html! { blockquote dir="auto" { p .lines { (text) } } }
}

fn opening(text: &str) -> String {
    text.chars().take(FOLD_CHARS / 4).collect()
}

/// An event in which the customer says nothing: a bare survey answer, behaviour, a departure.
fn without_words(data: &EventData) -> Markup {
    html! {
        p .wordless {
            @match data {
                EventData::InteractionReceived(i) if i.survey.is_some() => "An answer without words.",
                EventData::InteractionReceived(_) => "The customer says nothing here.",
                EventData::BehaviourObserved(b) => {
                    (theirs(&show::words(&b.kind)))
                    @if let Some(page) = &b.page { " on " (theirs(page)) }
                    @if let Some(value) = &b.value { " (" (theirs(&value.to_string())) ")" }
                }
                EventData::CustomerChurned(c) => {
                    "The customer left" @if let Some(reason) = &c.reason { ": " (theirs(reason)) } "."
                }
                EventData::DealStageChanged(s) => { "The deal moved to " (theirs(&show::words(&s.to))) "." }
                _ => "An event of the record's life.",
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::event::{Event, EventId};

    fn row(data: &str, text: Option<&str>, spans: &[(u32, u32)]) -> InteractionRow {
        InteractionRow {
            name: "em-1".into(),
            event: Event {
                id: EventId { source: "mail".into(), id: "em-1".into() },
                time: "2026-03-02T09:14:07Z".parse().unwrap(),
                data: EventData::parse("voc.interaction.received.v1", data).unwrap(),
            },
            text: text.map(Into::into),
            scores: None,
            spans: spans.to_vec(),
        }
    }

    fn shown(rows: Vec<InteractionRow>) -> String {
        let key = RecordKey { module: "contact".into(), id: "C-1".into() };
        let question = Question { key: &key, panel: "keywords", item: Some("<b>") };
        page(&question, &Page { items: rows, next: Some("n&1".into()) }).into_string()
    }

    #[test]
    fn mention_is_marked_and_everything_is_escaped() {
        let data = r#"{"record":{"module":"contact","id":"C-1"},"channel":"email","text":"x"}"#;
        let page = shown(vec![row(data, Some("a <script> outage"), &[(11, 17)])]);
        assert!(page.contains("<mark>outage</mark>") && page.contains("a &lt;script&gt; "));
        assert!(!page.contains("<script>") && !page.contains("<b>"));
        assert!(page.contains("key=%3Cb%3E&amp;cursor=n%261"));
    }

    #[test]
    fn survey_answer_without_words_is_named() {
        let data = r#"{"record":{"module":"contact","id":"C-1"},"channel":"survey","survey":{"metric":"nps","value":4}}"#;
        let page = shown(vec![row(data, None, &[])]);
        assert!(page.contains("An answer without words.") && page.contains("nps"));
    }
}
