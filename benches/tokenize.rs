//! From a text to what a forward pass takes: the tokenizer of the default pack alone, and in the plan of a text (its
//! windows, sentences and language as well), in bytes per second and on one thread.
//!
//! Bound by the tokenizer's normaliser and word-piece look-ups; the plan adds the sentence rules of UAX 29 and the
//! detection of the language. Beside a forward pass it costs a few percent, but it runs on the same cores.

use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hearken::engine::{Tasks, tasks::TextPlan, tokenize::Tokenizer};

const TEXTS: [(&str, &str); 4] = [
    ("short English", "The app crashes whenever I open an attachment, and nobody answers."),
    ("short Chinese", "网络每天晚上都会断线，打电话也没有人接。"),
    ("short Arabic", "الإنترنت ينقطع كل ليلة ولا أحد يرد على اتصالاتي."),
    (
        "short German",
        "Ich warte seit drei Wochen auf meine Rückerstattung und bekomme nur automatische Antworten.",
    ),
];
/// A window of the model; longer texts are read in several.
const WINDOW_TOKENS: usize = 254;

fn tokenize(c: &mut Criterion) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default/tokenizer.json");
    let tokenizer = Tokenizer::open(&file).unwrap();
    let page = TEXTS.map(|(_, text)| text).join(" ").repeat(20);
    let texts = TEXTS.into_iter().chain([("a long page", page.as_str())]);
    let mut group = c.benchmark_group("tokenize");
    group.sample_size(20);
    for (name, text) in texts {
        let tokens = tokenizer.encode(text).unwrap().ids.len();
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(format!("{name} ({tokens} tokens)"), |b| {
            b.iter(|| tokenizer.encode(text).unwrap())
        });
        group.bench_function(format!("{name} ({tokens} tokens), its plan"), |b| {
            b.iter(|| TextPlan::new(text.to_owned(), Tasks::ALL, &tokenizer, WINDOW_TOKENS).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, tokenize);
criterion_main!(benches);
