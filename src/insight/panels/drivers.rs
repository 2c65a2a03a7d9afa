//! What drives the sentiment up or down, ranked by impact (K06-K08).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::insight::{
    history::Fact,
    reading::{Reading, Response},
    statistics::round,
};
use crate::scores::Sentiment;

/// impact = share x (mean with - mean without), where a response counts 1, 0 or -1. Negative impact pulls down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Driver {
    /// keyword, product or touchpoint.
    pub kind: String,
    pub theme: String,
    pub responses: u64,
    pub share: f64,
    pub mean_with: f64,
    pub mean_without: f64,
    pub impact: f64,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// Most drivers that are listed.
pub const DRIVERS_MAX: usize = 10;
/// A theme of fewer responses drives nothing.
pub const DRIVER_RESPONSES_MIN: usize = 2;

/// What a response counts: 1, 0 or -1.
fn score(response: &Response) -> i64 {
    match response.sentiment {
        Sentiment::Positive => 1,
        Sentiment::Neutral => 0,
        Sentiment::Negative => -1,
    }
}

/// The strongest first; keywords, products and touchpoints compete.
pub fn of(reading: &Reading) -> Vec<Driver> {
    let shown = reading.shown();
    let total: i64 = shown.iter().map(score).sum();
    let mut themes: Vec<Theme> = Vec::new();
    for count in reading.counts().iter().filter(|c| c.responses.len() >= DRIVER_RESPONSES_MIN) {
        let sum = count.responses.iter().map(|i| score(&shown[*i as usize])).sum();
        let found = Found::Keyword(&count.responses);
        themes.extend(theme(
            shown.len(),
            total,
            ("keyword", count.name()),
            (count.responses.len(), sum),
            found,
        ));
    }
    for (kind, place) in PLACES {
        let mut places = vec![(0, 0); reading.names.len()];
        for response in shown {
            if let Some(place) = place(response.fact) {
                let (n, sum) = &mut places[place as usize];
                (*n, *sum) = (*n + 1, *sum + score(response));
            }
        }
        let named = reading.names.iter().zip(places).enumerate();
        themes.extend(named.filter_map(|(number, (name, counts))| {
            theme(shown.len(), total, (kind, name), counts, Found::Place(place, number as u32))
        }));
    }
    themes.sort_by(|a, b| {
        let strength = b.driver.impact.abs().total_cmp(&a.driver.impact.abs());
        strength.then_with(|| (a.kind, a.name).cmp(&(b.kind, b.name)))
    });
    themes.truncate(DRIVERS_MAX);
    themes
        .into_iter()
        .map(|theme| {
            let (evidence, evidence_total) = match theme.found {
                Found::Keyword(responses) => {
                    reading.evidence(responses.iter().map(|i| &shown[*i as usize].fact.event.id))
                }
                Found::Place(place, number) => {
                    let there = shown.iter().map(|r| r.fact).filter(|fact| place(fact) == Some(number));
                    reading.evidence(there.map(|fact| &fact.event.id))
                }
            };
            let (kind, theme_name) = (theme.kind.into(), theme.name.into());
            Driver { kind, theme: theme_name, evidence, evidence_total, ..theme.driver }
        })
        .collect()
}

/// Where an interaction names a place itself.
type PlaceOf = fn(&Fact) -> Option<u32>;

/// The kinds of places, and where they stand.
const PLACES: [(&str, PlaceOf); 2] =
    [("product", |fact| fact.product), ("touchpoint", |fact| fact.touchpoint)];

/// What a theme's responses are found by.
enum Found<'r> {
    Keyword(&'r [u32]),
    Place(PlaceOf, u32),
}

/// A theme that may drive.
struct Theme<'r> {
    kind: &'static str,
    name: &'r str,
    found: Found<'r>,
    /// Without names and evidence, which few need.
    driver: Driver,
}

/// `None` where a theme has too few responses, or all of them. `counts` are its responses and the sum of their scores.
fn theme<'r>(
    all: usize,
    total: i64,
    (kind, name): (&'static str, &'r str),
    (with, sum): (usize, i64),
    found: Found<'r>,
) -> Option<Theme<'r>> {
    if with < DRIVER_RESPONSES_MIN || with == all {
        return None;
    }
    let mean_with = sum as f64 / with as f64;
    let mean_without = (total - sum) as f64 / (all - with) as f64;
    let share = with as f64 / all as f64;
    let driver = Driver {
        responses: with as u64,
        share: round(share, 3),
        mean_with: round(mean_with, 2),
        mean_without: round(mean_without, 2),
        impact: round(share * (mean_with - mean_without), 3),
        ..Driver::default()
    };
    (driver.impact != 0.0).then_some(Theme { kind, name, found, driver })
}
