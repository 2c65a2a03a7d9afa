//! Each panel of the document, shown on a small history told in lines. What holds for every history (order, erasure,
//! agreement of the panels) is in `insight_laws.rs`; labels, signals and
//! survey metrics in `insight_rules.rs`; statistics are tested beside their formulas.

mod insight_story;

use insight_story::{key, story};
use serde_json::json;

const DEAL: &str = "voc.deal.stage_changed.v1";

#[test]
fn z02_coverage_counts_customers_that_were_scored() {
    story(
        "2026-02-01 email em-1 positive other thread=T1 | Thank you.
         2026-02-02 email em-2 negative complaint thread=T1 | It broke again.
         2026-02-03 survey sv-1 neutral other survey=csat:3 | Fine.
         2026-02-04 chat ch-1 - - | Nobody scored this.
         2026-02-05 email em-3 - - direction=outbound | We are sorry.
         2026-02-06 survey sv-2 - - survey=nps:9 |
         2025-01-01 email em-0 positive other | Long ago.",
    )
    .check(json!({
        "record": {"module": "contact", "id": "1", "aliases": []},
        "meta": {
            "schema": "hearken.record-insight/1", "revision": 7, "as_of": null, "lag_ms": null,
            "window": {"from": "2025-12-02", "to": "2026-03-02", "tz": "UTC"},
            "models": {"intent": "sha256:intent", "keyphrases": "sha256:keyphrases", "sentiment": "sha256:sentiment"},
            "rules": "labels@0", "eligible": true, "module_enabled": true,
            "coverage": {
                "interactions": 3, "unique_responses": 2, "unscored": 1, "survey_pct": 33.3,
                "by_channel": {"email": 2, "survey": 1},
                "outbound": 1, "without_customer_text": 2, "survey_answers": 2,
                "by_feedback_kind": {"direct": 5},
            },
            "last_activity_at": "2026-02-06T12:00:00Z",
        },
        "links": {"self": "/v1/records/contact/1/insights", "evidence": "/v1/records/contact/1/evidence"},
    }));
}

#[test]
fn z03_every_key_is_there_in_an_empty_document_in_the_order_of_the_contract() {
    let document = serde_json::to_value(story("").document()).unwrap();
    let keys: Vec<&String> = document.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "record",
            "meta",
            "highlights",
            "sentiment",
            "keywords",
            "competitors",
            "intent",
            "sentiment_by_channel",
            "intent_by_channel",
            "conversion",
            "deals",
            "metrics",
            "emotions",
            "journey",
            "ops",
            "signals",
            "drivers",
            "friction",
            "profile",
            "predictions",
            "hypotheses",
            "actions",
            "watch",
            "links"
        ]
    );
    story("").check(json!({
        "highlights": {"total": 0, "sentiment": {"positive": {"count": 0, "pct": 0.0, "ci95": null}},
            "labels": [{"id": "negative_customer", "active": false}, {"id": "may_switch_to_competitor", "active": false},
                {"id": "churned_customer", "active": false}]},
        "sentiment": {"distribution": {"positive": 0, "neutral": 0, "negative": 0}, "series": [], "change": null,
            "last_negative_at": null, "preferred_channel": null},
        "keywords": {"rows": [], "next": null}, "competitors": {"rows": []}, "sentiment_by_channel": [],
        "intent": {"distribution": {"complaint": 0, "purchase": 0, "request": 0, "other": 0}, "series": [], "items": []},
        "conversion": {"status": "none", "lead_id": null, "keywords_before": []}, "deals": [],
        "metrics": {"nps": {"n": 0, "value": null, "note": "insufficient_evidence"}, "csat": {"mean": null}},
        "watch": {"hits": []},
    }));
}

#[test]
fn z01_a_module_can_be_switched_off() {
    story("")
        .with(json!({"modules": [{"name": "contact", "enabled": false}], "labels_version": 3}))
        .check(json!({"meta": {"eligible": false, "module_enabled": false, "rules": "labels@3"}}));
}

#[test]
fn z04_highlights_are_counts_and_their_shares() {
    story(
        "2026-02-01 email 1 positive other | a
         2026-02-02 call 2 negative other | b
         2026-02-03 chat 3 negative other | c",
    )
    .check(json!({"highlights": {"total": 3, "sentiment": {
        "positive": {"count": 1, "pct": 33.3, "ci95": [6.1, 79.2]},
        "neutral": {"count": 0, "pct": 0.0, "ci95": [0.0, 56.1]},
        "negative": {"count": 2, "pct": 66.7, "ci95": [20.8, 93.9]},
    }}}));
}

