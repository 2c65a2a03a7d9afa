//! How long it takes to have events on disk, alone and with others, and in their documents, and to read a document,
//! from the store and through the pipeline's memory. Durable appends measure the disk as much as the store: compare runs
//! on one machine only.

use std::{sync::Arc, time::Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::future::BoxFuture;
use hearken::{
    insight::event::{Event, EventData, EventId, RecordKey},
    pipeline::{IncomingEvent, Pipeline, PipelineOptions, Scored, Scorer, ScorerError, Tenant, ViewQuery},
    scores::{Classified, Intent, Keyphrase, Scores, Sentence, Sentiment},
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

/// Says the same of every text, at no cost: what is measured is all but the models.
struct Canned(Scores);

impl Canned {
    fn new() -> Self {
        let sentiment: Classified<Sentiment> = Classified::new(&[0.8, 0.15, 0.05]).unwrap();
        let phrase = |text: &str| {
            let start = TEXT.find(text).unwrap() as u32;
            let end = start + text.len() as u32;
            Keyphrase { text: text.into(), start, end, score: 0.9, sentiment: None }
        };
        Self(Scores {
            language: Some("en".into()),
            tokens: 120,
            truncated: false,
            intent: Classified::<Intent>::new(&[0.7, 0.1, 0.1, 0.1]),
            keyphrases: Some(vec![phrase("connection"), phrase("phone")]),
            sentences: vec![Sentence { start: 0, end: TEXT.len() as u32, sentiment: sentiment.clone() }],
            sentiment: Some(sentiment),
            emotion: None,
        })
    }
}

impl Scorer for Canned {
    fn score(&self, texts: Vec<String>) -> BoxFuture<'static, Result<Scored, ScorerError>> {
        let results = texts.iter().map(|_| Ok(self.0.clone())).collect();
        Box::pin(async move { Ok(Scored { results, models: Default::default() }) })
    }
}

/// Events as they are read from bodies, `next` counts on; a fifth of them on one record.
fn incoming(next: &mut usize, events: usize) -> Vec<IncomingEvent> {
    let now = Timestamp::now();
    (0..events)
        .map(|_| {
            *next += 1;
            let record = if next.is_multiple_of(5) { 0 } else { *next % 5000 };
            let (type_, data) = ("voc.interaction.received.v1", data(record));
            let event = Event {
                id: EventId { source: "bench".into(), id: next.to_string() },
                time: now,
                data: EventData::parse(type_, &data).unwrap(),
            };
            IncomingEvent { event, type_: type_.into(), data }
        })
        .collect()
}

/// Events through the whole pipeline, four senders with 250 events each at a time: until they are on disk while
/// documents are made at the same time, and until they are in their documents.
fn ingest(criterion: &mut Criterion) {
    const SENDERS: usize = 4;
    const BATCH: usize = 250;
    let mut group = criterion.benchmark_group("ingest");
    group.sample_size(10);
    group.throughput(Throughput::Elements((SENDERS * BATCH) as u64));
    for (name, wait) in [("on disk", false), ("in documents", true)] {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(&folder.path().join("hearken.db")).unwrap());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _inside = runtime.enter();
        let pipeline = Pipeline::start(store, Canned::new(), PipelineOptions::default()).unwrap();
        let tenant = Tenant::default();
        let mut next = 0;
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || (0..SENDERS).map(|_| incoming(&mut next, BATCH)).collect::<Vec<_>>(),
                |batches| {
                    let sent = batches.into_iter().map(|batch| pipeline.ingest(&tenant, batch, wait));
                    runtime.block_on(futures::future::join_all(sent)).into_iter().for_each(|done| {
                        done.unwrap();
                    });
                },
                BatchSize::PerIteration,
            );
        });
        runtime.block_on(pipeline.shutdown());
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(&folder.path().join("hearken.db")).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let pipeline = Pipeline::start(store.clone(), Canned::new(), PipelineOptions::default()).unwrap();
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
    let query = ViewQuery { window: Some("30d".into()), ..ViewQuery::default() };
    group.bench_function("another window", |bencher| {
        bencher.iter(|| runtime.block_on(pipeline.document(&tenant, &next(), &query)).unwrap().unwrap());
    });
    group.finish();
    runtime.block_on(pipeline.shutdown());
}

criterion_group!(benches, append, ingest, read);
criterion_main!(benches);
