//! The document has every field that the public contract names, filled by a history in which everything happens; and
//! what it says of predictions, hypotheses, feelings and worth. Panel by panel is `insight_panels.rs`.

mod insight_story;

use hearken::scores::{Emotion, Label};
use insight_story::{Story, classified, key, story};
use serde_json::{Value, json};

/// Every field of the contract's example, as a path; `[]` means any item of a list.
const FIELDS: &str = "
record.module record.id record.aliases[].module record.aliases[].id
meta.schema meta.revision meta.as_of meta.lag_ms meta.window.from meta.window.to meta.window.tz
meta.models.sentiment meta.models.intent meta.models.keyphrases meta.rules meta.eligible meta.module_enabled
meta.coverage.interactions meta.coverage.unique_responses meta.coverage.unscored meta.coverage.survey_pct
meta.coverage.by_channel.email meta.coverage.by_channel.survey
highlights.total highlights.sentiment.positive.count highlights.sentiment.positive.pct highlights.sentiment.positive.ci95
highlights.sentiment.neutral.count highlights.sentiment.negative.ci95
highlights.labels[].id highlights.labels[].active highlights.labels[].severity highlights.labels[].basis
highlights.labels[].since highlights.labels[].cause highlights.labels[].rule highlights.labels[].inputs
highlights.labels[].evidence
sentiment.distribution.positive sentiment.distribution.neutral sentiment.distribution.negative
sentiment.unique_responses sentiment.last_negative_at sentiment.preferred_channel
sentiment.series[].bucket sentiment.series[].positive sentiment.series[].neutral sentiment.series[].negative
sentiment.series[].unique_responses
sentiment.change.from sentiment.change.to sentiment.change.direction sentiment.change.p sentiment.change.drivers
keywords.rows[].keyword keywords.rows[].last_mentioned_at keywords.rows[].mentions keywords.rows[].responses
keywords.rows[].sentiment.label keywords.rows[].sentiment.positive keywords.rows[].sentiment.neutral
keywords.rows[].sentiment.negative keywords.rows[].evidence
competitors.rows[].competitor competitors.rows[].responses competitors.rows[].last_mentioned_at
competitors.rows[].stance.competitor competitors.rows[].stance.us competitors.rows[].switch_risk.p
competitors.rows[].switch_risk.ci95 competitors.rows[].keywords[].keyword competitors.rows[].keywords[].count
competitors.rows[].evidence
intent.distribution.complaint intent.distribution.purchase intent.distribution.request intent.distribution.other
intent.series[].bucket intent.series[].complaint intent.series[].purchase intent.series[].request intent.series[].other
intent.items[].id intent.items[].intent intent.items[].confidence intent.items[].at intent.items[].summary
intent.items[].resolved intent.items[].resolved_at
sentiment_by_channel[].channel sentiment_by_channel[].positive sentiment_by_channel[].neutral
sentiment_by_channel[].negative
intent_by_channel[].channel intent_by_channel[].complaint intent_by_channel[].intended
intent_by_channel[].off_purpose_pct
conversion.status conversion.lead_id conversion.at conversion.days_to_convert conversion.keywords_before[].keyword
conversion.keywords_before[].count conversion.keywords_before[].sentiment conversion.keywords_before[].evidence
deals[].deal_id deals[].transition.from deals[].transition.to deals[].transition.at deals[].before.responses
deals[].before.net_sentiment deals[].before.keywords[].keyword deals[].before.keywords[].count
deals[].before.keywords[].sentiment deals[].after.keywords[].z deals[].flip.type deals[].flip.advice
deals[].reasons[].kind deals[].reasons[].keyword deals[].reasons[].count
metrics.nps.n metrics.nps.latest metrics.nps.value metrics.nps.ci95 metrics.nps.note
metrics.csat.n metrics.csat.mean metrics.csat.top2_pct metrics.csat.below_threshold
metrics.ces.n metrics.ces.mean metrics.ces.scale metrics.ces.pct_5_to_7 metrics.ces.by_touchpoint[].touchpoint
metrics.cli.n metrics.cli.value metrics.cli.scale metrics.gap
emotions.anger journey.escalation[].evidence journey.effort.repeated ops.n ops.wait_s_mean
signals[].type signals[].meaning signals[].action signals[].evidence
drivers[].impact drivers[].evidence friction[].place friction[].aftermath.contacted_again
profile.needs[].keyword profile.opinions[].product profile.stance profile.saveable profile.value
profile.clv.value profile.clv.assumption profile.segments[].kind profile.emotions[].emotion
predictions[].p predictions[].calibration.brier predictions[].note hypotheses[].statement hypotheses[].state
actions[].owner_team actions[].customer_told_at watch.hits[].kind watch.hits[].reach
links.self links.evidence";

