//! How long it takes to have events on disk, alone and with others, and to read a document, from the store and through
//! the pipeline's memory. Durable appends measure the disk as much as the store: compare runs on one machine only.

use std::{sync::Arc, time::Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::future::BoxFuture;
use hearken::{
    insight::event::{Event, EventData, EventId, RecordKey},
    pipeline::{IncomingEvent, Pipeline, PipelineOptions, Scored, Scorer, ScorerError, Tenant, ViewQuery},
    scores::Scores,
    store::{Membership, NewEvent, Store, sqlite::SqliteStore},
};
use jiff::Timestamp;

/// About the size of an e-mail.
const TEXT: &str = "The connection drops every evening between eight and ten, and nobody answers the phone. ";

fn data(record: usize) -> String {
    let text = TEXT.repeat(8);
    format!(r#"{{"record":{{"module":"contact","id":"{record}"}},"channel":"email","text":"{text}"}}"#)
}

fn key(record: usize) -> RecordKey {
    RecordKey { module: "contact".into(), id: record.to_string() }
}

/// Events that have not been before; `next` counts on.
fn batch(next: &mut usize, events: usize) -> Vec<NewEvent> {
    (0..events)
        .map(|_| {
            *next += 1;
            NewEvent {
                tenant: Tenant::default(),
                id: EventId { source: "bench".into(), id: next.to_string() },
                revision: 0,
                type_: "voc.interaction.received.v1".into(),
                time: Timestamp::UNIX_EPOCH,
                received_at: Timestamp::UNIX_EPOCH,
                data: data(*next % 500),
                records: vec![Membership { record: key(*next % 500), owned: true }],
                retracts: None,
                link: false,
            }
        })
        .collect()
}

fn append(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(&folder.path().join("hearken.db")).unwrap());
    let mut next = 0;
    let mut group = criterion.benchmark_group("durable append");
    for events in [1, 100, 1000] {
        group.throughput(Throughput::Elements(events as u64));
        group.bench_function(BenchmarkId::new("one caller", events), |bencher| {
            bencher.iter_batched(
                || batch(&mut next, events),
                |batch| store.append(batch).unwrap(),
                BatchSize::LargeInput,
            );
        });
    }
    // Sixteen callers share the syncs of the disk.
    group.throughput(Throughput::Elements(1));
    group.bench_function(BenchmarkId::new("16 callers", 1), |bencher| {
        bencher.iter_custom(|iterations| {
            let mut batches: Vec<_> = (0..iterations).map(|_| batch(&mut next, 1)).collect();
            let begin = Instant::now();
            std::thread::scope(|scope| {
                let share = batches.len().div_ceil(16).max(1);
                while !batches.is_empty() {
                    let mine = batches.split_off(batches.len().saturating_sub(share));
                    let store = &store;
                    scope.spawn(move || mine.into_iter().for_each(|b| drop(store.append(b).unwrap())));
                }
            });
            begin.elapsed()
        });
    });
    group.finish();
}

/// Has nothing to say on any text.
struct Silent;

impl Scorer for Silent {
    fn score(&self, texts: Vec<String>) -> BoxFuture<'static, Result<Scored, ScorerError>> {
        let results = texts.iter().map(|_| Ok(Scores::default())).collect();
        Box::pin(async move { Ok(Scored { results, models: Default::default() }) })
    }
}

fn read(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(&folder.path().join("hearken.db")).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let pipeline = Pipeline::start(store.clone(), Silent, PipelineOptions::default()).unwrap();
    let tenant = Tenant::default();
    let events = (0..2000).map(|i| {
        let (type_, data) = ("voc.interaction.received.v1", data(i % 500));
        let event = Event {
            id: EventId { source: "bench".into(), id: i.to_string() },
            time: Timestamp::now(),
            data: EventData::parse(type_, &data).unwrap(),
        };
        IncomingEvent { event, type_: type_.into(), data }
    });
    runtime.block_on(pipeline.ingest(&tenant, events.collect(), true)).unwrap();

    let mut group = criterion.benchmark_group("document");
    let mut record = 0;
    let mut next = || {
        record = (record + 7) % 500;
        key(record)
    };
    group.bench_function("from the store", |bencher| {
        bencher.iter(|| store.document(&tenant, &next()).unwrap().unwrap());
    });
    let query = ViewQuery::default();
    group.bench_function("through the pipeline", |bencher| {
        bencher.iter(|| runtime.block_on(pipeline.document(&tenant, &next(), &query)).unwrap().unwrap());
    });
    let query = ViewQuery { window: Some("30d".into()), as_of: None };
    group.bench_function("another window", |bencher| {
        bencher.iter(|| runtime.block_on(pipeline.document(&tenant, &next(), &query)).unwrap().unwrap());
    });
    group.finish();
    runtime.block_on(pipeline.shutdown());
}

criterion_group!(benches, append, read);
criterion_main!(benches);