#[test]
fn z10_months_in_between_are_listed_though_empty() {
    story(
        "2025-12-30 email 1 positive other | a
         2026-02-10 email 2 negative other thread=T | b
         2026-02-11 email 3 neutral other thread=T | c",
    )
    .check(json!({"sentiment": {
    "distribution": {"positive": 1, "neutral": 1, "negative": 1}, "unique_responses": 2,
    "last_negative_at": "2026-02-10T12:00:00Z",
    "series": [
        {"bucket": "2025-12", "positive": 1, "neutral": 0, "negative": 0, "unique_responses": 1},
        {"bucket": "2026-01", "positive": 0, "neutral": 0, "negative": 0, "unique_responses": 0},
        {"bucket": "2026-02", "positive": 0, "neutral": 1, "negative": 1, "unique_responses": 1},
    ]}}));
}

#[test]
fn z11_change_names_its_drivers() {
    story(
        "2026-01-01 email 1 positive other | {price:positive}
         2026-01-02 email 2 positive other | {price:positive}
         2026-01-03 email 3 negative other | {price:negative}
         2026-02-01 email 4 negative complaint | {outages} and {price}
         2026-02-02 email 5 negative complaint | {Outage}
         2026-02-03 email 6 neutral other | nothing",
    )
    .check(json!({"sentiment": {"change": {
        "from": "2026-01", "to": "2026-02", "direction": "down", "net_from": 0.33, "net_to": -0.67, "p": 0.1724,
        "drivers": ["Outage"], "note": null}}}));
    story("2026-02-01 email 1 positive other | a").check(json!({"sentiment": {"change": null}}));
}

#[test]
fn z13_keywords_by_meaning_most_recent_first() {
    story(
        "2026-02-01 email 1 negative complaint | The {outage} again, this {outage}!
         2026-02-02 call 2 neutral other | [=] About the {Outages}. [+] {Price} is fine.
         2026-02-03 chat 3 positive other | {support:positive} is nice",
    )
    .check(json!({"keywords": {"total": 3, "next": null, "rows": [
        {"keyword": "support", "mentions": 1, "sentiment": {"label": "positive", "positive": 1}},
        {"keyword": "outage", "last_mentioned_at": "2026-02-02T12:00:00Z", "mentions": 3, "responses": 2,
         "sentiment": {"label": "negative", "positive": 0, "neutral": 1, "negative": 2}, "evidence": ["2", "1"]},
        {"keyword": "Price", "mentions": 1, "sentiment": {"label": "positive"}},
    ]}}));
}

#[test]
fn z14_only_the_customers_own_words_mention_a_competitor() {
    story(
        "2026-02-01 chat 1 neutral other | 我在看艾罗网络
         2026-02-02 email 2 - - direction=outbound | Do not go to Airo.
         2026-02-03 chat 3 - - | Not scored, but Airo is named.",
    )
    .with(json!({"competitors": [{"name": "Airo Networks", "aliases": ["Airo", "艾罗网络"]}, {"name": "Nobody"}]}))
    .check(json!({"competitors": {"rows": [{"competitor": "Airo Networks", "responses": 2, "evidence": ["3", "1"]}]}}));
}

#[test]
fn z18_items_are_resolved_by_what_is_said_later() {
    let asked = "2026-02-01 ticket zd-1 negative complaint thread=T1 | My {router} broke.
         2026-02-05 ticket zd-2 neutral request thread=T2 resolved=true | Please send me the long manual of it.
         2026-02-06 chat ch-1 positive other | Thanks";
    let status = |resolved| json!({"thread_id": "T1", "record": key("contact", "1"), "resolved": resolved});
    story(asked)
        .check(json!({"intent": {"distribution": {"complaint": 1, "purchase": 0, "request": 1, "other": 1},
            "items_total": 2, "open_total": 1, "items": [
            {"id": "zd-2", "intent": "request", "confidence": 0.9, "at": "2026-02-05T12:00:00Z",
             "summary": "Please send me the long manual of it.", "resolved": true, "resolved_at": "2026-02-05T12:00:00Z"},
            {"id": "zd-1", "intent": "complaint", "summary": "router", "resolved": false, "resolved_at": null}]}}))
        .event("2026-01-01", "voc.ticket.status_changed.v1", "s0", status(true))
        .check(json!({"intent": {"items": [{}, {"resolved": false}]}}))
        .event("2026-02-07", "voc.ticket.status_changed.v1", "s1", status(true))
        .check(json!({"intent": {"items": [{}, {"resolved": true, "resolved_at": "2026-02-07T12:00:00Z"}]}}))
        .event("2026-02-08", "voc.ticket.status_changed.v1", "s2", status(false))
        .check(json!({"intent": {"items": [{}, {"resolved": false}]}}));
}

