//! The page of a record: head, alarms, the nine panels, and what lies beyond them.

use maud::{Markup, html};

use super::layout;
use super::links;
use super::panels::{
    Subject, alarms, causes, channels, competitors, conversion, deals, highlights, intent, journey, keywords,
    metrics, profile, requests, sentiment, signals, theirs,
};
use super::show;
use crate::{insight::document::Document, pipeline::ViewQuery};

/// Windows that the switch offers: parameter and name. The first is what a page without one shows.
const WINDOWS: [(&str, &str); 3] = [("90d", "90 days"), ("30d", "30 days"), ("all", "All time")];

/// The whole page of `document`, which was asked for by `view`.
pub fn page(document: &Document, view: &ViewQuery) -> Markup {
    let subject = &Subject::new(document);
    let title = format!("{} {}", show::capital(&subject.key.module), subject.key.id);
    let default = view.as_of.is_none() && view.window.as_deref().is_none_or(|w| w == WINDOWS[0].0);
    let stream = (default && !document.links.stream.is_empty()).then_some(document.links.stream.as_str());
    layout::page(
        &title,
        stream,
        html! {
            (head(subject, view))
            @if document.meta.revision == 0 {
                p .nothing { "Nothing has been received about this record yet." }
            }
            (alarms::alarms(subject))
            (contents())
            div .panels {
                div .full { (highlights::highlights(subject)) }
                (sentiment::sentiment(subject))
                (intent::intent(subject))
                (keywords::keywords(subject))
                div .stack {
                    (competitors::competitors(subject))
                    (conversion::conversion(subject))
                }
                div .full { (requests::requests(subject)) }
                (channels::sentiment_by_channel(subject))
                (channels::intent_by_channel(subject))
                div .full { (deals::deals(subject)) }
            }
            h2 .part { "Why, and what to do" }
            div .panels {
                div .stack {
                    (signals::signals(subject))
                    (signals::watch(subject))
                }
                div .stack {
                    (signals::actions(subject))
                    (profile::profile(subject))
                }
                (metrics::metrics(subject))
                (journey::journey(subject))
                (causes::drivers(subject))
                (causes::friction(subject))
            }
        },
    )
}

fn head(subject: &Subject, view: &ViewQuery) -> Markup {
    let document = subject.document;
    let meta = &document.meta;
    html! {
        p #newer .newer role="status" hidden { "There is a newer revision of this record. " a href="" { "Show it" } }
        div .record-head {
            div {
                p .kicker { a href="/" { "Records" } " / " (theirs(&subject.key.module)) }
                h1 { (theirs(&subject.key.id)) }
                @if !document.record.aliases.is_empty() {
                    p .small {
                        "also "
                        @for (i, alias) in document.record.aliases.iter().enumerate() {
                            @if i > 0 { ", " } (alias.module) " " (theirs(&alias.id))
                        }
                    }
                }
            }
            (windows(subject, view))
        }
        p .small .meta {
            @if let Some(from) = meta.window.from { (show::date(from)) " to " } @else { "Until " }
            (show::date(meta.window.to))
            @if let Some(at) = meta.last_activity_at { " · last active " (show::moment(at)) }
            @if let Some(at) = meta.as_of { " · updated " (show::moment(at)) }
            @if let Some(lag) = meta.lag_ms { ", " (show::pause(lag)) " after the last event came in" }
            " · revision " (meta.revision) " · " (meta.rules)
            @if meta.models_mixed { " · scored by more than one revision of a model" }
        }
    }
}

fn windows(subject: &Subject, view: &ViewQuery) -> Markup {
    let current = view.window.as_deref().unwrap_or(WINDOWS[0].0);
    let address = links::record(&subject.key);
    html! {
        nav .windows aria-label="Period" {
            @for (window, name) in WINDOWS {
                a href=(links::query(&address, &[("window", Some(window)), ("as_of", view.as_of.as_deref())]))
                    aria-current=[(window == current).then_some("true")] { (name) }
            }
        }
    }
}

fn contents() -> Markup {
    const PANELS: [(&str, &str); 16] = [
        ("highlights", "Highlights"),
        ("sentiment", "Sentiment"),
        ("intent", "Intent"),
        ("keywords", "Keywords"),
        ("competitors", "Competitors"),
        ("conversion", "Conversion"),
        ("requests", "Requests"),
        ("sentiment-by-channel", "Channels"),
        ("deals", "Deals"),
        ("signals", "Signals"),
        ("actions", "Actions"),
        ("profile", "The customer"),
        ("metrics", "Surveys"),
        ("journey", "Journey"),
        ("drivers", "Drivers"),
        ("friction", "Friction"),
    ];
    html! {
        nav .contents aria-label="On this page" {
            @for (id, name) in PANELS { a href={ "#" (id) } { (name) } }
        }
    }
}
