//! Survey metrics: NPS, CSAT, CES and the customer loyalty index, each with its n and its interval (M04-M07, M17, C19).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::event::{EventData, Interaction, Scale, Survey};
use super::reading::Reading;
use super::statistics::{Mean, nps_interval95, pct, round, wilson_pct95};

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

/// Lowest and highest answer of a standard scale.
type Bounds = (f64, f64);

const NPS_SCALE: Bounds = (0.0, 10.0);
const CSAT_SCALE: Bounds = (1.0, 5.0);
const CES_SCALE: Bounds = (1.0, 7.0);
/// The first form of CES asked how much effort it took: higher is harder.
const CES_LEGACY_SCALE: Bounds = (1.0, 5.0);
const CLI_SCALE: Bounds = (1.0, 6.0);
/// Questions of the loyalty index: recommend, buy again, try others.
const CLI_ANSWERS: usize = 3;
/// A mean satisfaction below this is a problem.
pub const CSAT_THRESHOLD: f64 = 3.0;

impl Metrics {
    /// The surveys of the window.
    pub fn of(reading: &Reading) -> Self {
        let mut metrics = Metrics {
            csat: Csat { scale: "1-5".into(), ..Csat::default() },
            ces: Ces { scale: "1-7".into(), direction: "higher_is_easier".into(), ..Ces::default() },
            cli: Cli { scale: "1-6".into(), ..Cli::default() },
            ..Metrics::default()
        };
        let mut sums = Sums::default();
        for (interaction, survey) in answers(reading) {
            match survey.metric.to_lowercase().as_str() {
                "nps" => metrics.nps.add(survey),
                "csat" => metrics.csat.add(survey, &mut sums),
                "ces" => metrics.ces.add(survey, interaction.touchpoint.as_deref(), &mut sums),
                "cli" => metrics.cli.add(survey, &mut sums),
                "expectation" => share_of_scale(survey).into_iter().for_each(|v| sums.expectation.add(v)),
                "experience" => share_of_scale(survey).into_iter().for_each(|v| sums.experience.add(v)),
                _ => {}
            }
        }
        metrics.finish(sums);
        metrics
    }

    fn finish(&mut self, sums: Sums) {
        let few = |n: u64| (n < ANSWERS_MIN).then(|| "insufficient_evidence".to_string());
        let nps = &mut self.nps;
        nps.note = few(nps.n);
        if nps.note.is_none() {
            nps.value = Some(round(100.0 * (nps.promoters as f64 - nps.detractors as f64) / nps.n as f64, 1));
            nps.ci95 = nps_interval95(nps.promoters, nps.detractors, nps.n);
        }
        let csat = &mut self.csat;
        csat.n = sums.csat.n;
        csat.note = few(csat.n);
        csat.mean = sums.csat.value().map(|m| round(m, 2));
        csat.below_threshold = sums.csat.value().map(|m| m < CSAT_THRESHOLD);
        csat.top2_pct = csat.mean.map(|_| pct(sums.csat_top2, csat.n));
        csat.ci95 = wilson_pct95(sums.csat_top2, csat.n);
        let ces = &mut self.ces;
        ces.n = sums.ces.n;
        ces.note = few(ces.n);
        ces.mean = sums.ces.value().map(|m| round(m, 2));
        ces.pct_5_to_7 = ces.mean.map(|_| pct(sums.ces_easy, ces.n));
        ces.ci95 = wilson_pct95(sums.ces_easy, ces.n);
        ces.by_touchpoint = touchpoints(sums.ces_by_touchpoint);
        let cli = &mut self.cli;
        cli.n = sums.cli.n;
        cli.note = few(cli.n);
        cli.value = sums.cli.value().map(|m| round(m, 2));
        if let (Some(experience), Some(expectation)) = (sums.experience.value(), sums.expectation.value()) {
            self.gap = Some(round(experience - expectation, 2));
        }
    }
}

/// The survey answers of the window, in order of time, with the interactions that brought them.
pub fn answers<'a>(reading: &Reading<'a>) -> impl Iterator<Item = (&'a Interaction, &'a Survey)> {
    reading.shown_facts().iter().filter_map(|fact| match &fact.event.data {
        EventData::InteractionReceived(i) if i.by_customer() => i.survey.as_ref().map(|s| (&**i, s)),
        _ => None,
    })
}

/// One answer on the standard scale of its metric (nps 0-10, csat 1-5, ces 1-7), where higher is better; `None` for
/// other metrics, and for answers that the metric does not count.
pub fn standard_answer(survey: &Survey) -> Option<(&'static str, f64)> {
    let mut metrics = Metrics::default();
    let mut sums = Sums::default();
    match survey.metric.to_lowercase().as_str() {
        "nps" => {
            metrics.nps.add(survey);
            Some(("nps", metrics.nps.latest?))
        }
        "csat" => {
            metrics.csat.add(survey, &mut sums);
            Some(("csat", metrics.csat.latest?))
        }
        "ces" => {
            metrics.ces.add(survey, None, &mut sums);
            Some(("ces", metrics.ces.latest?))
        }
        _ => None,
    }
}

#[derive(Default)]
struct Sums<'a> {
    csat: Mean,
    csat_top2: u64,
    ces: Mean,
    ces_easy: u64,
    ces_by_touchpoint: BTreeMap<&'a str, Mean>,
    cli: Mean,
    expectation: Mean,
    experience: Mean,
}

/// An answer on a standard scale.
struct Answer {
    value: f64,
    rescaled: bool,
    reversed: bool,
}

