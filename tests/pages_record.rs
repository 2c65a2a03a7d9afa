//! The page of a record, as a browser gets it: what it says for a full document, for an empty one and for hostile text;
//! that it is well-formed, whole without outside resources, and right for right-to-left words.
//!
//! How a document comes about and how pages are served is tested elsewhere.

use hearken::{
    insight::document::*,
    insight::event::RecordKey,
    pages::record,
    pipeline::ViewQuery,
    scores::{Intent, Sentiment},
};
use jiff::Timestamp;

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn mood(label: Sentiment, positive: u64, neutral: u64, negative: u64) -> MentionSentiment {
    MentionSentiment { label: Some(label), positive, neutral, negative }
}

/// A customer with something in every panel.
fn full() -> Document {
    let mut d = Document {
        record: RecordHead {
            module: "contact".into(),
            id: "C-77".into(),
            aliases: vec![RecordKey { module: "lead".into(), id: "L-9".into() }],
        },
        ..Document::default()
    };
    d.meta.revision = 31;
    d.meta.eligible = true;
    d.meta.module_enabled = true;
    d.meta.window.from = Some("2026-01-01".parse().unwrap());
    d.meta.window.to = "2026-03-31".parse().unwrap();
    d.meta.last_activity_at = Some(at("2026-03-30T08:00:00Z"));
    d.meta.coverage.behaviour.insert("billing_viewed".into(), 4);
    d.highlights.total = 10;
    d.highlights.sentiment = Shares {
        positive: Share { count: 3, pct: 30.0, ci95: Some([10.8, 60.3]) },
        neutral: Share { count: 1, pct: 10.0, ci95: Some([1.8, 40.4]) },
        negative: Share { count: 6, pct: 60.0, ci95: Some([31.3, 83.2]) },
    };
    d.highlights.labels = vec![
        Label {
            id: "negative_customer".into(),
            active: true,
            severity: Some(3),
            basis: Some("inferred".into()),
            since: Some(at("2026-03-20T08:00:00Z")),
            cause: vec!["product".into(), "communication".into()],
            rule: Some("last_two_negative".into()),
            inputs: serde_json::json!({"last": ["negative", "negative"], "window_days": 90}),
            evidence: vec!["em-1".into()],
            evidence_total: 6,
        },
        Label { id: "churned_customer".into(), ..Label::default() },
    ];
    d.sentiment.distribution = SentimentCounts { positive: 3, neutral: 1, negative: 6 };
    d.sentiment.unique_responses = 8;
    d.sentiment.last_negative_at = Some(at("2026-03-30T08:00:00Z"));
    d.sentiment.preferred_channel = Some("email".into());
    d.sentiment.series = ["2026-02", "2026-03"]
        .map(|bucket| SentimentPoint {
            bucket: bucket.into(),
            positive: 1,
            neutral: 0,
            negative: 3,
            unique_responses: 4,
        })
        .to_vec();
    d.sentiment.change = Some(Change {
        from: "2026-02".into(),
        to: "2026-03".into(),
        direction: "down".into(),
        p: Some(0.04),
        net_from: 0.5,
        net_to: -0.25,
        drivers: vec!["outage".into()],
        note: None,
    });
    d.keywords.rows = vec![
        KeywordRow {
            keyword: "outage".into(),
            last_mentioned_at: Some(at("2026-03-30T08:00:00Z")),
            mentions: 7,
            responses: 5,
            sentiment: mood(Sentiment::Negative, 0, 1, 6),
            trend: None,
            evidence: vec!["em-1".into()],
            evidence_total: 5,
        },
        KeywordRow {
            keyword: "جودة الاتصال".into(),
            mentions: 2,
            sentiment: mood(Sentiment::Negative, 0, 0, 2),
            ..KeywordRow::default()
        },
    ];
    d.keywords.total = 2;
    d.competitors.rows = vec![CompetitorRow {
        competitor: "Airo Networks".into(),
        responses: 4,
        mentions: 5,
        last_mentioned_at: Some(at("2026-03-29T08:00:00Z")),
        stance: Stance { competitor: Some(0.42), us: Some(-0.31) },
        switch_risk: SwitchRisk { p: 0.58, ci95: [0.3, 0.8], n: 4, leaning: 2 },
        sentiment: mood(Sentiment::Positive, 3, 1, 1),
        keywords: vec![CompetitorKeyword { keyword: "connection quality".into(), count: 5 }],
        ..CompetitorRow::default()
    }];
    d.intent.distribution = IntentCounts { complaint: 5, purchase: 1, request: 3, other: 1 };
    d.intent.series =
        vec![IntentPoint { bucket: "2026-03".into(), complaint: 5, purchase: 1, request: 3, other: 1 }];
    d.intent.open_total = 2;
    d.intent.items_total = 1;
    d.intent.items = vec![IntentItem {
        id: "em-1".into(),
        intent: Intent::Request,
        confidence: 0.93,
        at: at("2026-03-30T08:00:00Z"),
        summary: "refund for outage".into(),
        resolved: false,
        resolved_at: None,
        channel: "email".into(),
        thread_id: None,
    }];
    d.sentiment_by_channel =
        vec![ChannelSentiment { channel: "email".into(), positive: 3, neutral: 1, negative: 6 }];
    d.intent_by_channel = vec![ChannelIntent {
        channel: "survey".into(),
        request: 3,
        other: 1,
        intended: Some(Intent::Other),
        off_purpose_pct: Some(75.0),
        ..ChannelIntent::default()
    }];
    d.conversion = Conversion {
        status: "converted".into(),
        lead_id: Some("L-9".into()),
        at: Some(at("2026-01-20T10:00:00Z")),
        days_to_convert: Some(18.1),
        keywords_before: vec![KeywordBefore {
            keyword: "pricing".into(),
            count: 4,
            sentiment: Some(Sentiment::Positive),
            ..KeywordBefore::default()
        }],
        responses_before: 6,
    };
    let won = Transition {
        from: Some("negotiation".into()),
        to: "closed_won".into(),
        at: at("2026-02-11T16:30:00Z"),
        outcome: DealOutcome::Won,
    };
    let side = |responses, net, keyword: &str, sentiment| DealSide {
        responses,
        net_sentiment: Some(net),
        keywords: vec![DealKeyword {
            keyword: keyword.into(),
            count: 3,
            sentiment: Some(sentiment),
            z: None,
        }],
    };
    d.deals = vec![Deal {
        deal_id: "D-9".into(),
        transition: won.clone(),
        before: side(5, 0.6, "fast install", Sentiment::Positive),
        after: side(5, -0.4, "outage", Sentiment::Negative),
        flip: Some(Flip {
            type_: "positive_to_negative".into(),
            advice: "check_delivery".into(),
            note: None,
        }),
        reasons: vec![Reason {
            kind: "won".into(),
            keyword: "fast install".into(),
            count: 3,
            from: "stage".into(),
        }],
        outcome: DealOutcome::Won,
        amount: Some(48600.0),
        transitions: vec![won],
    }];
    d.metrics.nps.n = 1;
    d.metrics.nps.latest = Some(3.0);
    d.metrics.nps.detractors = 1;
    d.metrics.nps.note = Some("insufficient_evidence".into());
    d
}

