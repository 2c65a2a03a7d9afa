//! Warning labels, signals, watched phrases and survey metrics: what raises them, since when, on what evidence. The counts
//! of the panels are in `insight_panels.rs`.

mod insight_story;

use insight_story::{key, story};
use serde_json::json;

#[test]
fn z05_two_negatives_in_a_row_make_a_negative_customer() {
    story(
        "2026-02-20 email 1 positive other | Great.
         2026-02-21 email 2 negative complaint | The app crashes.
         2026-02-22 call 3 negative complaint | The app is slow and nobody answers. No reply for weeks.",
    )
    .check(json!({"highlights": {"labels": [
        {"id": "negative_customer", "active": true, "severity": 1, "basis": "inferred", "rule": "last_two_negative",
         "since": "2026-02-22T12:00:00Z", "cause": ["product", "communication"],
         "inputs": {"last": ["negative", "negative"], "negatives": 2, "responses": 3},
         "evidence": ["3", "2"], "evidence_total": 2},
        {"active": false}, {"active": false}]},
        "actions": [{"kind": "call_back", "label": "negative_customer", "state": "suggested"}]}));
}

#[test]
fn z05_a_high_share_of_negatives_makes_one_without_a_run() {
    let lines = "2026-02-01 email 1 negative complaint touchpoint=billing | Hm.
         2026-02-02 email 2 negative complaint touchpoint=billing | Hm.
         2026-02-03 email 3 negative complaint touchpoint=billing | Hm.
         2026-02-04 email 4 negative complaint touchpoint=billing | Hm.
         2026-02-05 email 5 positive other | Good.";
    story(lines).check(json!({"highlights": {"labels": [
        {"active": true, "severity": 1, "rule": "negative_share", "since": "2026-02-02T12:00:00Z", "cause": ["service"],
         "inputs": {"share_lower80": 0.514, "negatives_min": 3}, "evidence": ["4", "3", "2", "1"]},
        {"active": false}, {"active": false}]}}));
    // Ninety days on, nobody remembers; but the last two count for ever.
    let late = "2026-02-05 email 5 negative other | Bad.";
    story(lines).window("2026-06-01/2026-06-30").check(json!({"highlights": {"total": 0, "labels": [
        {"active": false, "evidence": []}, {"active": false}, {"active": false}]}}));
    story(&lines.replace("2026-02-05 email 5 positive other | Good.", late))
        .window("2026-06-01/2026-06-30")
        .check(json!({"highlights": {"labels": [
            {"active": true, "rule": "last_two_negative", "evidence": ["5", "4"]}, {"active": false}, {"active": false}]}}));
}

#[test]
fn z05_thresholds_are_settings() {
    story("2026-02-01 email 1 negative other | Bad.")
        .with(json!({"labels": {"last_negatives": 1}}))
        .check(json!({"highlights": {"labels": [{"active": true, "rule": "last_negatives"}, {}, {}]}}));
}

#[test]
fn z06_speaking_better_of_a_competitor_than_of_us() {
    story(
        "2026-02-01 email em-1 negative complaint | [-] Your {connection quality} is bad. [+] Airo has a good one.
         2026-02-02 chat ch-1 neutral other | [=] I read about Airo.",
    )
    .with(json!({"competitors": [{"name": "Airo Networks", "aliases": ["Airo"]}]}))
    .check(json!({
        "highlights": {"labels": [{"active": false},
            {"id": "may_switch_to_competitor", "active": true, "severity": 1, "rule": "stance",
             "since": "2026-02-01T12:00:00Z", "evidence": ["ch-1", "em-1"],
             "inputs": {"competitors": [{"competitor": "Airo Networks", "stance": {"competitor": 0.43, "us": -0.85}}]}},
            {"active": false}]},
        "competitors": {"rows": [{"competitor": "Airo Networks", "responses": 2, "mentions": 2,
            "last_mentioned_at": "2026-02-02T12:00:00Z",
            "stance": {"competitor": 0.43, "us": -0.85}, "switch_risk": {"p": 0.5, "n": 2, "leaning": 1},
            "sentiment": {"label": "positive", "positive": 1, "neutral": 1, "negative": 0},
            "keywords": [{"keyword": "connection quality", "count": 1}], "evidence": ["ch-1", "em-1"]}]},
    }));
}

