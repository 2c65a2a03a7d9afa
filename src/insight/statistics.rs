//! The statistics behind the numbers: intervals for shares, differences and NPS, tests, and keyness of words.
//!
//! Each formula names its source. Quantiles come from `statrs`. Nothing here knows what is counted.

use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, Normal};
use statrs::function::{erf::erfc, factorial::ln_factorial};

/// The standard normal quantile for a two-sided interval: 0.95 gives 1.96.
pub fn quantile(confidence: f64) -> f64 {
    Normal::standard().inverse_cdf(0.5 + confidence / 2.0)
}

/// Two-sided p of a standard normal `z`.
pub fn two_sided_p(z: f64) -> f64 {
    erfc(z.abs() / std::f64::consts::SQRT_2).clamp(0.0, 1.0)
}

/// Score interval for a share of `count` in `n` (E. B. Wilson 1927), with `z` from [`quantile`]. `None` without data.
pub fn wilson(count: u64, n: u64, z: f64) -> Option<(f64, f64)> {
    if n == 0 {
        return None;
    }
    let (count, n) = (count.min(n) as f64, n as f64);
    let p = count / n;
    let z2 = z * z;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt() / (1.0 + z2 / n);
    // At 0 and n the interval touches the end exactly; rounding errors must not push it past.
    let low = if count == 0.0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if count == n { 1.0 } else { (centre + half).min(1.0) };
    Some((low, high))
}

/// [`wilson`] at 95 % in percent, one decimal: the `ci95` beside a `pct`.
pub fn wilson_pct95(count: u64, n: u64) -> Option<[f64; 2]> {
    wilson(count, n, quantile(0.95)).map(|(low, high)| [round(100.0 * low, 1), round(100.0 * high, 1)])
}

/// Interval for the difference of two independent shares, `a - b` (R. G. Newcombe 1998, method 10: the square-and-add of
/// two Wilson intervals). `None` where one side has no data.
pub fn newcombe(a: (u64, u64), b: (u64, u64), z: f64) -> Option<(f64, f64)> {
    let (low_a, high_a) = wilson(a.0, a.1, z)?;
    let (low_b, high_b) = wilson(b.0, b.1, z)?;
    let (p_a, p_b) = (a.0 as f64 / a.1 as f64, b.0 as f64 / b.1 as f64);
    let difference = p_a - p_b;
    Some((difference - (p_a - low_a).hypot(high_b - p_b), difference + (high_a - p_a).hypot(p_b - low_b)))
}

/// Counts of answers that stand for 1, 0 and -1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trinomial {
    pub up: u64,
    pub middle: u64,
    pub down: u64,
}

impl Trinomial {
    pub fn n(self) -> u64 {
        self.up + self.middle + self.down
    }

    /// Mean of the answers, -1 to 1; `None` without answers.
    pub fn net(self) -> Option<f64> {
        (self.n() > 0).then(|| (self.up as f64 - self.down as f64) / self.n() as f64)
    }
}

/// Two-sided p that two groups have the same net: the pooled z test of the means of scores 1, 0, -1. Without middle
/// answers it is the pooled two-proportion z test (Fleiss, Levin, Paik 2003, ch. 3). `None` where a group is empty or
/// all answers are alike, so that nothing can be said.
pub fn same_net_p(a: Trinomial, b: Trinomial) -> Option<f64> {
    let (net_a, net_b) = (a.net()?, b.net()?);
    let pooled = Trinomial { up: a.up + b.up, middle: a.middle + b.middle, down: a.down + b.down };
    let net = pooled.net()?;
    let variance = (pooled.up + pooled.down) as f64 / pooled.n() as f64 - net * net;
    let error = (variance * (1.0 / a.n() as f64 + 1.0 / b.n() as f64)).sqrt();
    (error > 0.0).then(|| two_sided_p((net_b - net_a) / error))
}

/// 95 % interval of a net promoter score in points, by the adjusted Wald method: n + 3, promoters and detractors + 3/4
/// each (B. Rocks 2016; J. Sauro, J. Lewis at MeasuringU recommend it for small samples). `None` without answers.
pub fn nps_interval95(promoters: u64, detractors: u64, n: u64) -> Option<[f64; 2]> {
    if n == 0 {
        return None;
    }
    let n = n as f64 + 3.0;
    let promoters = (promoters as f64 + 0.75) / n;
    let detractors = (detractors as f64 + 0.75) / n;
    let net = promoters - detractors;
    let half = quantile(0.95) * ((promoters + detractors - net * net) / n).sqrt();
    Some([round(100.0 * (net - half).max(-1.0), 1), round(100.0 * (net + half).min(1.0), 1)])
}