/// Fields that are null here: nobody has stamped the document or worked on it, one answer makes no score, and there is
/// nothing to say against the forecasts.
const NULL_HERE: [&str; 6] = [
    "predictions[].note",
    "meta.as_of",
    "meta.lag_ms",
    "metrics.nps.value",
    "metrics.nps.ci95",
    "actions[].customer_told_at",
];

/// A lead that became a contact, bought, and was let down.
fn everything() -> Story {
    let mut told = story(
        "2025-12-20 email em-1 positive purchase record=lead:L77 product=fibre | Is the {fast install:positive} to be had? [=] The {pricing:positive} is fine.
         2026-01-02 chat ch-1 positive request record=lead:L77 product=app touchpoint=sales | {fast install:positive}, please.
         2026-01-05 survey sv-1 neutral request survey=csat:2 touchpoint=setup | Could you call?
         2026-01-06 survey sv-2 neutral other survey=ces:4 touchpoint=setup | It went.
         2026-01-07 survey sv-3 - - survey=nps:3 |
         2026-01-08 survey sv-4 - - survey=cli:4,3,3 |
         2026-01-09 survey sv-5 - - survey=expectation:5 |
         2026-01-10 survey sv-6 - - survey=experience:3 |
         2026-01-25 email em-2 positive other product=fibre | Thank you.
         2026-02-12 email em-3 neutral request product=fibre touchpoint=support thread=T | There was an {outage}.
         2026-02-12T15:00:00Z call ca-0 negative complaint thread=T | Still dead.
         2026-02-13 call ca-1 negative complaint product=fibre touchpoint=support thread=T wait=600 resolved=false | The {outage} is back. Solar panels are fine.
         2026-02-20 email em-4 negative complaint product=fibre touchpoint=support | An {outage} again. [+] Airo is better. [-] The {connection quality} is bad. We are switching to Airo.
         2026-02-21 chat ch-2 positive other product=app | Nice.
         2026-02-27 email em-5 negative complaint product=fibre touchpoint=support | The {outage}, the {outage}.
         2026-03-01 email em-6 - - | Nobody scored this.",
    )
    .and(
        "2025-12-01 email h1 negative other | a
         2025-12-02 email h2 neutral other | b
         2025-12-03 email h3 positive other | c
         2025-12-04 email h4 negative other | d
         2025-12-05 email h5 neutral other | e",
    )
    .with(json!({
        "competitors": [{"name": "Airo Networks", "aliases": ["Airo"]}],
        "watchlists": [{"name": "range", "kind": "product", "phrases": ["solar panels"]}],
        "routing": [{"label": "may_switch_to_competitor", "team": "care"}],
    }))
    .event("2025-12-10", "voc.record.created.v1", "n", json!({"record": key("contact", "1"),
        "attributes": {"country": "DE", "industry": "hotels", "employees": 40}}))
    .event("2026-02-14", "voc.ticket.status_changed.v1", "ts",
        json!({"record": key("contact", "1"), "thread_id": "T", "resolved": true}))
    .event("2026-01-20", "voc.record.converted.v1", "cv",
        json!({"from": {"module": "lead", "id": "L77", "created_at": "2026-01-02T10:00:00Z"}, "to": [key("contact", "1")]}))
    .event("2026-02-11", "voc.deal.stage_changed.v1", "d9", json!({"record": key("deal", "D9"),
        "contacts": [key("contact", "1")], "from": "negotiation", "to": "closed_won", "outcome": "won",
        "reason": "fast install", "amount": 1200.0}));
    for day in ["2026-01-21", "2026-01-22"] {
        told = told.event(
            day,
            "voc.behaviour.observed.v1",
            day,
            json!({"record": key("contact", "1"), "kind": "page_viewed", "page": "/specifications"}),
        );
    }
    let angry = classified(Emotion::Anger, 0.8);
    for entry in &mut told.entries {
        if let Some(scores) = &mut entry.scores {
            let negative = scores.sentiment.as_ref().is_some_and(|s| s.label.name() == "negative");
            scores.emotion = Some(if negative { angry.clone() } else { classified(Emotion::Neutral, 0.8) });
        }
    }
    told
}

