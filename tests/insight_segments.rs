//! Questions about many records: what segments say, what emerges (and what only seems to), who turned, and what
//! assumptions turn out to be. Served and kept exact: `http_segments.rs`.

mod insight_story;

use hearken::insight::event::RecordKey;
use hearken::insight::reading::Reading;
use hearken::insight::segments::digest::RecordDigest;
use hearken::insight::segments::gather::{By, Gathered, Period, Question, Record};
use hearken::insight::segments::patterns::{PatternCounter, PatternReport};
use hearken::insight::segments::report::{SegmentReport, report};
use hearken::insight::settings::Assumption;
use hearken::insight::view::View;
use insight_story::{Story, key, story};
use jiff::civil::date;
use serde_json::{Value, json};

/// A record with its labels, as the store keeps it.
struct Kept {
    key: RecordKey,
    labels: Vec<String>,
    digest: RecordDigest,
}

fn kept(id: &str, told: Story) -> Kept {
    let (history, identity) = told.fold();
    let view = View::parse(Some("all"), None, insight_story::NOW.parse().unwrap()).unwrap();
    let reading = Reading::new(&told.record, &history, &identity, &told.settings, &view);
    let digest = RecordDigest::of(&reading);
    // What is stored comes back as it was.
    assert_eq!(RecordDigest::read(&digest.to_json()).unwrap(), digest);
    let document = told.document();
    let active = document.highlights.labels.into_iter().filter(|l| l.active).map(|l| l.id);
    Kept { key: key("contact", id), labels: active.collect(), digest }
}

/// Days of February, compared with those of January before them.
fn february(by: &str) -> Question {
    Question {
        by: By::parse(by).unwrap(),
        period: Period::of(Some(date(2026, 2, 1)), date(2026, 2, 28)),
        value: None,
        module: None,
        label: None,
    }
}

fn ask(records: &[Kept], question: &Question) -> SegmentReport {
    let mut gathered = Gathered::default();
    for kept in records {
        gathered.add(question, &Record { key: &kept.key, labels: &kept.labels, digest: &kept.digest });
    }
    report("test", question.period, &gathered, 0)
}

/// Contact 1 and 2 on e-mail turn sour over an outage; contact 3 is happy on chat.
fn three() -> Vec<Kept> {
    let sour = "2026-01-10 email a positive other product=fibre | Nice.
                2026-01-11 email b positive other product=fibre | Nice {price}.
                2026-01-12 email c positive other product=fibre | Nice.
                2026-02-02 email d negative complaint product=fibre touchpoint=line | The {outage}.
                2026-02-09 email e negative complaint product=fibre touchpoint=line | The {outage} again.
                2026-02-16 email f negative request product=fibre touchpoint=line | {Outage}!";
    let happy = "2026-02-03 chat g positive purchase product=app | {price} is good.
                 2026-02-04 chat h positive other product=app language=de | Gut.
                 2026-02-05 chat i neutral other product=app | Ok.";
    vec![kept("1", story(sour)), kept("2", story(sour)), kept("3", story(happy))]
}

#[test]
fn segments_count_what_their_records_said() {
    let found = serde_json::to_value(ask(&three(), &february("channel"))).unwrap();
    assert_eq!((&found["records"], &found["records_read"]), (&json!(3), &json!(3)));
    assert_eq!(found["compared_with"], json!({"from": "2026-01-04", "to": "2026-01-31", "tz": "UTC"}));
    let (email, chat) = (&found["segments"][0], &found["segments"][1]);
    assert_eq!((email["value"].as_str(), chat["value"].as_str()), (Some("email"), Some("chat")));
    assert_eq!(
        (
            &email["records"],
            &email["responses"],
            &email["responses_before"],
            &email["sentiment"]["negative"]["count"]
        ),
        (&json!(2), &json!(6), &json!(6), &json!(6))
    );
    assert_eq!((&email["net_sentiment"], &email["net_sentiment_before"]), (&json!(-1.0), &json!(1.0)));
    assert_eq!(email["intent"], json!({"complaint": 4, "purchase": 0, "request": 2, "other": 0}));
    assert_eq!(email["movement"]["promoter_to_detractor"], 2);
    assert_eq!(email["turned"], json!([key("contact", "1"), key("contact", "2")]));
    assert_eq!(email["labels"], json!({"negative_customer": 2}));
    let place = &email["friction"][0];
    assert_eq!(
        (&place["kind"], &place["place"], &place["negatives"]),
        (&json!("product"), &json!("fibre"), &json!(6))
    );
    assert_eq!(place["aftermath"]["contacted_again"], 4, "the last of each is not followed");
    assert_eq!(
        chat["movement"],
        json!({"promoter_to_detractor": 0, "detractor_to_promoter": 0, "improved": 0,
        "worsened": 0, "stayed": 0, "unknown": 1, "matrix": [[0, 0, 0], [0, 0, 0], [0, 0, 0]], "p": null})
    );
    let weeks: Vec<&str> =
        email["series"].as_array().unwrap().iter().map(|p| p["bucket"].as_str().unwrap()).collect();
    assert_eq!(weeks, ["2026-02-02", "2026-02-09", "2026-02-16"], "by Monday");
    assert_eq!(email["trend"]["note"], "insufficient_evidence");
}