/// Mentions that the prior of [`log_odds_z`] weighs as much as.
pub const PRIOR_MENTIONS: f64 = 10.0;

/// How much more typical a word is of text A than of text B, in standard deviations: log-odds ratio with informative
/// Dirichlet prior (Monroe, Colaresi, Quinn 2008, eq. 16 and 22), the prior being the pooled use of the word, weighed as
/// [`PRIOR_MENTIONS`] mentions. `a` and `b` are (mentions of the word, mentions of all words). `None` where there is no
/// other word to compare with.
pub fn log_odds_z(a: (u64, u64), b: (u64, u64)) -> Option<f64> {
    let all = (a.1 + b.1) as f64;
    if all == 0.0 {
        return None;
    }
    let prior = PRIOR_MENTIONS * (a.0 + b.0) as f64 / all;
    let odds = |(word, words): (u64, u64)| {
        let with = word as f64 + prior;
        let without = words as f64 + PRIOR_MENTIONS - with;
        (with > 0.0 && without > 1e-9).then(|| (with / without).ln())
    };
    let difference = odds(a)? - odds(b)?;
    let variance = 1.0 / (a.0 as f64 + prior) + 1.0 / (b.0 as f64 + prior);
    Some(difference / variance.sqrt())
}

/// One-sided p of Fisher's exact test (1935) that group A has a larger share than group B: the hypergeometric chance of
/// at least `a.0` of the marked being in A. Groups are (marked, all). Exact for any counts, so rare things do not seem
/// to rise. 1 where a group is empty.
pub fn fisher_more(a: (u64, u64), b: (u64, u64)) -> f64 {
    let (marked, all) = (a.0 + b.0, a.1 + b.1);
    if a.1 == 0 || b.1 == 0 || marked == 0 {
        return 1.0;
    }
    let choose = |n: u64, k: u64| ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k);
    let whole = choose(all, marked);
    let most = marked.min(a.1);
    let least = a.0.max(marked.saturating_sub(b.1));
    // Past the mode terms only fall; those that add nothing any more end the sum.
    let mut sum = 0.0;
    for k in least..=most {
        let term = (choose(a.1, k) + choose(b.1, marked - k) - whole).exp();
        sum += term;
        if term < sum * 1e-15 {
            break;
        }
    }
    sum.min(1.0)
}

/// One-sided p of the exact binomial test that a share is above `p0` where `count` of `n` were seen: the chance of at
/// least as many.
pub fn binomial_more(count: u64, n: u64, p0: f64) -> f64 {
    if count == 0 {
        return 1.0;
    }
    Binomial::new(p0.clamp(0.0, 1.0), n).map_or(1.0, |b| b.sf(count - 1))
}

/// The likewise p that it is below: the chance of at most as many.
pub fn binomial_less(count: u64, n: u64, p0: f64) -> f64 {
    Binomial::new(p0.clamp(0.0, 1.0), n).map_or(1.0, |b| b.cdf(count))
}

/// Values q by Benjamini and Hochberg (1995), one per p and in the same order: to call everything with q up to a level
/// found keeps the expected share of false findings among them under that level, for tests that are independent or
/// positively dependent (Benjamini, Yekutieli 2001).
pub fn benjamini_hochberg(ps: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|a, b| ps[*b].total_cmp(&ps[*a]));
    let n = ps.len() as f64;
    let mut qs = vec![1.0; ps.len()];
    let mut least: f64 = 1.0;
    for (from_largest, index) in order.into_iter().enumerate() {
        let rank = n - from_largest as f64;
        least = least.min(ps[index] * n / rank);
        qs[index] = least;
    }
    qs
}