/// All values that a path leads to.
fn at<'v>(value: &'v Value, path: &str) -> Vec<&'v Value> {
    let mut found = vec![value];
    for step in path.split('.') {
        let (name, items) = step.strip_suffix("[]").map_or((step, false), |name| (name, true));
        found = found.into_iter().filter_map(|v| v.get(name)).collect();
        if items {
            found = found.into_iter().filter_map(Value::as_array).flatten().collect();
        }
    }
    found
}

#[test]
fn every_field_of_the_contract_is_there_and_filled() {
    let document = serde_json::to_value(everything().document()).unwrap();
    let mut missing = vec![];
    for path in FIELDS.split_whitespace() {
        let found = at(&document, path);
        if found.is_empty() || (!NULL_HERE.contains(&path) && found.iter().all(|v| v.is_null())) {
            missing.push(path);
        }
    }
    assert!(missing.is_empty(), "missing or empty: {missing:?}\n{document:#}");
}

#[test]
fn k02_emotions_are_counted_and_stand_in_the_profile() {
    let told = everything();
    told.check(json!({
        "emotions": {"anger": 5, "neutral": 10},
        "profile": {"emotions": [
            {"emotion": "anger", "count": 5, "pct": 33.3, "evidence": ["em-5", "em-4", "ca-1", "ca-0", "h4"]}]},
    }));
}

#[test]
fn x03_segments_say_what_they_rest_on() {
    let document = serde_json::to_value(everything().document()).unwrap();
    let segments = document["profile"]["segments"].as_array().unwrap();
    let of = |name: &str| {
        let found =
            segments.iter().find(|s| s["name"] == name).unwrap_or_else(|| panic!("{name}: {segments:?}"));
        (found["kind"].as_str().unwrap(), found["value"].as_str().unwrap(), found["basis"].as_str().unwrap())
    };
    assert_eq!(of("country"), ("place", "DE", "attribute"));
    assert_eq!(of("industry"), ("demography", "hotels", "attribute"));
    assert_eq!(of("language"), ("demography", "en", "interaction"));
    assert_eq!(of("stage"), ("stage", "customer", "events"));
    assert_eq!(of("dealings"), ("transaction", "bought_once", "events"));
    assert_eq!(of("activity"), ("behaviour", "active", "events"));
    assert_eq!(of("stance"), ("attitude", "detractor", "nps"));
    assert!(segments.iter().all(|s| s["name"] != "employees"), "an attribute that nobody asked for");
}

#[test]
fn x08_a_lifetime_value_names_its_assumption() {
    let document = serde_json::to_value(everything().document()).unwrap();
    let clv = &document["profile"]["clv"];
    assert_eq!((clv["value"].as_f64(), clv["yearly"].as_f64()), (Some(3600.0), Some(1200.0)));
    assert!(clv["assumption"].as_str().unwrap().contains("3 years"));
    assert_eq!(clv["note"], "insufficient_evidence", "one deal");
    let left = everything().event(
        "2026-03-01",
        "voc.customer.churned.v1",
        "gone",
        json!({"record": key("contact", "1")}),
    );
    let document = serde_json::to_value(left.document()).unwrap();
    assert_eq!(document["profile"]["clv"]["value"], 0.0);
    assert_eq!(story("").document().profile.clv, None);
}