#[test]
fn z06_speaking_better_of_us_is_no_warning() {
    story("2026-02-01 email em-1 positive other | [+] You are great. [-] Airo was awful.")
        .with(json!({"competitors": [{"name": "Airo", "aliases": []}]}))
        .check(json!({"highlights": {"labels": [{}, {"active": false}, {}]},
            "competitors": {"rows": [{"switch_risk": {"p": 0.0}}]}}));
}

#[test]
fn z06_words_of_switching_count_in_any_language() {
    for text in
        ["We are switching to Airo.", "Wir wechseln zu Airo.", "我打算换到Airo。", "Je passe chez Airo."]
    {
        story(&format!("2026-02-01 email em-1 neutral other | {text}"))
            .with(json!({"competitors": [{"name": "Airo"}]}))
            .check(json!({"highlights": {"labels": [{},
                {"active": true, "severity": 2, "rule": "switching_cue", "evidence": ["em-1"]}, {}]}}));
    }
}

#[test]
fn z07_churn_is_a_fact_or_inferred_from_a_statement() {
    let told = story("2026-02-01 email em-1 neutral request | Please cancel my subscription.");
    let inferred = json!({"highlights": {"labels": [{}, {},
        {"id": "churned_customer", "active": true, "basis": "inferred", "rule": "statement", "severity": 2,
         "since": "2026-02-01T12:00:00Z", "evidence": ["em-1"]}]}, "profile": {"saveable": true}});
    told.check(inferred)
        .event("2026-02-10", "voc.customer.churned.v1", "left", json!({"record": key("contact", "1"), "reason": "price"}))
        .check(json!({"highlights": {"labels": [{}, {},
            {"active": true, "basis": "fact", "rule": "churn_event", "severity": 3, "since": "2026-02-10T12:00:00Z",
             "inputs": {"reason": "price"}, "evidence": ["left"]}]}, "profile": {"saveable": false}}))
        .event("2026-02-20", "voc.behaviour.observed.v1", "back", json!({"record": key("contact", "1"), "kind": "purchase"}))
        .check(json!({"highlights": {"labels": [{}, {}, {"active": false}]}}));
    story("2026-02-01 email em-1 neutral request | Please do not cancel my subscription.")
        .check(json!({"highlights": {"labels": [{}, {}, {"active": false}]}}));
}

#[test]
fn m04_nps_needs_answers_and_the_standard_scale() {
    story(
        "2026-02-01 survey 1 - - survey=nps:9 |
         2026-02-02 survey 2 - - survey=nps:4 scale=0:5 |
         2026-02-03 survey 3 - - survey=nps:11 |
         2026-02-04 survey 4 - - survey=nps:3 |",
    )
    .check(json!({"metrics": {"nps": {"n": 2, "latest": 3.0, "value": null, "ci95": null,
        "note": "insufficient_evidence", "promoters": 1, "detractors": 1, "excluded": 2}},
        "profile": {"stance": "detractor", "stance_basis": "nps"}}))
    .and(
        "2026-02-05 survey 5 - - survey=nps:10 |
         2026-02-06 survey 6 - - survey=nps:10 |
         2026-02-07 survey 7 - - survey=nps:8 |",
    )
    .check(json!({"metrics": {"nps": {"n": 5, "value": 40.0, "ci95": [-29.8, 79.8], "note": null, "passives": 1}}}));
}