/// Whether a series rises or falls: Kendall's tau with time (Mann 1945, Kendall 1975; two-sided p by the normal
/// approximation with ties and the correction for continuity), and the median of all slopes (Sen 1968). Takes (time,
/// value); `None` for fewer than [`TREND_POINTS_MIN`] points.
pub fn mann_kendall(points: &[(f64, f64)]) -> Option<MannKendall> {
    let n = points.len();
    if n < TREND_POINTS_MIN {
        return None;
    }
    let mut score = 0i64;
    let mut slopes = Vec::with_capacity(n * (n - 1) / 2);
    for (i, early) in points.iter().enumerate() {
        for late in &points[i + 1..] {
            score += match late.1.total_cmp(&early.1) {
                std::cmp::Ordering::Greater => 1,
                std::cmp::Ordering::Less => -1,
                std::cmp::Ordering::Equal => 0,
            };
            if late.0 > early.0 {
                slopes.push((late.1 - early.1) / (late.0 - early.0));
            }
        }
    }
    let spread = |t: f64| t * (t - 1.0) * (2.0 * t + 5.0);
    let mut values: Vec<f64> = points.iter().map(|p| p.1).collect();
    values.sort_by(f64::total_cmp);
    let ties: f64 = values.chunk_by(|a, b| a == b).map(|tied| spread(tied.len() as f64)).sum();
    let variance = (spread(n as f64) - ties) / 18.0;
    let z = if variance > 0.0 { (score - score.signum()) as f64 / variance.sqrt() } else { 0.0 };
    slopes.sort_by(f64::total_cmp);
    let middle = slopes.len() / 2;
    let slope = match slopes.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => slopes[middle],
        _ => (slopes[middle - 1] + slopes[middle]) / 2.0,
    };
    let pairs = (n * (n - 1) / 2) as f64;
    Some(MannKendall { tau: score as f64 / pairs, p: two_sided_p(z), slope })
}

/// Fewest points of a trend; with fewer no order of them would be telling at 5 %.
pub const TREND_POINTS_MIN: usize = 5;

/// What [`mann_kendall`] finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannKendall {
    /// -1 to 1.
    pub tau: f64,
    pub p: f64,
    /// Change of the value per unit of time.
    pub slope: f64,
}

/// Rounded half away from zero to `decimals`; a zero is never negative.
pub fn round(value: f64, decimals: i32) -> f64 {
    let factor = 10f64.powi(decimals);
    (value * factor).round() / factor + 0.0
}

/// `100 * count / total`, one decimal; 0 where there is nothing.
pub fn pct(count: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { round(100.0 * count as f64 / total as f64, 1) }
}

/// Mean and number of what was added, in any order: sums of whole steps, so that order never shows in the last digit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mean {
    steps: i64,
    pub n: u64,
}

/// Steps of a [`Mean`] per unit: values are rounded to a millionth when they are added.
const MEAN_STEPS: f64 = 1e6;

impl Mean {
    pub fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.steps = self.steps.saturating_add((value * MEAN_STEPS).round() as i64);
            self.n += 1;
        }
    }

    pub fn merge(&mut self, other: Mean) {
        self.steps = self.steps.saturating_add(other.steps);
        self.n += other.n;
    }

    /// `None` where nothing was added.
    pub fn value(self) -> Option<f64> {
        (self.n > 0).then(|| self.steps as f64 / MEAN_STEPS / self.n as f64)
    }
}

