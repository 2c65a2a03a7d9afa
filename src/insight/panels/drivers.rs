//! What drives the sentiment up or down, ranked by impact (K06-K08).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::insight::{
    reading::{Reading, Response},
    statistics::round,
    tally,
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
    let mut themes: Vec<(&'static str, String, Vec<u32>)> = Vec::new();
    for count in tally::count(reading, shown, |_, _| true) {
        if count.responses.len() >= DRIVER_RESPONSES_MIN {
            themes.push(("keyword", count.form(), count.responses));
        }
    }
    for (kind, name) in PLACES {
        let mut places: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for (i, response) in shown.iter().enumerate() {
            if let Some(place) = name(response) {
                places.entry(place).or_default().push(i as u32);
            }
        }
        themes.extend(places.into_iter().map(|(place, responses)| (kind, place.into(), responses)));
    }
    let mut drivers: Vec<(Driver, Vec<u32>)> = themes
        .into_iter()
        .filter_map(|(kind, theme, responses)| driver(shown, total, kind, theme, responses))
        .collect();
    drivers.sort_by(|(a, _), (b, _)| {
        let strength = b.impact.abs().total_cmp(&a.impact.abs());
        strength.then_with(|| (&a.kind, &a.theme).cmp(&(&b.kind, &b.theme)))
    });
    drivers.truncate(DRIVERS_MAX);
    drivers
        .into_iter()
        .map(|(driver, responses)| {
            let ids = responses.iter().map(|i| &shown[*i as usize].fact.event.id);
            let (evidence, evidence_total) = reading.evidence(ids);
            Driver { evidence, evidence_total, ..driver }
        })
        .collect()
}

/// A kind of theme that an interaction names itself, and where it stands.
type Place = (&'static str, for<'r> fn(&'r Response<'_>) -> Option<&'r str>);

const PLACES: [Place; 2] = [
    ("product", |r| r.interaction.product.as_deref()),
    ("touchpoint", |r| r.interaction.touchpoint.as_deref()),
];

/// `None` where a theme has too few responses, or all of them.
fn driver(
    shown: &[Response],
    total: i64,
    kind: &str,
    theme: String,
    responses: Vec<u32>,
) -> Option<(Driver, Vec<u32>)> {
    let (with, all) = (responses.len(), shown.len());
    if with < DRIVER_RESPONSES_MIN || with == all {
        return None;
    }
    let sum: i64 = responses.iter().map(|i| score(&shown[*i as usize])).sum();
    let mean_with = sum as f64 / with as f64;
    let mean_without = (total - sum) as f64 / (all - with) as f64;
    let share = with as f64 / all as f64;
    let driver = Driver {
        kind: kind.into(),
        theme,
        responses: with as u64,
        share: round(share, 3),
        mean_with: round(mean_with, 2),
        mean_without: round(mean_without, 2),
        impact: round(share * (mean_with - mean_without), 3),
        ..Driver::default()
    };
    (driver.impact != 0.0).then_some((driver, responses))
}
