//! Requests through HTTP, on loopback, to a server in this process: reading documents, and scoring with a model so small
//! that its forward hardly counts.
//!
//! A document is bytes that were made before, so a read is bound by HTTP itself: system calls and waking threads. A
//! lone score adds JSON both ways and the way through the scheduler.

#[path = "../tests/common/mod.rs"]
mod common;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::future::join_all;
use serde_json::json;

const RECORDS: usize = 200;
const MAILS_EACH: usize = 10;

fn http(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(async {
        let server = common::Server::start().await;
        let mails: Vec<_> = (0..RECORDS * MAILS_EACH)
            .map(|i| {
                let text = format!("the connection quality is bad. support {} again?", i % 7);
                common::mail(&i.to_string(), &(i % RECORDS).to_string(), &text)
            })
            .collect();
        server.apply(&mails).await;
        server
    });
    let mut next = 0;
    let mut address = || {
        next = (next + 7) % RECORDS;
        format!("{}/v1/records/contact/{next}/insights", server.base)
    };
    let read = |url: String| {
        let client = server.client.clone();
        async move { client.get(url).send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap() }
    };
    let mut group = c.benchmark_group("http");
    group.sample_size(30);
    group.throughput(Throughput::Elements(1));
    group.bench_function("one document", |b| b.iter(|| runtime.block_on(read(address()))));
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 documents at once", |b| {
        b.iter(|| runtime.block_on(join_all((0..64).map(|_| tokio::spawn(read(address()))))));
    });

    let body = json!({"inputs": ["the connection quality is bad. support"]}).to_string();
    let score = || {
        let request = server.client.post(format!("{}/v1/score", server.base));
        let request = request.header("content-type", "application/json").body(body.clone());
        async move { request.send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap() }
    };
    group.throughput(Throughput::Elements(1));
    group.bench_function("one text scored", |b| b.iter(|| runtime.block_on(score())));
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 texts at once", |b| {
        b.iter(|| runtime.block_on(join_all((0..64).map(|_| tokio::spawn(score())))));
    });
    group.finish();
}

criterion_group!(benches, http);
criterion_main!(benches);
