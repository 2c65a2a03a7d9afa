//! What drives the sentiment of a segment, and where it chafes, ranked (K06-K09).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::gather::{Tally, Theme};
use crate::insight::{
    event::RecordKey,
    panels::friction::{AFTERMATH_DAYS, Aftermath},
    statistics::{pct, round, wilson_pct95},
};

/// impact = share x (mean with - mean without), where a response counts 1, 0 or -1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SegmentDriver {
    /// keyword, product or touchpoint.
    pub kind: String,
    pub theme: String,
    pub records: u64,
    pub responses: u64,
    pub share: f64,
    pub mean_with: f64,
    pub mean_without: f64,
    pub impact: f64,
    /// Some of the records.
    pub examples: Vec<RecordKey>,
}

/// A place with negatives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SegmentFriction {
    /// touchpoint or product.
    pub kind: String,
    pub place: String,
    pub records: u64,
    pub responses: u64,
    pub negatives: u64,
    pub negative_pct: f64,
    pub ci95: Option<[f64; 2]>,
    pub aftermath: Aftermath,
    /// Some of the records.
    pub examples: Vec<RecordKey>,
}

/// Most drivers and places of a value that are listed.
pub const THEMES_MAX: usize = 20;
/// A theme of fewer responses drives nothing.
pub const DRIVER_RESPONSES_MIN: u64 = 3;

/// The strongest first; keywords, products and touchpoints compete.
pub fn drivers(tally: &Tally) -> Vec<(SegmentDriver, &Theme)> {
    let all = tally.moods;
    let driver = |kind: &str, name: String, theme: &Theme| -> Option<SegmentDriver> {
        let (with, n) = (theme.moods, all.total());
        let others = n - with.total();
        if with.total() < DRIVER_RESPONSES_MIN || others == 0 {
            return None;
        }
        let mean_with = with.balance() as f64 / with.total() as f64;
        let mean_without = (all.balance() - with.balance()) as f64 / others as f64;
        let share = with.total() as f64 / n as f64;
        let impact = round(share * (mean_with - mean_without), 4);
        (impact != 0.0).then(|| SegmentDriver {
            kind: kind.into(),
            theme: name,
            records: theme.records,
            responses: with.total(),
            share: round(share, 4),
            mean_with: round(mean_with, 2),
            mean_without: round(mean_without, 2),
            impact,
            examples: vec![],
        })
    };
    let mut keywords: Vec<(&String, &Theme)> = tally.keywords.iter().collect();
    keywords.sort_by_key(|(key, _)| *key);
    let keywords =
        keywords.into_iter().filter_map(|(_, theme)| Some((driver("keyword", theme.form(), theme)?, theme)));
    let places = tally
        .places
        .iter()
        .filter_map(|((kind, name), theme)| Some((driver(kind, name.clone(), theme)?, theme)));
    let mut drivers: Vec<(SegmentDriver, &Theme)> = keywords.chain(places).collect();
    drivers.sort_by(|(a, _), (b, _)| {
        let strength = b.impact.abs().total_cmp(&a.impact.abs());
        strength.then_with(|| (&a.kind, &a.theme).cmp(&(&b.kind, &b.theme)))
    });
    drivers.truncate(THEMES_MAX);
    drivers
}

/// Places with negatives, those with most first.
pub fn friction(tally: &Tally) -> Vec<(SegmentFriction, &Theme)> {
    let mut places: Vec<(SegmentFriction, &Theme)> = tally
        .places
        .iter()
        .filter(|(_, theme)| theme.moods.negative > 0)
        .map(|((kind, place), theme)| {
            let (n, bad) = (theme.moods.total(), theme.moods.negative);
            let [contacted_again, recovered, churned, purchased] = theme.followed;
            let friction = SegmentFriction {
                kind: (*kind).into(),
                place: place.clone(),
                records: theme.records,
                responses: n,
                negatives: bad,
                negative_pct: pct(bad, n),
                ci95: wilson_pct95(bad, n),
                aftermath: Aftermath {
                    within_days: AFTERMATH_DAYS,
                    contacted_again,
                    recovered,
                    silent: bad - contacted_again,
                    churned,
                    purchased,
                },
                examples: vec![],
            };
            (friction, theme)
        })
        .collect();
    // Stable: equals stay in order of kind and name.
    places.sort_by_key(|(f, _)| std::cmp::Reverse(f.negatives));
    places.truncate(THEMES_MAX);
    places
}
