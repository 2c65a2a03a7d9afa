//! The schema of the API: it is the committed one, it is served, and every route in it exists and asks for a key where
//! it says so. Rewrite the committed file with `UPDATE_OPENAPI=1 cargo test --test http_openapi`.

mod common;

use common::{Server, problem};
use reqwest::Method;

fn committed() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json")
}

#[test]
fn the_committed_schema_is_that_of_the_handlers() {
    let made = hearken::http::openapi::text();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(committed(), &made).unwrap();
    }
    let committed = std::fs::read_to_string(committed()).unwrap();
    assert!(
        committed == made,
        "openapi.json is not what the handlers say; after a wanted change run \
         UPDATE_OPENAPI=1 cargo test --test http_openapi and look at the difference"
    );
}

#[tokio::test]
async fn the_schema_and_its_pages_are_served() {
    let server = Server::start().await;
    let served = server.json("/openapi.json").await;
    let committed: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(committed()).unwrap()).unwrap();
    assert_eq!(served, committed);
    let docs = server.get("/docs").await;
    assert_eq!(docs.status(), 200);
    assert!(docs.text().await.unwrap().contains("swagger-ui"));
    let problems = server.get("/docs/problems").await.text().await.unwrap();
    assert!(problems.contains("id=\"malformed-json\""));
}

#[tokio::test]
async fn every_route_of_the_schema_exists_and_wants_a_key_where_it_says_so() {
    let server = Server::start_with("[[keys]]\nkey = \"k\"\nscopes = [\"admin\"]").await;
    let schema = server.json("/openapi.json").await;
    for (path, item) in schema["paths"].as_object().unwrap() {
        let real = path.replace("{module}", "contact").replace("{id}", "1").replace("{name}", "modules");
        for (method, operation) in item.as_object().unwrap() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let response = server.request(method, &real).send().await.unwrap();
            if operation.get("security").is_some() {
                problem(response, 401, "unauthorized").await;
            } else {
                assert_eq!(response.status(), 200, "{path}");
            }
        }
    }
}
