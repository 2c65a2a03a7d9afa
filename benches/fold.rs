//! How long it takes to apply a scored interaction to the history of a record with 100, 10,000 and 100,000 interactions
//! (digest of the text included), and to make its document for 90 days and for all of it. One core.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hearken::insight::event::{Event, EventData, EventId, RecordKey};
use hearken::insight::history::{Entry, History, ModelRevisions};
use hearken::insight::identity::Identity;
use hearken::insight::render::{View, document};
use hearken::insight::settings::Settings;
use hearken::scores::{Classified, Intent, Keyphrase, Label, Scores, Sentence, Sentiment};
use jiff::Timestamp;
use serde_json::json;

const SUBJECTS: [&str; 12] = [
    "outage",
    "connection quality",
    "invoice",
    "router",
    "delivery",
    "support",
    "price",
    "app",
    "refund",
    "login",
    "installation",
    "contract",
];
const CHANNELS: [&str; 5] = ["email", "call", "ticket", "chat", "survey"];

/// As the server allocates.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The `i`-th of a record's interactions: two sentences, two keyphrases, now and then a competitor; one every 6 hours.
fn interaction(i: usize) -> Entry {
    // Enough different keywords that the table is long, most of them rare.
    let rare = format!("{} {}", SUBJECTS[i * 7 % 12], i % 400);
    let first = format!("The {} was down again on day {i}. ", SUBJECTS[i % 12]);
    let name = if i.is_multiple_of(20) { "Airo" } else { "nobody" };
    let text = format!("{first}I spoke about {rare} with {name} yesterday and am still waiting.");
    let data = json!({"record": {"module": "contact", "id": "1"}, "channel": CHANNELS[i % 5], "language": "en",
        "thread_id": format!("T{}", i / 3), "text": text, "product": SUBJECTS[i % 3]});
    let sentiment =
        Classified::<Sentiment>::new(&[0.2 + (i % 5) as f32 * 0.1, 0.3, 0.5 - (i % 5) as f32 * 0.1]).unwrap();
    let end = text.chars().count() as u32;
    let phrase = |words: &str| {
        let start = text.find(words).unwrap() as u32;
        Keyphrase { text: words.into(), start, end: start + words.len() as u32, score: 0.8, sentiment: None }
    };
    let mut intents = [0.1; 4];
    intents[i % 4] = 0.7;
    Entry {
        event: Event {
            id: EventId { source: "crm".into(), id: format!("em-{i}") },
            time: Timestamp::from_second(1_600_000_000 + i as i64 * 21_600).unwrap(),
            data: EventData::parse("voc.interaction.received.v1", &data.to_string()).unwrap(),
        },
        received_at: Timestamp::UNIX_EPOCH,
        scores: Some(Scores {
            language: Some("en".into()),
            tokens: 24,
            truncated: false,
            sentiment: Some(sentiment.clone()),
            intent: Classified::new(&intents[..Intent::ALL.len()]),
            keyphrases: Some(vec![phrase(SUBJECTS[i % 12]), phrase(&rare)]),
            sentences: vec![
                Sentence { start: 0, end: first.len() as u32 - 1, sentiment: sentiment.clone() },
                Sentence { start: first.len() as u32, end, sentiment },
            ],
            emotion: None,
        }),
        models: ModelRevisions::from([("sentiment".into(), "sha256:0".into())]),
    }
}

fn fold(c: &mut Criterion) {
    let settings: Settings =
        serde_json::from_value(json!({"competitors": [{"name": "Airo Networks", "aliases": ["Airo"]}]}))
            .unwrap();
    let key = RecordKey { module: "contact".into(), id: "1".into() };
    let identity = Identity::new();
    let mut group = c.benchmark_group("insight");
    group.sample_size(20);
    for n in [100, 10_000, 100_000] {
        let mut history = History::new();
        history.redigest(&settings);
        (0..n).map(interaction).for_each(|entry| history.apply(entry));
        let now = Timestamp::from_second(1_600_000_000 + n as i64 * 21_600).unwrap();
        for window in ["90d", "all"] {
            let view = View::parse(Some(window), None, now).unwrap();
            let shown = document(&key, &history, &identity, &settings, &view).highlights.total;
            group.throughput(Throughput::Elements(shown));
            group.bench_function(BenchmarkId::new(format!("document of {window}"), n), |b| {
                b.iter(|| document(&key, &history, &identity, &settings, &view).to_bytes())
            });
        }
        // It grows while it is measured, by less than what would show.
        let mut next = n;
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("apply", n), |b| {
            let one_more = || {
                next += 1;
                interaction(next)
            };
            b.iter_batched(one_more, |entry| history.apply(entry), BatchSize::SmallInput)
        });
    }
    group.finish();
}

criterion_group!(benches, fold);
criterion_main!(benches);
