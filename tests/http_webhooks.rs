//! Webhooks, actions and digests over HTTP: what a receiver gets and how it checks it, retries, what is refused, who may
//! do what. That alerts survive a killed process is tested in `webhook_crash.rs`.

mod common;

use std::time::{Duration, Instant};

use common::{Server, mail, problem, receiver::Receiver};
use reqwest::{Method, Response};
use serde_json::{Value, json};

const OPEN: &str = "webhook_http = true
    webhook_private = true
    [limits]
    webhook_retry_ms_min = 20
    webhook_attempts_max = 3";

/// A server that knows a competitor: whoever names it raises an alert.
async fn server(toml: &str) -> Server {
    let server = Server::start_with(toml).await;
    let competitors = json!({"competitors": [{"name": "Airo"}]});
    let put =
        server.request(Method::PUT, "/v1/settings/competitors").json(&competitors).send().await.unwrap();
    assert_eq!(put.status(), 200);
    // The models of this server know nothing: only names count.
    let alerts = json!({"label_raised": {"enabled": false}, "critical_feedback": {"enabled": false},
                        "turned_negative": {"enabled": false}});
    let put = server.request(Method::PUT, "/v1/settings/alerts").json(&alerts).send().await.unwrap();
    assert_eq!(put.status(), 200);
    server
}

async fn add(server: &Server, body: Value) -> Value {
    let response = server.post_json("/v1/webhooks", &body).await;
    assert_eq!(response.status(), 201);
    response.json().await.unwrap()
}

async fn patch(server: &Server, path: &str, body: Value) -> Response {
    server.request(Method::PATCH, path).json(&body).send().await.unwrap()
}