#[test]
fn x04_a_forecast_needs_a_record_of_forecasts() {
    let few = story("2026-02-01 email 1 negative complaint | a\n2026-02-02 email 2 negative complaint | b");
    few.check(json!({"predictions": [
        {"id": "next_response_negative", "p": null, "ci95": null, "note": "insufficient_evidence",
         "calibration": {"n": 1}, "evidence": ["2", "1"]},
        {"id": "next_response_complaint", "p": null, "note": "insufficient_evidence"}]}));
    // Ten good contacts, then ten bad ones: the recent ones weigh more than the plain share says.
    let lines: Vec<String> = (0..20)
        .map(|i| {
            let feels = if i < 10 { "positive" } else { "negative" };
            format!("2026-02-{:02} email e{i} {feels} other | x", i + 1)
        })
        .collect();
    let document = story(&lines.join("\n")).document();
    let forecast = &document.predictions[0];
    assert_eq!((forecast.calibration.n, forecast.calibration.observed), (19, Some(0.526)));
    assert!(forecast.p.unwrap() > 0.6, "{forecast:?}");
    assert!(forecast.calibration.brier < forecast.calibration.brier_base_rate, "{forecast:?}");
    assert_eq!(forecast.note, None);
    let [low, high] = forecast.ci95.unwrap();
    assert!(low < forecast.p.unwrap() && forecast.p.unwrap() < high);
}

#[test]
fn x10_a_hypothesis_is_followed_until_it_is_decided() {
    let left_cart = |day: &str| {
        (
            "voc.behaviour.observed.v1",
            format!("cart-{day}"),
            json!({"record": key("contact", "1"), "kind": "cart_abandoned"}),
        )
    };
    let mut told = story("");
    for day in ["2026-01-01", "2026-01-20", "2026-02-01", "2026-03-01"] {
        let (type_, id, data) = left_cart(day);
        told = told.event(day, type_, &id, data);
    }
    let bought = json!({"record": key("contact", "1"), "kind": "purchase"});
    told.event("2026-01-05", "voc.behaviour.observed.v1", "bought", bought).check(json!({"hypotheses": [{
        "id": "abandoned_cart", "expects": "purchase", "within_days": 14, "state": "contradicted", "sightings": 4,
        "confirmed": 1, "refuted": 2, "open": 1, "since": "2026-01-01T12:00:00Z",
        "evidence": ["cart-2026-03-01", "cart-2026-02-01", "cart-2026-01-20", "cart-2026-01-01"]}]}));
}

#[test]
fn x09_a_keyword_that_rises_says_so() {
    let mut lines = String::new();
    for day in 1..=9 {
        lines += &format!("2025-12-{:02} email a{day} neutral other | hello\n", day + 10);
        lines += &format!("2026-02-{day:02} email b{day} negative other | {{outage}}\n");
    }
    story(&lines).check(json!({"keywords": {"total": 1, "next": null, "rows": [
        {"keyword": "outage", "trend": {"direction": "rising", "before": 0, "recent": 9}}]}}));
}

#[test]
fn days_and_months_are_those_of_the_time_zone() {
    use hearken::insight::render::{View, document};
    let told = story("2026-01-31T23:30:00Z email 1 negative other | a");
    let (history, identity) = told.fold();
    let zone = jiff::tz::TimeZone::get("Asia/Shanghai").unwrap();
    let view =
        View::parse_in(Some("2026-02-01/2026-02-28"), None, zone, insight_story::at("2026-03-02")).unwrap();
    let there = document(&told.record, &history, &identity, &told.settings, &view);
    assert_eq!((there.highlights.total, there.sentiment.series[0].bucket.as_str()), (1, "2026-02"));
    assert_eq!(there.meta.window.tz, "Asia/Shanghai");
    told.window("2026-02-01/2026-02-28")
        .check(json!({"highlights": {"total": 0}, "meta": {"window": {"tz": "UTC"}}}));
}