#[test]
fn every_cut_adds_up_to_the_same_responses() {
    let records = three();
    for by in ["channel", "product", "language", "module", "stage"] {
        let found = ask(&records, &february(by));
        let sum: u64 = found.segments.iter().map(|s| s.responses).sum();
        assert_eq!(sum, 9, "{by}");
    }
    let languages = ask(&records, &february("language"));
    assert_eq!(languages.segments.iter().map(|s| s.value.as_str()).collect::<Vec<_>>(), ["en", "de"]);
    let labelled = ask(&records, &february("label"));
    assert_eq!((labelled.segments.len(), labelled.segments[0].responses), (1, 6));
}

#[test]
fn filters_leave_records_and_values_out() {
    let records = three();
    let count =
        |question: Question| ask(&records, &question).segments.iter().map(|s| s.responses).sum::<u64>();
    assert_eq!(count(Question { value: Some("chat".into()), ..february("channel") }), 3);
    assert_eq!(count(Question { label: Some("negative_customer".into()), ..february("channel") }), 6);
    assert_eq!(count(Question { module: Some("lead".into()), ..february("channel") }), 0);
    let all = Question { period: Period::of(None, date(2026, 3, 2)), ..february("channel") };
    let found = ask(&records, &all);
    assert_eq!(found.segments[0].responses, 12);
    assert!(
        found.compared_with.is_none() && found.segments[0].emerging.is_empty(),
        "nothing to compare with"
    );
}

#[test]
fn drivers_are_ranked_by_impact() {
    let found = ask(&three(), &february("module"));
    let top = &found.segments[0].drivers[0];
    // Fibre: 6 of 9 responses, mean -1 against 2/3 without.
    assert_eq!((top.theme.as_str(), top.responses, top.records), ("outage", 6, 2));
    assert!((top.impact - 6.0 / 9.0 * (-1.0 - 2.0 / 3.0)).abs() < 1e-3, "{top:?}");
}

/// A generator of numbers (xorshift64*), so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Records that name each of some keywords with a probability of its own, in January and in February.
fn population(dice: &mut Dice, records: usize, rates: &[(f64, f64)]) -> Vec<Kept> {
    (0..records)
        .map(|i| {
            let mut said = |day: &str, id: &str, february: bool| {
                let words: Vec<String> = rates
                    .iter()
                    .enumerate()
                    .filter(|(_, (before, now))| dice.share() < if february { *now } else { *before })
                    .map(|(k, _)| format!("{{word{k}}}"))
                    .collect();
                format!("2026-{day} email {id} neutral other | so {}\n", words.join(" "))
            };
            let lines = said("01-15", "a", false) + &said("02-15", "b", true);
            kept(&i.to_string(), story(&lines))
        })
        .collect()
}