/// The answer of a survey that enters the net promoter score: on the standard scale and within it.
pub fn nps_answer(survey: &Survey) -> Option<f64> {
    let standard = survey.scale.as_ref().is_none_or(|s| is_scale(s, NPS_SCALE) && !is_reversed(s));
    let is_nps = survey.metric.eq_ignore_ascii_case("nps");
    single(survey).filter(|v| is_nps && standard && within(*v, NPS_SCALE))
}

impl Nps {
    fn add(&mut self, survey: &Survey) {
        let Some(value) = nps_answer(survey) else {
            self.excluded += 1;
            return;
        };
        self.n += 1;
        self.latest = Some(round(value, 2));
        match value {
            v if v >= 9.0 => self.promoters += 1,
            v if v <= 6.0 => self.detractors += 1,
            _ => self.passives += 1,
        }
    }
}

impl Csat {
    fn add(&mut self, survey: &Survey, sums: &mut Sums) {
        let scale = survey.scale.as_ref();
        let Some(answer) = single(survey).and_then(|v| on_scale(v, scale, CSAT_SCALE, CSAT_SCALE, false))
        else {
            self.excluded += 1;
            return;
        };
        self.latest = Some(round(answer.value, 2));
        self.rescaled += u64::from(answer.rescaled);
        sums.csat.add(answer.value);
        sums.csat_top2 += u64::from(answer.value >= 4.0);
    }
}

impl Ces {
    fn add<'a>(&mut self, survey: &Survey, touchpoint: Option<&'a str>, sums: &mut Sums<'a>) {
        // Answers from 1 to 5 are of the first form, and run the other way unless they say that they do not.
        let scale = survey.scale.as_ref();
        let legacy = scale.is_some_and(|s| is_scale(s, CES_LEGACY_SCALE) && s.direction.is_none());
        let Some(answer) = single(survey).and_then(|v| on_scale(v, scale, CES_SCALE, CES_SCALE, legacy))
        else {
            self.excluded += 1;
            return;
        };
        self.latest = Some(round(answer.value, 2));
        self.rescaled += u64::from(answer.rescaled);
        self.reversed += u64::from(answer.reversed);
        sums.ces.add(answer.value);
        sums.ces_easy += u64::from(answer.value >= 5.0);
        if let Some(touchpoint) = touchpoint {
            sums.ces_by_touchpoint.entry(touchpoint).or_default().add(answer.value);
        }
    }
}

impl Cli {
    fn add(&mut self, survey: &Survey, sums: &mut Sums) {
        let scale = survey.scale.as_ref();
        let value = match survey.values.len() {
            0 => survey.value,
            CLI_ANSWERS => survey.values.iter().copied().collect::<Mean>().value(),
            _ => None,
        };
        // Each answer must be on the scale; the mean of three answers is, then, too.
        let bounds = scale.map_or(CLI_SCALE, |s| (s.min, s.max));
        let all_within = survey.values.iter().all(|v| within(*v, bounds));
        let Some(answer) =
            value.filter(|_| all_within).and_then(|v| on_scale(v, scale, CLI_SCALE, CLI_SCALE, false))
        else {
            self.excluded += 1;
            return;
        };
        self.latest = Some(round(answer.value, 2));
        self.rescaled += u64::from(answer.rescaled);
        sums.cli.add(answer.value);
    }
}

fn single(survey: &Survey) -> Option<f64> {
    survey.value.or(survey.values.first().copied()).filter(|v| v.is_finite())
}

fn within(value: f64, (low, high): Bounds) -> bool {
    low <= value && value <= high
}

fn is_scale(scale: &Scale, (low, high): Bounds) -> bool {
    scale.min == low && scale.max == high
}

fn is_reversed(scale: &Scale) -> bool {
    scale.direction.as_deref() == Some("lower_is_better")
}

/// Brings an answer from its own scale (`assumed` where it names none) to the standard one, linearly; `None` where it is
/// not on its scale.
fn on_scale(
    value: f64,
    scale: Option<&Scale>,
    assumed: Bounds,
    standard: Bounds,
    legacy: bool,
) -> Option<Answer> {
    let own = scale.map_or(assumed, |s| (s.min, s.max));
    if !within(value, own) || own.0 >= own.1 {
        return None;
    }
    let reversed = legacy || scale.is_some_and(is_reversed);
    let rescaled = own != standard;
    let share = (value - own.0) / (own.1 - own.0);
    let share = if reversed { 1.0 - share } else { share };
    let value = if rescaled || reversed { standard.0 + share * (standard.1 - standard.0) } else { value };
    Some(Answer { value, rescaled, reversed })
}

/// Where on its scale (1-5 unless it says otherwise) an answer stands, from 0 to 1.
fn share_of_scale(survey: &Survey) -> Option<f64> {
    on_scale(single(survey)?, survey.scale.as_ref(), CSAT_SCALE, (0.0, 1.0), false).map(|a| a.value)
}

/// Hardest first; of equals by name.
fn touchpoints(means: BTreeMap<&str, Mean>) -> Vec<TouchpointEffort> {
    let mut touchpoints: Vec<TouchpointEffort> = means
        .into_iter()
        .filter_map(|(touchpoint, mean)| {
            Some(TouchpointEffort { touchpoint: touchpoint.into(), n: mean.n, mean: round(mean.value()?, 2) })
        })
        .collect();
    touchpoints.sort_by(|a, b| a.mean.total_cmp(&b.mean));
    touchpoints
}
