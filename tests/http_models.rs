//! Models over HTTP: putting one into a slot, and the shapes of Hugging Face, the Open Inference Protocol, vLLM and
//! zero-shot. Not covered here: the clients themselves (`tests/clients`), swaps under load (`engine_swap.rs`).

mod common;

use common::{
    Server,
    engine_pack::{pack, plain},
    problem,
};
use reqwest::Method;
use serde_json::{Value, json};

async fn put(server: &Server, slot: &str, dir: &std::path::Path) {
    let swap = server.swap(slot, &json!({"path": dir})).await;
    assert_eq!(swap["state"], "serving", "{swap}");
}

async fn ask(server: &Server, path: &str, body: Value) -> Value {
    let response = server.post_json(path, &body).await;
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn a_model_is_put_into_a_slot_and_answers_name_it() {
    let server = Server::start().await;
    let other = pack(8);
    let before = server.json("/v1/models/sentiment").await;
    put(&server, "sentiment", other.path()).await;
    let after = server.json("/v1/models/sentiment").await;
    assert_ne!(before["revision"], after["revision"]);
    assert_eq!(
        (after["state"].as_str(), after["last_swap"]["state"].as_str()),
        (Some("serving"), Some("serving"))
    );
    let scored = ask(&server, "/v1/score", json!({"inputs": ["the connection is bad"]})).await;
    assert_eq!(scored["models"]["sentiment"]["revision"], after["revision"]);
    assert_eq!(scored["models"]["intent"]["revision"], before["revision"]);

    let failed = server.swap("sentiment", &json!({"path": "/nowhere"})).await;
    assert_eq!(
        (failed["state"].as_str(), failed["reason"].as_str()),
        (Some("failed"), Some("/nowhere: is no folder with a config.json"))
    );
    assert_eq!(server.json("/v1/models/sentiment").await["revision"], after["revision"]);

    let put_raw = async |path: &str, body: Value| {
        let request = server.request(Method::PUT, path).header("content-type", "application/json");
        request.body(body.to_string()).send().await.unwrap()
    };
    problem(put_raw("/v1/models/sentiment", json!({})).await, 422, "invalid-body").await;
    problem(put_raw("/v1/models/sentiment", json!({"path": "a", "repo": "b"})).await, 422, "invalid-body")
        .await;
    problem(
        put_raw("/v1/models/sentiment", json!({"path": "a", "revision": "b"})).await,
        422,
        "invalid-body",
    )
    .await;
    problem(put_raw("/v1/models/a%20b", json!({"path": "a"})).await, 400, "bad-request").await;
    problem(server.get("/v1/models/none").await, 404, "unknown-model").await;
    problem(server.get("/v1/models/sentiment/swaps/99").await, 404, "not-found").await;
    problem(server.request(Method::DELETE, "/v1/models/sentiment").send().await.unwrap(), 409, "conflict")
        .await;
    let many = server.swap("extra", &json!({"path": other.path()})).await;
    assert!(many["reason"].as_str().unwrap().contains("none is named extra"));
}

#[tokio::test]
async fn admin_routes_want_the_scope() {
    let server = Server::start_with("[[keys]]\nkey = \"k\"\nscopes = [\"score\"]").await;
    for (method, path) in [
        (Method::PUT, "/v1/models/sentiment"),
        (Method::DELETE, "/v1/models/x"),
        (Method::POST, "/v2/repository/models/x/load"),
        (Method::POST, "/v2/repository/models/x/unload"),
    ] {
        problem(server.request(method, path).bearer_auth("k").send().await.unwrap(), 403, "forbidden").await;
    }
}

#[tokio::test]
async fn a_model_answers_in_the_shapes_of_hugging_face() {
    let server = Server::start().await;
    let (nli, tagger, encoder) = (
        plain(7, "BertForSequenceClassification", &["contradiction", "neutral", "entailment"], 1),
        plain(7, "BertForTokenClassification", &["O", "B-PER", "I-PER"], 2),
        plain(7, "BertModel", &[], 3),
    );
    put(&server, "zero-shot", nli.path()).await;
    put(&server, "ner", tagger.path()).await;
    put(&server, "vectors", encoder.path()).await;
    // All stand on the trunk of the pack.
    let models = server.json("/v1/models").await;
    let trunks: std::collections::BTreeSet<&str> =
        models["items"].as_array().unwrap().iter().map(|m| m["trunk"].as_str().unwrap()).collect();
    assert_eq!((models["items"].as_array().unwrap().len(), trunks.len()), (7, 1));

    let text = "the connection is bad";
    let one = ask(&server, "/models/zero-shot", json!({"inputs": text})).await;
    assert_eq!(one[0].as_array().unwrap().len(), 3);
    let many = ask(
        &server,
        "/models/zero-shot",
        json!({"inputs": [text, {"text": text, "text_pair": "I"}], "parameters": {"top_k": 1}}),
    )
    .await;
    assert_eq!((&many[0][0], many[0].as_array().unwrap().len()), (&one[0][0], 1));
    assert_ne!(many[0][0], many[1][0]);
    let raw = ask(
        &server,
        "/models/zero-shot",
        json!({"inputs": text, "parameters": {"function_to_apply": "none"}}),
    )
    .await;
    assert!(raw[0].as_array().unwrap().iter().any(|l| l["score"].as_f64().unwrap() < 0.0));

    let labels = json!({"candidate_labels": ["bad", "good", "net"]});
    let ranked = ask(&server, "/models/zero-shot", json!({"inputs": text, "parameters": labels})).await;
    let sum: f64 = ranked.as_array().unwrap().iter().map(|l| l["score"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-9 && ranked.as_array().unwrap().len() == 3);
    let ours = ask(
        &server,
        "/v1/zero-shot",
        json!({"inputs": [{"id": "a", "text": text}, " "], "labels": ["bad", "good", "net"]}),
    )
    .await;
    assert_eq!((&ours["results"][0]["label"], &ours["results"][0]["id"]), (&ranked[0]["label"], &json!("a")));
    assert_eq!(ours["results"][1]["error"]["status"], 422);
    let apart =
        ask(&server, "/v1/zero-shot", json!({"inputs": [text], "labels": ["bad"], "multi_label": true}))
            .await;
    let alone = ask(&server, "/v1/zero-shot", json!({"inputs": [text], "labels": ["bad"]})).await;
    assert_eq!(apart["results"][0]["scores"], alone["results"][0]["scores"]);

    let found =
        ask(&server, "/models/ner", json!({"inputs": text, "parameters": {"aggregation_strategy": "none"}}))
            .await;
    for entity in found.as_array().unwrap() {
        let (start, end) =
            (entity["start"].as_u64().unwrap() as usize, entity["end"].as_u64().unwrap() as usize);
        assert!(start < end && end <= text.len() && entity["entity"].as_str().unwrap().ends_with("-PER"));
    }
    let grouped = ask(&server, "/models/ner", json!({"inputs": [text]})).await;
    assert!(grouped[0].as_array().unwrap().iter().all(|e| e["entity_group"] == "PER"));

    let tokens = ask(&server, "/models/vectors", json!({"inputs": "the bad"})).await;
    assert_eq!((tokens[0].as_array().unwrap().len() > 3, tokens[0][0].as_array().unwrap().len()), (true, 48));
    let vector =
        ask(&server, "/models/vectors", json!({"inputs": "the bad", "parameters": {"normalize": true}}))
            .await;
    let length: f64 = vector.as_array().unwrap().iter().map(|v| v.as_f64().unwrap().powi(2)).sum();
    assert!((length - 1.0).abs() < 1e-5);
    let near = ask(
        &server,
        "/models/vectors",
        json!({"inputs": {"source_sentence": text, "sentences": [text, "I"]}}),
    )
    .await;
    assert!((near[0].as_f64().unwrap() - 1.0).abs() < 1e-5 && near[1].as_f64().unwrap() < 0.999);

    problem(server.post_json("/models/none", &json!({"inputs": "a"})).await, 404, "unknown-model").await;
    problem(server.post_json("/models/ner", &json!({"inputs": 3})).await, 422, "invalid-input").await;
    let wrong = json!({"inputs": text, "parameters": {"aggregation_strategy": "best"}});
    problem(server.post_json("/models/ner", &wrong).await, 422, "invalid-body").await;
    let tagged = json!({"inputs": [text], "labels": ["a"], "model": "ner"});
    problem(server.post_json("/v1/zero-shot", &tagged).await, 422, "other-task").await;
    problem(
        server.post_json("/v1/zero-shot", &json!({"inputs": [text], "labels": []})).await,
        422,
        "invalid-body",
    )
    .await;
}

#[tokio::test]
async fn the_open_inference_protocol_and_classify_are_served() {
    let server = Server::start().await;
    assert!(server.json("/v2").await["extensions"].as_array().unwrap().contains(&json!("model_repository")));
    for path in ["/v2/health/live", "/v2/health/ready", "/v2/models/sentiment/ready"] {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
    }
    let metadata = server.json("/v2/models/sentiment").await;
    assert_eq!(metadata["inputs"][0], json!({"name": "TEXT", "datatype": "BYTES", "shape": [-1]}));
    let texts = json!({"name": "TEXT", "datatype": "BYTES", "shape": [2], "data": ["the connection is bad", "thanks!"]});
    let answer = ask(&server, "/v2/models/sentiment/infer", json!({"id": "7", "inputs": [texts]})).await;
    assert_eq!((&answer["id"], &answer["outputs"][0]["shape"]), (&json!("7"), &json!([2])));
    let classified = ask(&server, "/classify", json!({"input": ["the connection is bad", "thanks!"]})).await;
    for i in 0..2 {
        assert_eq!(classified["data"][i]["label"], answer["outputs"][0]["data"][i]);
        let p = classified["data"][i]["probs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p.as_f64().unwrap())
            .fold(0.0, f64::max);
        assert!((p - answer["outputs"][1]["data"][i].as_f64().unwrap()).abs() < 1e-6);
    }
    let wanted =
        json!({"inputs": [texts], "outputs": [{"name": "SCORES", "parameters": {"binary_data": true}}]});
    let response = server.post_json("/v2/models/sentiment/infer", &wanted).await;
    let header: usize =
        response.headers()["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(response.bytes().await.unwrap().len(), header + 2 * 3 * 4);
    let wrong = json!({"inputs": [texts], "outputs": [{"name": "X"}]});
    let refused =
        problem(server.post_json("/v2/models/sentiment/infer", &wrong).await, 422, "invalid-body").await;
    assert!(refused["error"].as_str().unwrap().contains("there are LABEL, SCORE, SCORES"));

    let tagger = plain(9, "BertForTokenClassification", &["O", "B-PER"], 2);
    let load = json!({"parameters": {"path": tagger.path()}});
    assert_eq!(server.post_json("/v2/repository/models/ner/load", &load).await.status(), 200);
    let index: Value = server.post_json("/v2/repository/index", &json!({})).await.json().await.unwrap();
    assert!(index.as_array().unwrap().iter().any(|m| m["name"] == "ner" && m["state"] == "READY"));
    assert_eq!(server.post_json("/v2/repository/models/ner/unload", &json!({})).await.status(), 200);
    problem(server.get("/v2/models/ner/ready").await, 404, "unknown-model").await;
    // What was there comes back without being named again.
    assert_eq!(server.post_json("/v2/repository/models/ner/load", &json!({})).await.status(), 200);
    let one = json!({"name": "TEXT", "datatype": "BYTES", "shape": [1], "data": ["the connection"]});
    let found = ask(&server, "/v2/models/ner/infer", json!({"inputs": [one]})).await;
    assert!(serde_json::from_str::<Vec<Value>>(found["outputs"][0]["data"][0].as_str().unwrap()).is_ok());
    problem(server.post_json("/v2/repository/models/x/load", &json!({})).await, 404, "unknown-model").await;
    let bad = json!({"parameters": {"path": "/nowhere"}});
    problem(server.post_json("/v2/repository/models/x/load", &bad).await, 422, "model-refused").await;
    problem(server.post_json("/v2/repository/models/sentiment/unload", &json!({})).await, 409, "conflict")
        .await;
}