#[test]
fn z19_z20_channels() {
    story(
        "2026-02-01 survey 1 neutral request | a
         2026-02-02 survey 2 positive request | b
         2026-02-03 survey 3 negative request | c
         2026-02-04 survey 4 negative other | d
         2026-02-05 email 5 positive purchase | e",
    )
    .check(json!({
        "sentiment": {"preferred_channel": "survey"},
        "sentiment_by_channel": [
            {"channel": "email", "positive": 1, "neutral": 0, "negative": 0},
            {"channel": "survey", "positive": 1, "neutral": 1, "negative": 2}],
        "intent_by_channel": [
            {"channel": "email", "purchase": 1, "intended": null, "off_purpose_pct": null},
            {"channel": "survey", "request": 3, "other": 1, "intended": "other", "off_purpose_pct": 75.0}],
    }))
    .with(json!({"channels": [{"name": "survey", "intended": "request"}]}))
    .check(json!({"intent_by_channel": [{}, {"intended": "request", "off_purpose_pct": 25.0}]}));
}

#[test]
fn z21_z22_a_lead_becomes_a_contact() {
    let lead = key("lead", "L77");
    let told = story(
        "2025-06-01 email em-1 positive request record=lead:L77 | About {pricing}, your {pricing}.
         2025-06-02 email em-2 neutral request record=lead:L77 | The {demo}.
         2025-07-01 email em-3 negative complaint record=lead:L77 | {Outage}, later.",
    )
    .event(
        "2025-06-10T14:24:00Z",
        "voc.record.converted.v1",
        "cv",
        json!({
        "from": {"module": "lead", "id": "L77", "created_at": "2025-05-23T12:00:00Z"},
        "to": [key("account", "A"), key("contact", "1")]}),
    );
    let expected = json!({"conversion": {"status": "converted", "lead_id": "L77", "at": "2025-06-10T14:24:00Z",
        "days_to_convert": 18.1, "responses_before": 2, "keywords_before": [
            {"keyword": "pricing", "count": 2, "sentiment": "positive", "evidence": ["em-1"]},
            {"keyword": "demo", "count": 1, "sentiment": "neutral", "evidence": ["em-2"]}]}});
    told.check(expected.clone())
        .check(json!({"record": {"aliases": [{"module": "lead", "id": "L77"}]}, "highlights": {"total": 0}}))
        .window("all")
        .check(json!({"highlights": {"total": 3}}))
        .of(key("account", "A"))
        .check(expected.clone())
        .of(lead.clone())
        .check(expected);
    story("").of(lead).check(json!({"conversion": {"status": "open", "days_to_convert": null}}));
}

#[test]
fn z23_z24_z25_before_and_after_a_deal() {
    let stage = |from: &str, to: &str, outcome: &str| {
        json!({"record": key("deal", "D9"), "contacts": [key("contact", "1")], "from": from, "to": to,
            "outcome": outcome, "reason": "price", "amount": 1200.0})
    };
    let expected = json!({"deals": [{"deal_id": "D9", "outcome": "won", "amount": 1200.0,
        "transition": {"from": "negotiation", "to": "closed_won", "at": "2026-02-11T16:30:00Z"},
        "before": {"responses": 3, "net_sentiment": 0.67, "keywords": [
            {"keyword": "fast install", "count": 2, "sentiment": "positive", "z": 1.26}]},
        "after": {"responses": 3, "net_sentiment": -1.0, "keywords": [
            {"keyword": "outage", "count": 3, "sentiment": "negative", "z": 1.54}]},
        "flip": {"type": "positive_to_negative", "advice": "check_delivery", "note": null},
        "reasons": [{"kind": "won", "keyword": "price", "count": 1}, {"kind": "won", "keyword": "fast install", "count": 2}],
        "transitions": [{"to": "negotiation"}, {"to": "closed_won"}]}],
        "profile": {"value": 1200.0}});
    story(
        "2025-02-01 email 1 positive other | {fast install}
         2025-02-02 email 2 positive other | {fast install}
         2025-02-03 email 3 neutral other | ok
         2026-02-12 email 4 negative complaint | {outage}
         2026-02-13 email 5 negative complaint | {outage}
         2026-02-14 email 6 negative complaint | {outage}",
    )
    .event("2025-01-01", DEAL, "st1", stage("new", "negotiation", "open"))
    .event("2026-02-11T16:30:00Z", DEAL, "st2", stage("negotiation", "closed_won", "won"))
    .check(expected.clone())
    .of(key("deal", "D9"))
    .check(expected)
    .check(json!({"highlights": {"total": 3}, "record": {"aliases": []}}));
}

