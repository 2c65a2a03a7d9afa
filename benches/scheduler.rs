//! What lies around a forward pass: the queue alone, and whole requests to an engine whose encoder is so small (two
//! layers of 48) that its forward hardly counts.
//!
//! The queue is bound by its ordered map, well under a microsecond for each sequence. A lone request is bound by
//! waking threads (two or three times); many at once by tokenizing, by the lock of the queue and by putting answers
//! together.

#[path = "../tests/engine_pack/mod.rs"]
mod engine_pack;

use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engine_pack::interactive;
use futures::future::join_all;
use hearken::engine::{
    Lane,
    scheduler::{BatchLimits, Queue},
};

const LIMITS: BatchLimits = BatchLimits { batch_tokens_max: 4096, bulk_tokens_max: 2048 };

/// A thousand requests of one to three sequences, a third of them bulk, half of them with a deadline.
fn filled(now: Instant) -> Queue<usize> {
    let mut queue = Queue::new();
    for i in 0..1000 {
        let lane = if i % 3 == 0 { Lane::Bulk } else { Lane::Interactive };
        let deadline = (i % 2 == 0).then(|| now + Duration::from_millis(200 + (i as u64 * 37) % 900));
        queue.push(lane, now, deadline, (0..1 + i % 3).map(|s| (20 + (i * 13 + s) % 60, i)));
    }
    queue
}

fn queue(c: &mut Criterion) {
    let now = Instant::now();
    let mut group = c.benchmark_group("queue");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1000 requests in", |b| b.iter(|| filled(now)));
    group.bench_function("1000 requests out, in batches", |b| {
        b.iter_batched(
            || filled(now),
            |mut queue| {
                let mut taken = 0;
                loop {
                    let batch = queue.take(LIMITS);
                    if batch.is_empty() {
                        return taken;
                    }
                    taken += batch.len();
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn requests(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let engine = engine_pack::engine(7);
    let text = "the connection quality is bad. support";
    let score = || {
        let engine = engine.clone();
        async move { engine.score(vec![text.into()], interactive()).await.unwrap() }
    };
    let mut group = c.benchmark_group("requests to a tiny model");
    group.throughput(Throughput::Elements(1));
    group.bench_function("one at a time", |b| b.iter(|| runtime.block_on(score())));
    group.throughput(Throughput::Elements(256));
    group.bench_function("256 at once", |b| {
        b.iter(|| runtime.block_on(async { join_all((0..256).map(|_| tokio::spawn(score()))).await }));
    });
    group.finish();
}

criterion_group!(benches, queue, requests);
criterion_main!(benches);
