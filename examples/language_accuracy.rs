//! How often the language detector is right: `cargo run --example language_accuracy -- FILE...` over JSON lines with
//! `lang` and `text`; prints messages, share right and what the others were taken for, per language.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Deserialize)]
struct Message {
    lang: String,
    text: String,
}

#[derive(Default)]
struct Tally {
    messages: u32,
    right: u32,
    taken_for: BTreeMap<String, u32>,
}

fn main() -> anyhow::Result<()> {
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for file in std::env::args().skip(1) {
        for line in std::fs::read_to_string(&file)?.lines() {
            let message: Message = serde_json::from_str(line)?;
            let found = hearken::text::language::detect(&message.text).unwrap_or("none");
            let tally = tallies.entry(message.lang.clone()).or_default();
            tally.messages += 1;
            if found == message.lang {
                tally.right += 1;
            } else {
                *tally.taken_for.entry(found.into()).or_default() += 1;
            }
        }
    }
    for (language, tally) in tallies {
        let percent = 100.0 * f64::from(tally.right) / f64::from(tally.messages);
        println!("{language} {:5} {percent:5.1} % {:?}", tally.messages, tally.taken_for);
    }
    Ok(())
}