fn html(document: &Document) -> String {
    record::page(document, &ViewQuery::default()).into_string()
}

/// The elements that are closed by themselves.
const VOID: [&str; 6] = ["meta", "link", "input", "br", "img", "hr"];

/// Panics where an element is not closed in order or an id is used twice. Returns all attribute values.
fn check(html: &str) -> Vec<(String, String)> {
    let mut open: Vec<String> = vec![];
    let mut attributes = vec![];
    let mut rest = html.strip_prefix("<!DOCTYPE html>").expect("a document type");
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("an unfinished tag");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closed out of order");
            continue;
        }
        let name = tag.split_whitespace().next().unwrap();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "a tag named {name:?}");
        let mut quoted = tag.split('"');
        while let (Some(before), Some(value)) = (quoted.next(), quoted.next()) {
            let attribute = before.trim().trim_end_matches('=').rsplit(' ').next().unwrap();
            attributes.push((attribute.to_owned(), value.to_owned()));
        }
        if !VOID.contains(&name) {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    let mut ids: Vec<&String> = attributes.iter().filter(|(name, _)| name == "id").map(|(_, v)| v).collect();
    ids.sort();
    assert!(ids.windows(2).all(|w| w[0] != w[1]), "an id is used twice: {ids:?}");
    attributes
}