#[test]
fn m05_m06_m07_other_metrics_keep_to_their_scales() {
    story(
        "2026-02-01 survey 1 - - survey=csat:2 |
         2026-02-02 survey 2 - - survey=csat:3 |
         2026-02-03 survey 3 - - survey=ces:6 touchpoint=login |
         2026-02-04 survey 4 - - survey=ces:5 scale=1:5 touchpoint=billing |
         2026-02-05 survey 5 - - survey=cli:3,4,3 |
         2026-02-06 survey 6 - - survey=cli:1,1 |",
    )
    .check(json!({"metrics": {
        "csat": {"n": 2, "mean": 2.5, "top2_pct": 0.0, "below_threshold": true, "note": "insufficient_evidence"},
        "ces": {"n": 2, "mean": 3.5, "scale": "1-7", "pct_5_to_7": 50.0, "rescaled": 1, "reversed": 1,
            "by_touchpoint": [{"touchpoint": "billing", "n": 1, "mean": 1.0}, {"touchpoint": "login", "mean": 6.0}]},
        "cli": {"n": 1, "value": 3.33, "scale": "1-6", "excluded": 1}}}));
}

#[test]
fn c_signals_of_behaviour_and_words() {
    let saw = |kind: &str| json!({"record": key("contact", "1"), "kind": kind});
    story(
        "2026-02-01 social so-1 positive other | Love it.
         2026-02-02 chat ch-1 neutral request | How do I change my {password}?
         2026-02-03 chat ch-2 neutral request | Where is the {password} reset?
         2026-02-04 chat ch-3 neutral request | {Password} again. Let me speak to a human.",
    )
    .event("2026-02-05", "voc.behaviour.observed.v1", "b-1", saw("cart_abandoned"))
    .event("2026-02-05", "voc.behaviour.observed.v1", "b-2", saw("billing_viewed"))
    .event("2026-02-06", "voc.behaviour.observed.v1", "b-3", saw("billing_viewed"))
    .check(json!({"signals": [
        {"type": "positive_social", "evidence": ["so-1"]},
        {"type": "abandoned_cart", "count": 1, "evidence": ["b-1"],
         "action": "Send a reminder, and simplify the checkout."},
        {"type": "needs_person", "evidence": ["ch-3"]},
        {"type": "frequent_query", "count": 3, "evidence": ["ch-3", "ch-2", "ch-1"]}],
        "meta": {"coverage": {"behaviour": {"billing_viewed": 2, "cart_abandoned": 1},
            "by_feedback_kind": {"direct": 3, "indirect": 1, "inferred": 3}}}}));
}

#[test]
fn c15_watched_phrases_with_their_reach() {
    story(
        "2026-02-01 chat 1 positive other thread=T | Solar panels! Solar panels!
         2026-02-02 chat 2 positive other thread=T | The solar panel and Jo Lee
         2026-02-03 social 3 - - | solar panels",
    )
    .with(json!({"watchlists": [
        {"name": "range", "kind": "product", "phrases": ["solar panels", "heat pump"]},
        {"name": "people", "kind": "person", "phrases": ["Jo Lee"]}]}))
    .check(json!({"watch": {"hits": [
        {"name": "range", "kind": "product", "phrase": "solar panels", "count": 3, "reach": 2,
         "last_at": "2026-02-03T12:00:00Z", "evidence": ["3", "1"]},
        {"name": "people", "kind": "person", "phrase": "Jo Lee", "count": 1, "reach": 1, "evidence": ["2"]}]}}));
}

#[test]
fn z06_a_name_alone_is_no_warning() {
    story("2026-02-01 email em-1 neutral other | Does it work with Airo?")
        .with(json!({"competitors": [{"name": "Airo"}]}))
        .check(json!({"highlights": {"labels": [{}, {"active": false}, {}]}, "competitors": {"rows": [{"responses": 1}]}}));
}

#[test]
fn routing_names_the_team_of_an_action() {
    story("2026-02-01 email em-1 negative request | Please cancel my contract.")
        .with(json!({"routing": [{"label": "churned_customer", "team": "retention"}]}))
        .check(
            json!({"actions": [{"kind": "win_back", "label": "churned_customer", "owner_team": "retention",
            "state": "suggested", "evidence": ["em-1"]}]}),
        );
}