#[test]
fn a_contact_sees_the_changes_of_its_deal_that_do_not_name_it() {
    story("2026-02-01 email 1 positive other | a")
        .event(
            "2026-01-01",
            DEAL,
            "st1",
            json!({"record": key("deal", "D"), "contacts": [key("contact", "1")], "to": "new"}),
        )
        .event(
            "2026-01-05",
            DEAL,
            "st2",
            json!({"record": key("deal", "D"), "to": "closed_lost", "outcome": "lost",
            "reason": "too slow"}),
        )
        .check(json!({"meta": {"revision": 3}, "deals": [{"transition": {"to": "closed_lost"}, "flip": null,
            "reasons": [{"kind": "lost", "keyword": "too slow"}]}]}));
}

#[test]
fn k06_drivers_and_friction() {
    story(
        "2026-02-01 email 1 negative complaint product=router touchpoint=billing | {outage}
         2026-02-02 email 2 negative complaint product=router | {outage}
         2026-02-03 email 3 positive other product=app | nice
         2026-02-04 email 4 positive other product=app | nice",
    )
    .check(json!({
        "drivers": [
            {"kind": "keyword", "theme": "outage", "responses": 2, "share": 0.5, "mean_with": -1.0, "mean_without": 1.0,
             "impact": -1.0, "evidence": ["2", "1"]},
            {"kind": "product", "theme": "app", "impact": 1.0},
            {"kind": "product", "theme": "router", "impact": -1.0}],
        "friction": [
            {"kind": "product", "place": "router", "negatives": 2, "negative_pct": 100.0,
             "aftermath": {"contacted_again": 2, "recovered": 1, "silent": 0}},
            {"kind": "touchpoint", "place": "billing", "negatives": 1}],
        "profile": {"opinions": [{"product": "app", "sentiment": {"label": "positive"}}, {"product": "router"}],
            "feeling": 0.0, "stance": "passive"},
    }));
}

#[test]
fn k03_a_conversation_that_escalates() {
    story(
        "2026-02-01 email 1 neutral request thread=T | Where is it?
         2026-02-02 chat 2 negative complaint thread=T wait=600 resolved=false | Still nothing.
         2026-02-03 call 3 negative complaint thread=T | I am furious.",
    )
    .check(json!({"journey": {
        "escalation": [{"thread_id": "T", "contacts": 3, "channels": ["email", "chat", "call"], "net_from": 0.0,
            "net_to": -0.85, "evidence": ["3", "2", "1"]}],
        "effort": {"contacts_per_response": 3.0, "repeated": 1, "channel_switches": 1}},
        "ops": {"n": 1, "wait_s_mean": 600.0, "resolved_pct": 0.0, "negative_pct_unresolved": 100.0,
            "when_negative": {"n": 1, "wait_s_mean": 600.0}, "otherwise": {"n": 0, "wait_s_mean": null}}}));
}

#[test]
fn x01_a_document_as_it_was() {
    let told = story(
        "2025-10-01 email 1 positive other | a
         2025-10-05 email 2 negative other | b",
    )
    .event(
        "2025-11-01",
        "voc.record.merged.v1",
        "m",
        json!({"from": key("contact", "2"), "into": key("contact", "1")}),
    )
    .and("2025-10-02 email 3 neutral other record=contact:2 | c");
    told.seen_at("2025-10-03T00:00:00Z")
        .check(json!({"highlights": {"total": 1}, "record": {"aliases": []},
            "meta": {"window": {"from": "2025-07-05", "to": "2025-10-03"}, "revision": 1}}))
        .seen_at("2025-11-01T12:00:00Z")
        .check(json!({"highlights": {"total": 3}, "meta": {"revision": 4}}));
}

#[test]
fn n06_merged_and_unmerged() {
    let edge = json!({"from": key("contact", "2"), "into": key("contact", "1")});
    story(
        "2026-02-01 email a positive other | a
         2026-02-02 email a negative other source=other record=contact:2 | b",
    )
    .check(json!({"highlights": {"total": 1}}))
    .event("2026-02-03", "voc.record.merged.v1", "m", edge.clone())
    .check(json!({"highlights": {"total": 2}, "record": {"aliases": [{"id": "2"}]},
        "intent": {"items": []}, "profile": {"feeling": 0.0}}))
    .event("2026-02-04", "voc.record.unmerged.v1", "u", edge.clone())
    .check(json!({"highlights": {"total": 1}}))
    // A merge that comes late, but happened before.
    .event("2026-02-03T18:00:00Z", "voc.record.merged.v1", "m2", edge.clone())
    .check(json!({"highlights": {"total": 1}}))
    .event("2026-02-05", "voc.record.merged.v1", "m3", edge)
    .check(json!({"highlights": {"total": 2}}));
}

#[test]
fn ids_of_several_sources_are_told_apart() {
    story(
        "2026-02-01 email a negative other | {x}
         2026-02-02 email a negative other source=shop | {x}
         2026-02-03 email b negative other source=shop | {x}",
    )
    .check(json!({"keywords": {"rows": [{"evidence": ["b", "shop#a", "crm#a"], "evidence_total": 3}]}}));
}