#[test]
fn where_nothing_emerges_hardly_anything_is_said_to() {
    // Forty keywords, none of which changes: with no true discovery every discovery is false, so the chance of any
    // must stay under the level. 40 rounds: at 5 % two are expected, seven or more come once in 200.
    let mut dice = Dice(0x5eed);
    let rates: Vec<(f64, f64)> =
        (0..40).map(|k| (0.02 + 0.01 * f64::from(k % 20), 0.02 + 0.01 * f64::from(k % 20))).collect();
    let mut rounds_with_any = 0;
    for _ in 0..40 {
        let records = population(&mut dice, 60, &rates);
        let found = ask(&records, &february("channel"));
        assert!(found.segments[0].keywords_tested >= 30, "{}", found.segments[0].keywords_tested);
        rounds_with_any += usize::from(!found.segments[0].emerging.is_empty());
    }
    assert!(rounds_with_any <= 6, "{rounds_with_any} of 40 rounds found something in noise");
}

#[test]
fn what_emerges_is_found_and_few_others_with_it() {
    let mut dice = Dice(77);
    // Ten keywords rise from 3 % to 30 % of the records, forty stay.
    let rates: Vec<(f64, f64)> = (0..50).map(|k| if k < 10 { (0.03, 0.3) } else { (0.1, 0.1) }).collect();
    let (mut found_true, mut share_false) = (0, 0.0);
    const ROUNDS: usize = 8;
    for _ in 0..ROUNDS {
        let records = population(&mut dice, 100, &rates);
        let found = ask(&records, &february("channel"));
        let emerging = &found.segments[0].emerging;
        let number = |keyword: &str| keyword.trim_start_matches("word").parse::<usize>().unwrap();
        let wrong = emerging.iter().filter(|e| number(&e.keyword) >= 10).count();
        found_true += emerging.len() - wrong;
        share_false += wrong as f64 / emerging.len().max(1) as f64;
        assert!(emerging.iter().all(|e| e.share > e.share_before && !e.examples.is_empty()));
    }
    assert!(found_true >= 9 * ROUNDS, "{found_true} of {} risen keywords were found", 10 * ROUNDS);
    assert!(share_false / ROUNDS as f64 <= 0.1, "false discoveries: {}", share_false / ROUNDS as f64);
}

fn assumptions(json: Value) -> Vec<Assumption> {
    serde_json::from_value(json).unwrap()
}

fn patterns(records: &[Kept], stated: &[Assumption]) -> PatternReport {
    let question = february("channel");
    let mut counter = PatternCounter::new(stated);
    for kept in records {
        counter.add(&question, &Record { key: &kept.key, labels: &kept.labels, digest: &kept.digest });
    }
    counter.report("channel", question.period, 0)
}

#[test]
fn assumptions_are_confirmed_contradicted_or_left_open() {
    // 30 records: everybody complains of the price, nobody of anything else.
    let records: Vec<Kept> = (0..30)
        .map(|i| {
            kept(
                &i.to_string(),
                story(
                    "2026-02-02 email a negative complaint product=fibre | The {price}!
                 2026-02-03 email b positive other product=app | Fine.",
                ),
            )
        })
        .collect();
    let stated = assumptions(json!([
        {"id": "price_is_fine", "statement": "The price is no matter.", "about": {"keyword": "Prices"},
         "measure": "negative_share", "expect": "below", "than": 0.2},
        {"id": "app_is_loved", "statement": "The app is liked better.", "about": {"product": "app"},
         "measure": "positive_share", "expect": "above", "than": "rest"},
        {"id": "half_complain", "statement": "Most complain.", "measure": "complaint_share", "expect": "above", "than": 0.5},
        {"id": "nobody", "statement": "Speakers of French are content.", "about": {"language": "fr"},
         "measure": "negative_share", "expect": "below", "than": 0.5},
    ]));
    let found = patterns(&records, &stated);
    let verdicts: Vec<(&str, &str, u64)> =
        found.patterns.iter().map(|p| (p.assumption.as_str(), p.verdict.as_str(), p.n)).collect();
    assert_eq!(
        verdicts,
        [
            ("price_is_fine", "contradicted", 30),
            ("app_is_loved", "confirmed", 30),
            ("half_complain", "undecided", 60)
        ]
    );
    let price = &found.patterns[0];
    assert_eq!(
        (price.share, price.compared_with, price.records, price.examples.len()),
        (Some(1.0), Some(0.2), 30, 5)
    );
    assert_eq!(found.patterns[1].n_rest, Some(30));
    let few = patterns(&records[..3], &stated);
    assert!(few.patterns.iter().take(2).all(|p| p.verdict == "insufficient_evidence" && p.q.is_none()));
}