/// Waits until a delivery of an endpoint is in a state.
async fn delivery(server: &Server, webhook: &Value, state: &str) -> Value {
    let path = format!("/v1/webhooks/{}/deliveries?state={state}", webhook["id"].as_str().unwrap());
    for _ in 0..1000 {
        let page = server.json(&path).await;
        if let Some(first) = page["items"].as_array().unwrap().first() {
            return first.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no delivery is {state}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_arrives_signed_as_a_cloudevent() {
    let (server, receiver) = (server(OPEN).await, Receiver::start().await);
    let webhook = add(&server, json!({"url": receiver.url("ok"), "description": "CRM"})).await;
    let secret = webhook["secret"].as_str().unwrap();
    server.apply(&[mail("m1", "42", "Airo is cheaper.")]).await;
    let hit = receiver.wait_for("ok", 1).await.remove(0);
    assert!(hit.is_signed_by(secret));
    assert!(!hit.is_signed_by("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
    assert_eq!(hit.headers["content-type"], "application/cloudevents+json");
    let age = jiff::Timestamp::now().as_second() - hit.headers["webhook-timestamp"].parse::<i64>().unwrap();
    assert!((0..10).contains(&age), "{age}");
    let event = hit.json();
    assert_eq!(event["id"], hit.id());
    assert_eq!((&event["specversion"], &event["subject"]), (&json!("1.0"), &json!("contact/42")));
    assert_eq!(event["type"], "hearken.alert.competitor_mentioned.v1");
    assert_eq!(event["data"]["found"]["competitor"], "Airo");
    let listed = server.json("/v1/alerts?record=contact/42").await;
    assert_eq!(listed["items"][0], event, "the list has it as it was sent");
    let sent = delivery(&server, &webhook, "delivered").await;
    assert_eq!(
        (&sent["alert"], &sent["attempts"], &sent["last_status"]),
        (&event["id"], &json!(1), &json!(200))
    );
    let metrics = server.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("hearken_alerts_total{rule=\"competitor_mentioned\"}"), "{metrics}");
    assert!(metrics.contains("hearken_webhook_deliveries_total{outcome=\"delivered\"}"));
    assert!(metrics.contains("hearken_outbox_pending"));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_tried_again_when_the_receiver_says_and_then_given_up_and_can_be_resent() {
    let (server, receiver) = (server(OPEN).await, Receiver::start().await);
    receiver.fail(1);
    add(&server, json!({"url": receiver.url("flaky")})).await;
    let bad = add(&server, json!({"url": receiver.url("bad")})).await;
    let moved = add(&server, json!({"url": receiver.url("moved")})).await;
    let started = Instant::now();
    server.apply(&[mail("m1", "42", "Airo")]).await;
    let flaky = receiver.wait_for("flaky", 2).await;
    assert!(started.elapsed() >= Duration::from_secs(1), "Retry-After is honoured: {:?}", started.elapsed());
    assert_eq!(flaky[0].id(), flaky[1].id());

    let dead = delivery(&server, &bad, "dead").await;
    assert_eq!((&dead["attempts"], &dead["last_status"]), (&json!(3), &json!(500)));
    assert_eq!(receiver.hits("bad").len(), 3);
    let dead_moved = delivery(&server, &moved, "dead").await;
    assert!(
        dead_moved["last_error"].as_str().unwrap().contains("redirects are not followed"),
        "{dead_moved}"
    );
    assert!(receiver.hits("ok").is_empty(), "nobody followed the redirect");

    let (id, alert) = (bad["id"].as_str().unwrap(), dead["alert"].as_str().unwrap());
    let repaired = patch(&server, &format!("/v1/webhooks/{id}"), json!({"url": receiver.url("ok")})).await;
    assert_eq!(repaired.status(), 200);
    let resend = server.request(Method::POST, &format!("/v1/webhooks/{id}/deliveries/{alert}/resend"));
    assert_eq!(resend.send().await.unwrap().status(), 202);
    assert_eq!(receiver.wait_for("ok", 1).await[0].id(), alert);
    let never = server.request(Method::POST, &format!("/v1/webhooks/{id}/deliveries/alr_none/resend"));
    problem(never.send().await.unwrap(), 404, "unknown-webhook").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_endpoint_holds_up_no_other_and_a_gone_one_is_left_alone() {
    let (server, receiver) = (server(OPEN).await, Receiver::start().await);
    add(&server, json!({"url": receiver.url("slow")})).await;
    let gone = add(&server, json!({"url": receiver.url("gone")})).await;
    add(&server, json!({"url": receiver.url("ok")})).await;
    let started = Instant::now();
    let mails: Vec<Value> = (0..20).map(|i| mail(&format!("m{i}"), &format!("{i}"), "Airo")).collect();
    server.apply(&mails).await;
    receiver.wait_for("ok", 20).await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(receiver.hits("slow").len() <= 4, "attempts at once are bounded");

    let path = format!("/v1/webhooks/{}", gone["id"].as_str().unwrap());
    for _ in 0..500 {
        if server.json(&path).await["enabled"] == false {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let disabled = server.json(&path).await;
    assert!(disabled["disabled_reason"].as_str().unwrap().contains("410"), "{disabled}");
    let before = receiver.hits("gone").len();
    server.apply(&[mail("after", "1", "Airo")]).await;
    receiver.wait_for("ok", 21).await;
    assert_eq!(receiver.hits("gone").len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_choose_types_and_teams_and_secrets_rotate_with_an_overlap() {
    let (server, receiver) = (server(OPEN).await, Receiver::start().await);
    let routing = json!({"routing": [{"label": "competitor_mentioned", "team": "retention"}]});
    server.request(Method::PUT, "/v1/settings/routing").json(&routing).send().await.unwrap();
    let ours = add(&server, json!({"url": receiver.url("ours"), "teams": ["retention"]})).await;
    add(&server, json!({"url": receiver.url("theirs"), "teams": ["sales"]})).await;
    add(&server, json!({"url": receiver.url("labels"), "event_types": ["hearken.alert.label_raised.v1"]}))
        .await;
    let (id, old) = (ours["id"].as_str().unwrap(), ours["secret"].as_str().unwrap());
    let rotated: Value =
        server.post_json(&format!("/v1/webhooks/{id}/secret"), &json!({})).await.json().await.unwrap();
    let new = rotated["secret"].as_str().unwrap();
    server.apply(&[mail("m1", "42", "Airo")]).await;
    let hit = receiver.wait_for("ours", 1).await.remove(0);
    assert!(hit.is_signed_by(new) && hit.is_signed_by(old));
    assert_eq!(hit.json()["data"]["owner_team"], "retention");

    let cut = server.post_json(&format!("/v1/webhooks/{id}/secret"), &json!({"overlap_hours": 0})).await;
    let newest = cut.json::<Value>().await.unwrap()["secret"].as_str().unwrap().to_owned();
    let test = server.request(Method::POST, &format!("/v1/webhooks/{id}/test")).send().await.unwrap();
    assert_eq!(test.status(), 202);
    let hit = receiver.wait_for("ours", 2).await.remove(1);
    assert_eq!(hit.json()["type"], "hearken.webhook.test.v1");
    assert!(hit.is_signed_by(&newest) && !hit.is_signed_by(new));
    assert!(receiver.hits("theirs").is_empty() && receiver.hits("labels").is_empty());
    let told = server.json(&format!("/v1/webhooks/{id}")).await;
    assert!(told.get("secret").is_none(), "a secret is told once");

    // The route has opened a case, which the alert names and the list shows.
    let action = &server.json("/v1/actions?owner_team=retention&state=open").await["items"][0];
    assert_eq!(action["record"], json!({"module": "contact", "id": "42"}));
    assert_eq!(action["id"], receiver.hits("ours")[0].json()["data"]["action"]);
    let gone = server.request(Method::DELETE, &format!("/v1/webhooks/{id}")).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    problem(server.get(&format!("/v1/webhooks/{id}/deliveries")).await, 404, "unknown-webhook").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_that_lead_inside_and_bodies_that_do_not_fit_are_refused() {
    let server = server("").await;
    for (body, pointer) in [
        (json!({"url": "http://example.com/"}), "/url"),
        (json!({"url": "https://127.0.0.1/"}), "/url"),
        (json!({"url": "https://[fe80::1]/"}), "/url"),
        (json!({"url": "https://169.254.169.254/"}), "/url"),
        (json!({"url": ""}), "/url"),
        (json!({"url": 3}), "/url"),
        (json!({"url": "https://example.com/", "secret": "short"}), "/secret"),
        (json!({"url": "https://example.com/", "event_types": ["all"]}), "/event_types/0"),
        (json!({"url": "https://example.com/", "urls": []}), "/urls"),
    ] {
        let refused = problem(server.post_json("/v1/webhooks", &body).await, 422, "invalid-body").await;
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{body}: {refused}");
    }
    // A name that leads inside is only found out when a connection is made.
    let webhook = add(&server, json!({"url": "https://localhost:9/"})).await;
    server.apply(&[mail("m1", "42", "Airo")]).await;
    let path = format!("/v1/webhooks/{}/deliveries", webhook["id"].as_str().unwrap());
    for _ in 0..500 {
        let page = server.json(&path).await;
        if page["items"][0]["attempts"] == 1 {
            let error = page["items"][0]["last_error"].as_str().unwrap();
            assert!(error.contains("localhost has no public address"), "{error}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no attempt was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_are_changed_with_etags_and_shown_in_the_document() {
    let server = server(OPEN).await;
    let routing = json!({"routing": [{"label": "*", "team": "care"}]});
    server.request(Method::PUT, "/v1/settings/routing").json(&routing).send().await.unwrap();
    server.apply(&[mail("m1", "42", "Airo")]).await;
    let mut action = Value::Null;
    for _ in 0..500 {
        action = server.json("/v1/actions?state=open").await["items"][0].clone();
        if action["id"].is_string() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let path = format!("/v1/actions/{}", action["id"].as_str().unwrap());
    let insights = "/v1/records/contact/42/insights";
    let before = server.get(insights).await.headers()["etag"].clone();
    let read = server.get(&path).await;
    let tag = read.headers()["etag"].clone();
    let body: Value = read.json().await.unwrap();
    assert_eq!((&body["history"][0]["by"], &body["label"]), (&json!("rule"), &json!("competitor_mentioned")));

    let change =
        json!({"state": "done", "customer_told_at": "2026-03-02T09:14:07Z", "note": "Better price."});
    let done =
        server.request(Method::PATCH, &path).header("if-match", &tag).json(&change).send().await.unwrap();
    assert_eq!(done.status(), 200);
    assert_ne!(done.headers()["etag"], tag);
    let late =
        server.request(Method::PATCH, &path).header("if-match", &tag).json(&change).send().await.unwrap();
    problem(late, 412, "version-conflict").await;
    let after = server.get(insights).await;
    assert_ne!(after.headers()["etag"], before);
    let document: Value = after.json().await.unwrap();
    let shown = document["actions"].as_array().unwrap().iter().find(|a| a["id"] == action["id"]).unwrap();
    assert_eq!((&shown["state"], &shown["note"]), (&json!("done"), &json!("Better price.")));
    assert_eq!(shown["customer_told_at"], "2026-03-02T09:14:07Z");
    let page = server.get("/records/contact/42").await.text().await.unwrap();
    assert!(page.contains("care"), "the page names the team");

    for (body, pointer) in [
        (json!({"state": "finished"}), "/state"),
        (json!({"due_at": "tomorrow"}), "/due_at"),
        (json!({"owner_team": " "}), "/owner_team"),
        (json!({"owner": "x"}), "/owner"),
    ] {
        let refused = problem(patch(&server, &path, body).await, 422, "invalid-body").await;
        assert_eq!(refused["errors"][0]["pointer"], pointer);
    }
    problem(patch(&server, "/v1/actions/act_none", json!({"state": "done"})).await, 404, "unknown-action")
        .await;
    problem(server.get("/v1/actions?state=finished").await, 422, "invalid-query").await;
    problem(server.get("/v1/actions?limit=0").await, 422, "invalid-query").await;

    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let digest = server.json(&format!("/v1/digest?team=care&date={today}")).await;
    assert_eq!(
        digest["alerts"],
        json!([{"rule": "competitor_mentioned", "label": "competitor_mentioned",
                                          "severity": digest["alerts"][0]["severity"], "count": 1}])
    );
    let done = json!({"state": "done", "label": "competitor_mentioned", "count": 1});
    assert!(digest["actions"].as_array().unwrap().contains(&done), "{digest}");
    assert_eq!((&digest["overdue"], &digest["to_tell"]), (&json!(0), &json!(0)));
    assert_eq!(server.json(&format!("/v1/digest?team=other&date={today}")).await["alerts_total"], 0);
    problem(server.get("/v1/digest?date=yesterday").await, 422, "invalid-query").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_and_tenants_hold_for_alerts_actions_and_webhooks() {
    const KEYS: &str = r#"
        webhook_http = true
        webhook_private = true
        [[keys]]
        key = "acme-admin"
        tenant = "acme"
        scopes = ["admin"]
        [[keys]]
        key = "acme-crm"
        tenant = "acme"
        scopes = ["insights:read"]
        [[keys]]
        key = "acme-feed"
        tenant = "acme"
        scopes = ["ingest"]
        [[keys]]
        key = "other-admin"
        tenant = "other"
        scopes = ["admin"]
    "#;
    let (server, receiver) = (Server::start_with(KEYS).await, Receiver::start().await);
    let call = |key: &'static str, method: Method, path: String, body: Option<Value>| {
        let request = server.request(method, &path).bearer_auth(key);
        async move { body.map_or(request.try_clone().unwrap(), |b| request.json(&b)).send().await.unwrap() }
    };
    let competitors = json!({"competitors": [{"name": "Airo"}]});
    let routing = json!({"routing": [{"label": "competitor_mentioned", "team": "care"}]});
    for (name, body) in [("competitors", competitors), ("routing", routing)] {
        let put = call("acme-admin", Method::PUT, format!("/v1/settings/{name}"), Some(body)).await;
        assert_eq!(put.status(), 200);
    }
    let theirs = json!({"url": receiver.url("theirs")});
    assert_eq!(call("other-admin", Method::POST, "/v1/webhooks".into(), Some(theirs)).await.status(), 201);
    let ours =
        call("acme-admin", Method::POST, "/v1/webhooks".into(), Some(json!({"url": receiver.url("ours")})));
    let ours: Value = ours.await.json().await.unwrap();
    let ours = format!("/v1/webhooks/{}", ours["id"].as_str().unwrap());
    let sent =
        call("acme-feed", Method::POST, "/v1/events?wait=applied".into(), Some(mail("m", "42", "Airo")))
            .await;
    assert_eq!(sent.status(), 202);
    receiver.wait_for("ours", 1).await;
    assert!(receiver.hits("theirs").is_empty());

    let list = |key| call(key, Method::GET, "/v1/actions?state=open".into(), None);
    let mut open = Value::Null;
    for _ in 0..500 {
        open = list("acme-crm").await.json().await.unwrap();
        if open["items"].as_array().is_some_and(|items| !items.is_empty()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let action = format!("/v1/actions/{}", open["items"][0]["id"].as_str().unwrap());
    let nobody: Value = list("other-admin").await.json().await.unwrap();
    assert_eq!(nobody["items"], json!([]));
    let alerts: Value =
        call("other-admin", Method::GET, "/v1/alerts".into(), None).await.json().await.unwrap();
    assert_eq!(alerts["items"], json!([]));
    let hooks: Value =
        call("other-admin", Method::GET, "/v1/webhooks".into(), None).await.json().await.unwrap();
    assert_eq!(hooks["items"].as_array().unwrap().len(), 1);

    let done = || Some(json!({"state": "done"}));
    let of_ours = |suffix: &str| format!("{ours}{suffix}");
    for (method, path, body, kind) in [
        (Method::GET, action.clone(), None, "unknown-action"),
        (Method::PATCH, action.clone(), done(), "unknown-action"),
        (Method::GET, of_ours(""), None, "unknown-webhook"),
        (Method::PATCH, of_ours(""), Some(json!({"enabled": false})), "unknown-webhook"),
        (Method::DELETE, of_ours(""), None, "unknown-webhook"),
        (Method::POST, of_ours("/test"), None, "unknown-webhook"),
        (Method::POST, of_ours("/secret"), Some(json!({})), "unknown-webhook"),
        (Method::GET, of_ours("/deliveries"), None, "unknown-webhook"),
    ] {
        problem(call("other-admin", method, path, body).await, 404, kind).await;
    }
    for (key, method, path, body) in [
        ("acme-feed", Method::GET, "/v1/actions".into(), None),
        ("acme-feed", Method::GET, "/v1/alerts".into(), None),
        ("acme-feed", Method::GET, "/v1/digest".into(), None),
        ("acme-crm", Method::PATCH, action.clone(), done()),
        ("acme-crm", Method::GET, "/v1/webhooks".into(), None),
        ("acme-feed", Method::POST, "/v1/webhooks".into(), Some(json!({"url": "https://example.com"}))),
    ] {
        problem(call(key, method, path, body).await, 403, "forbidden").await;
    }
    assert_eq!(call("acme-feed", Method::PATCH, action, done()).await.status(), 200);
}
