//! Which rate to try next: doubled until one fails, then halved in between until the gap is small. A plain state
//! machine: it sends nothing.

/// What a rate came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// Missed by little: a machine that was busy with something else may have done that, so it is tried again.
    NearMiss,
    Failed,
}

/// The search ends when the lowest rate that failed is within this factor of the highest that passed ...
const PRECISION: f64 = 1.05;
/// ... or after so many runs ...
const TRIALS_MAX: usize = 32;
/// ... or when even this rate fails.
const RATE_MIN: f64 = 0.05;
const RATE_MAX: f64 = 1e6;

#[derive(Debug)]
pub struct Search {
    passed: Option<f64>,
    failed: Option<f64>,
    next: f64,
    missed_once: bool,
    trials: usize,
}

impl Search {
    pub fn new(first: f64) -> Search {
        Search { passed: None, failed: None, next: first, missed_once: false, trials: 0 }
    }

    /// The rate to try, until the search has ended.
    pub fn next(&self) -> Option<f64> {
        let close = matches!((self.passed, self.failed), (Some(low), Some(high)) if high <= low * PRECISION);
        let ended = close || self.trials >= TRIALS_MAX || !(RATE_MIN..=RATE_MAX).contains(&self.next);
        (!ended).then_some(self.next)
    }

    /// Takes what [`Search::next`] came to.
    pub fn record(&mut self, verdict: Verdict) {
        self.trials += 1;
        if verdict == Verdict::NearMiss && !self.missed_once {
            self.missed_once = true;
            return;
        }
        self.missed_once = false;
        if verdict == Verdict::Passed {
            self.passed = Some(self.next);
        } else {
            self.failed = Some(self.next);
        }
        self.next = match (self.passed, self.failed) {
            (None, _) => self.next / 2.0,
            (Some(low), None) => low * 2.0,
            // The geometric middle: the answer is wanted to a factor.
            (Some(low), Some(high)) => (low * high).sqrt(),
        };
    }

    /// The highest rate that passed.
    pub fn highest(&self) -> Option<f64> {
        self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(first: f64, capacity: f64) -> (Option<f64>, usize) {
        let mut search = Search::new(first);
        while let Some(rate) = search.next() {
            search.record(if rate <= capacity { Verdict::Passed } else { Verdict::Failed });
        }
        (search.highest(), search.trials)
    }

    #[test]
    fn the_capacity_is_found_to_within_five_percent_from_anywhere() {
        for capacity in [0.2, 3.0, 97.0, 1234.0, 50_000.0] {
            for first in [0.5, 20.0, 4000.0] {
                let (found, trials) = search(first, capacity);
                let found = found.unwrap();
                assert!(found <= capacity && found * PRECISION >= capacity, "{first} {capacity}: {found}");
                assert!(trials <= 24, "{trials}");
            }
        }
    }

    #[test]
    fn it_ends_where_nothing_passes_or_everything_does() {
        assert_eq!(search(20.0, 0.0).0, None);
        assert!(search(20.0, f64::MAX).0.unwrap() > RATE_MAX / 2.0);
    }

    #[test]
    fn a_near_miss_is_tried_again() {
        let mut search = Search::new(100.0);
        search.record(Verdict::NearMiss);
        assert_eq!(search.next(), Some(100.0));
        search.record(Verdict::Passed);
        assert_eq!(search.next(), Some(200.0));
        search.record(Verdict::NearMiss);
        search.record(Verdict::NearMiss);
        assert_eq!(search.next(), Some((100.0f64 * 200.0).sqrt()));
    }
}
