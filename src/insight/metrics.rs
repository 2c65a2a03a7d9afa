//! Survey metrics: NPS, CSAT, CES and the customer loyalty index, each with its n and its interval (M04-M07, M17, C19).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Below this many answers NPS has no value, and the other metrics carry the note `insufficient_evidence`.
pub const ANSWERS_MIN: u64 = 5;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Metrics {
    pub nps: Nps,
    pub csat: Csat,
    pub ces: Ces,
    pub cli: Cli,
    /// Mean experience minus mean expectation (surveys with these metrics), on a scale from 0 to 1.
    pub gap: Option<f64>,
}

/// Net promoter score on the standard scale 0-10: promoters 9-10, detractors 0-6, in points from -100 to 100.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Nps {
    pub n: u64,
    pub latest: Option<f64>,
    pub value: Option<f64>,
    pub ci95: Option<[f64; 2]>,
    pub note: Option<String>,
    pub promoters: u64,
    pub passives: u64,
    pub detractors: u64,
    /// Answers that never enter: given on another scale, or outside the scale.
    pub excluded: u64,
}

/// Satisfaction, 1-5, higher is better; a mean below 3 is a problem.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Csat {
    pub n: u64,
    pub mean: Option<f64>,
    /// Share of answers 4 and 5, in percent.
    pub top2_pct: Option<f64>,
    pub below_threshold: Option<bool>,
    /// 95 % Wilson interval of `top2_pct`.
    pub ci95: Option<[f64; 2]>,
    pub note: Option<String>,
    pub latest: Option<f64>,
    pub scale: String,
    /// Answers that were given on another scale and brought to this one.
    pub rescaled: u64,
    pub excluded: u64,
}

/// Effort, 1-7, higher is easier.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Ces {
    pub n: u64,
    pub mean: Option<f64>,
    pub scale: String,
    /// `higher_is_easier`: legacy answers (1-5, higher is harder) are turned round.
    pub direction: String,
    pub pct_5_to_7: Option<f64>,
    /// 95 % Wilson interval of `pct_5_to_7`.
    pub ci95: Option<[f64; 2]>,
    /// Hardest first: where to fix.
    pub by_touchpoint: Vec<TouchpointEffort>,
    pub note: Option<String>,
    pub latest: Option<f64>,
    pub rescaled: u64,
    pub reversed: u64,
    pub excluded: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TouchpointEffort {
    pub touchpoint: String,
    pub n: u64,
    pub mean: f64,
}

/// Customer loyalty index: mean of three answers (recommend, buy again, try others), scale 1-6.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cli {
    pub n: u64,
    pub value: Option<f64>,
    pub scale: String,
    pub note: Option<String>,
    pub latest: Option<f64>,
    pub rescaled: u64,
    pub excluded: u64,
}