impl FromIterator<f64> for Mean {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut mean = Mean::default();
        values.into_iter().for_each(|v| mean.add(v));
        mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() <= tolerance, "{found} is not {expected}");
    }

    #[test]
    fn quantiles() {
        close(quantile(0.95), 1.959964, 1e-6);
        close(quantile(0.80), 1.281552, 1e-6);
        close(two_sided_p(1.959964), 0.05, 1e-6);
        close(two_sided_p(0.0), 1.0, 1e-12);
    }

    /// Newcombe 1998 (Stat Med 17:857), table I, method 3: 81/263, 15/148, 0/20, 1/29.
    #[test]
    fn wilson_as_published() {
        for (count, n, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let (l, h) = wilson(count, n, quantile(0.95)).unwrap();
            close(l, low, 5e-5);
            close(h, high, 5e-5);
        }
        assert_eq!(wilson(0, 0, 1.96), None);
    }

    /// Newcombe 1998 (Stat Med 17:873), table II, method 10: 56/70 - 48/80, 9/10 - 3/10, 5/56 - 0/29.
    #[test]
    fn newcombe_as_published() {
        for (a, b, low, high) in [
            ((56, 70), (48, 80), 0.0524, 0.3339),
            ((9, 10), (3, 10), 0.1705, 0.8090),
            ((5, 56), (0, 29), -0.0381, 0.1926),
        ] {
            let (l, h) = newcombe(a, b, quantile(0.95)).unwrap();
            close(l, low, 5e-5);
            close(h, high, 5e-5);
        }
    }

    #[test]
    fn without_neutrals_the_net_test_is_the_two_proportion_test() {
        // 40 of 50 against 30 of 50: pooled p 0.7, z = 0.2 / sqrt(0.21 * 2 / 50).
        let z: f64 = 0.2 / (0.21f64 * 2.0 / 50.0).sqrt();
        let p =
            same_net_p(Trinomial { up: 40, middle: 0, down: 10 }, Trinomial { up: 30, middle: 0, down: 20 });
        close(p.unwrap(), two_sided_p(z), 1e-12);
        let alike = Trinomial { up: 3, middle: 0, down: 0 };
        assert_eq!(same_net_p(alike, alike), None);
    }

    /// 5 promoters, 3 passives, 2 detractors: adjusted net (5.75 - 2.75) / 13 = 0.2308.
    #[test]
    fn nps_of_ten_answers() {
        let [low, high] = nps_interval95(5, 2, 10).unwrap();
        close((low + high) / 2.0, 23.1, 0.1);
        let half = 1.96 * ((8.5 / 13.0 - 0.2308f64.powi(2)) / 13.0).sqrt() * 100.0;
        close((high - low) / 2.0, half, 0.1);
    }

    #[test]
    fn a_word_of_one_side_stands_out() {
        let z = log_odds_z((10, 40), (1, 40)).unwrap();
        assert!(z > 1.96, "{z}");
        close(log_odds_z((1, 40), (10, 40)).unwrap(), -z, 1e-12);
        close(log_odds_z((3, 30), (3, 30)).unwrap(), 0.0, 1e-12);
        assert_eq!(log_odds_z((3, 3), (2, 2)), None, "the only word there is");
        assert_eq!(log_odds_z((0, 0), (0, 0)), None);
    }

    /// Fisher's tea: 3 of 4 right, 17/70; and 0.0023 for 1 of 8 against 7 of 8 is the other way round.
    #[test]
    fn fisher_as_published() {
        close(fisher_more((3, 4), (1, 4)), 17.0 / 70.0, 1e-12);
        close(fisher_more((4, 4), (0, 4)), 1.0 / 70.0, 1e-12);
        close(fisher_more((0, 4), (4, 4)), 1.0, 1e-12);
        assert_eq!(fisher_more((0, 0), (3, 5)), 1.0);
        close(fisher_more((0, 1_000_000), (0, 2_000_000)), 1.0, 1e-12);
    }

    /// Benjamini and Hochberg 1995, table 1: four hypotheses are rejected at 0.05.
    #[test]
    fn false_discoveries_as_published() {
        let ps = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
            0.6528, 0.7590, 1.0,
        ];
        let qs = benjamini_hochberg(&ps);
        assert_eq!(qs.iter().filter(|q| **q <= 0.05).count(), 4);
        close(qs[0], 0.0015, 1e-9);
        let mut shuffled = ps;
        shuffled.reverse();
        assert_eq!(benjamini_hochberg(&shuffled).into_iter().rev().collect::<Vec<_>>(), qs);
        assert!(benjamini_hochberg(&[]).is_empty());
    }

    #[test]
    fn a_trend_is_told_from_noise() {
        let line: Vec<(f64, f64)> = (0..8).map(|i| (f64::from(i), 2.0 * f64::from(i) + 1.0)).collect();
        let found = mann_kendall(&line).unwrap();
        close(found.tau, 1.0, 1e-12);
        close(found.slope, 2.0, 1e-12);
        // S = 28, variance 8 * 7 * 21 / 18 = 65.33: z = 27 / 8.083.
        close(found.p, two_sided_p(27.0 / (8.0f64 * 7.0 * 21.0 / 18.0).sqrt()), 1e-12);
        let flat = mann_kendall(&line.iter().map(|(t, _)| (*t, 1.0)).collect::<Vec<_>>()).unwrap();
        assert_eq!((flat.tau, flat.p, flat.slope), (0.0, 1.0, 0.0));
        assert_eq!(mann_kendall(&line[..4]), None);
    }

    #[test]
    fn exact_binomial_tails() {
        close(binomial_more(9, 10, 0.5), 11.0 / 1024.0, 1e-9);
        close(binomial_less(1, 10, 0.5), 11.0 / 1024.0, 1e-9);
        assert_eq!(binomial_more(0, 10, 0.5), 1.0);
    }

    #[test]
    fn percentages() {
        assert_eq!(pct(12, 42), 28.6);
        assert_eq!(pct(0, 0), 0.0);
        assert_eq!(wilson_pct95(17, 42), Some([27.0, 55.5]));
        assert_eq!(round(-0.001, 2).to_string(), "0");
    }

    #[test]
    fn means_do_not_depend_on_order() {
        let values = [0.1, -0.7, 0.3333, 0.9, 1e-3];
        let forward: Mean = values.into_iter().collect();
        let backward: Mean = values.into_iter().rev().collect();
        assert_eq!(forward, backward);
        close(forward.value().unwrap(), values.iter().sum::<f64>() / 5.0, 1e-6);
        assert_eq!(Mean::default().value(), None);
    }
}