#[test]
fn full_document_fills_all_nine_panels() {
    let page = html(&full());
    check(&page);
    for said in [
        "C-77",
        "also lead",
        "Negative customer",
        "Act now",
        "last two negative",
        "product and the communication",
        "60.0 %",
        "95 % between 31.3 and 83.2",
        "outage",
        "Airo Networks",
        "connection quality",
        "58.0 %",
        "refund for outage",
        "75.0 % off purpose",
        "18.1",
        "pricing",
        "The mood turned from positive to negative",
        "Check delivery",
        "48,600",
        "insufficient evidence",
        "billing viewed 4×",
    ] {
        assert!(page.contains(said), "the page does not say {said:?}");
    }
    assert!(page.contains("Not raised: churned customer"));
    assert!(!page.contains("class=\"nothing\">No configured competitor"));
}

#[test]
fn numbers_lead_to_their_evidence_and_every_jump_has_a_target() {
    let page = html(&full());
    let attributes = check(&page);
    let links: Vec<&str> = attributes.iter().filter(|(n, _)| n == "href").map(|(_, v)| v.as_str()).collect();
    for evidence in [
        "/records/contact/C-77/evidence?panel=highlights&amp;key=negative",
        "/records/contact/C-77/evidence?panel=keywords&amp;key=outage",
        "/records/contact/C-77/evidence?panel=labels&amp;key=negative_customer",
        "/records/contact/C-77/evidence?panel=competitors&amp;key=Airo%20Networks",
        "/records/contact/C-77/evidence?panel=intent&amp;key=request#em-1",
    ] {
        assert!(links.contains(&evidence), "no link to {evidence} in {links:?}");
    }
    for jump in links.iter().filter_map(|l| l.strip_prefix('#')) {
        assert!(attributes.iter().any(|(n, v)| n == "id" && v == jump), "nothing is called {jump}");
    }
}

#[test]
fn empty_document_says_in_every_panel_that_there_is_nothing() {
    let document = Document {
        record: RecordHead { module: "lead".into(), id: "new".into(), aliases: vec![] },
        ..Document::default()
    };
    let page = html(&document);
    check(&page);
    assert!(page.matches("class=\"nothing\"").count() >= 9);
    assert!(!page.contains("NaN") && !page.contains("inf "));
}

#[test]
fn hostile_words_stay_words() {
    let hostile = "\"><script>alert(1)</script><img src=x onerror=y>'&";
    let mut document = full();
    document.record.id = hostile.into();
    document.keywords.rows[0].keyword = hostile.into();
    document.competitors.rows[0].competitor = hostile.into();
    document.competitors.rows[0].keywords[0].keyword = hostile.into();
    document.intent.items[0].summary = hostile.into();
    document.intent.items[0].id = hostile.into();
    document.sentiment_by_channel[0].channel = hostile.into();
    document.deals[0].reasons[0].keyword = hostile.into();
    document.deals[0].deal_id = hostile.into();
    document.highlights.labels[0].inputs = serde_json::json!({ hostile: hostile });
    let page = html(&document);
    check(&page);
    assert!(!page.contains("<script>alert") && !page.contains("<img"));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
}

#[test]
fn loads_nothing_from_elsewhere_and_runs_no_inline_script_or_style() {
    let attributes = check(&html(&full()));
    for (name, value) in attributes {
        if ["href", "src", "action", "data-stream"].contains(&name.as_str()) {
            assert!(
                value.starts_with('/') || value.starts_with('#') || value.is_empty(),
                "{name} leads to {value}"
            );
            assert!(!value.starts_with("//"), "{name} leads to {value}");
        }
        assert!(!name.starts_with("on") && name != "style", "inline {name}");
    }
}

#[test]
fn words_of_the_customer_have_their_own_direction() {
    let page = html(&full());
    assert!(page.contains("<bdi dir=\"auto\">جودة الاتصال</bdi>"));
}

#[test]
fn window_switch_marks_the_window_that_is_shown_and_keeps_the_moment() {
    let view = ViewQuery { window: Some("30d".into()), as_of: Some("2026-03-01T00:00:00Z".into()), tz: None };
    let page = record::page(&full(), &view).into_string();
    check(&page);
    let current =
        "href=\"/records/contact/C-77?window=30d&amp;as_of=2026-03-01T00%3A00%3A00Z\" aria-current=\"true\"";
    assert!(page.contains(current));
    assert!(!page.contains("data-stream"), "a page of the past does not change");
}
