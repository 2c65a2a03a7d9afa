//! Pages over HTTP, on the bundled history: every link of a record's page leads somewhere, errors are pages, and the
//! headers that protect a reader are there.
//!
//! The models are random here, so nothing is said about moods; what pages say of a document is tested in
//! `pages_record`.

mod common;

use std::collections::BTreeSet;

use common::Server;
use hearken::{demo, pipeline::Tenant};
use reqwest::Response;

async fn told() -> Server {
    let server = Server::start().await;
    let tenant = Tenant::default();
    server.state.pipeline.put_setting(&tenant, "competitors", &demo::competitors()).await.unwrap();
    let events = demo::events(jiff::Timestamp::now());
    server.state.pipeline.ingest(&tenant, events, true).await.unwrap();
    server
}

async fn html(response: Response, status: u16) -> String {
    assert_eq!(response.status().as_u16(), status);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    let policy = response.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    response.text().await.unwrap()
}

fn addresses(page: &str) -> BTreeSet<String> {
    let links = page.split("href=\"").skip(1).chain(page.split("src=\"").skip(1));
    let links = links.map(|rest| rest.split('"').next().unwrap().replace("&amp;", "&"));
    links.map(|link| link.split('#').next().unwrap().to_owned()).filter(|l| !l.is_empty()).collect()
}

#[tokio::test]
async fn every_link_of_the_featured_page_leads_somewhere() {
    let server = told().await;
    let first = html(server.get("/").await, 200).await;
    let featured = demo::featured();
    let address = format!("/records/{}/{}", featured.module, featured.id);
    assert!(addresses(&first).contains(&address), "the list does not show {address}");

    let page = html(server.get(&address).await, 200).await;
    let links = addresses(&page);
    assert!(links.len() > 40, "few links: {links:?}");
    for link in links.iter().filter(|l| !l.starts_with("/docs")) {
        let response = server.get(link).await;
        assert_eq!(response.status(), 200, "{link}");
        if link.contains("/evidence?") {
            let page = html(response, 200).await;
            assert!(page.contains("class=\"said\""), "nothing is behind {link}");
        }
    }
}

#[tokio::test]
async fn the_featured_record_tells_of_its_conversion_its_deals_and_its_competitor_in_every_script() {
    let server = told().await;
    let page = html(server.get("/records/contact/C-1042").await, 200).await;
    for said in ["was lead", "L-311", "D-77", "D-91", "won", "lost", "Airo Networks", "48,600"] {
        assert!(page.contains(said), "the page does not say {said:?}");
    }
    for (contact, alias) in [("C-2004", "아이로 네트웍스"), ("C-2005", "艾罗网络"), ("C-2006", "إيرو نتوركس")]
    {
        let address = format!("/records/contact/{contact}/evidence?panel=competitors&key=Airo%20Networks");
        let page = html(server.get(&address).await, 200).await;
        assert!(page.contains(&format!("<mark>{alias}</mark>")), "{contact} does not show {alias}");
    }
}

#[tokio::test]
async fn errors_are_pages() {
    let server = told().await;
    let missing = html(server.get("/records/contact/nobody%3Cb%3E").await, 404).await;
    assert!(missing.contains("Nothing is known of contact nobody&lt;b&gt;"));
    html(server.get("/records/contact/C-1042/evidence?panel=weather").await, 400).await;
    html(server.get("/records/contact/C-1042/evidence").await, 400).await;
    html(server.get("/records/contact/C-1042?window=yesterday").await, 400).await;

    let modules = r#"{"modules": [{"name": "contact", "enabled": false}]}"#;
    server.state.pipeline.put_setting(&Tenant::default(), "modules", modules).await.unwrap();
    for address in ["/records/contact/C-1042", "/records/contact/C-1042/evidence?panel=labels"] {
        html(server.get(address).await, 403).await;
    }
}

#[tokio::test]
async fn browser_without_a_key_is_asked_for_one_on_a_page() {
    let server = Server::start_with("[[keys]]\nkey = \"secret\"\nscopes = [\"insights:read\"]\n").await;
    let visit = || server.request(reqwest::Method::GET, "/").header("accept", "text/html,*/*;q=0.8");
    let refused = visit().send().await.unwrap();
    let challenge = refused.headers()["www-authenticate"].to_str().unwrap().to_owned();
    assert!(challenge.starts_with("Basic"), "{challenge}");
    html(refused, 401).await;
    let admitted = visit().basic_auth("me", Some("secret")).send().await.unwrap();
    let page = html(admitted, 200).await;
    assert!(page.contains("Nothing has been received yet") && page.contains("/v1/events"));
}
