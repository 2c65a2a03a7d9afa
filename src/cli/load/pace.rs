//! When requests are due: the arrivals of a Poisson process, and a thread that wakes at each.
//!
//! The async runtime's timers count whole milliseconds, which is as long as a short answer takes; a thread's sleep is
//! good to a tenth of that.

use std::time::{Duration, Instant};

use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Exp1};

/// How often, and with which seed.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Mean number of requests a second.
    pub per_s: f64,
    pub seed: u64,
}

/// A sleep ends this much late where nobody asks for better (Linux's timer slack); the rest is spent looking at the
/// clock.
const SLACK: Duration = Duration::from_micros(50);

impl Pace {
    /// Moments at which requests are due, counted from the start: independent of one another, as customers are. The
    /// same seed gives the same moments.
    pub fn arrivals(self) -> impl Iterator<Item = Duration> {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut at = 0.0;
        std::iter::repeat_with(move || {
            let gap: f64 = Exp1.sample(&mut random);
            at += gap / self.per_s;
            Duration::from_secs_f64(at)
        })
    }
}

/// Sleeps until `due`, never less.
pub fn sleep_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if left > SLACK {
            std::thread::sleep(left - SLACK);
        } else {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_a_poisson_process_of_the_asked_rate() {
        let pace = Pace { per_s: 200.0, seed: 3 };
        let moments: Vec<f64> = pace.arrivals().take(20_000).map(|d| d.as_secs_f64()).collect();
        let gaps: Vec<f64> = moments.windows(2).map(|w| w[1] - w[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean * 200.0 - 1.0).abs() < 0.03, "{mean}");
        // The gaps of a Poisson process deviate by as much as they last.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "{variance}");
        assert!(moments.iter().copied().eq(pace.arrivals().take(20_000).map(|d| d.as_secs_f64())));
        let other = Pace { seed: 4, ..pace };
        assert_ne!(other.arrivals().next(), pace.arrivals().next());
    }

    #[test]
    fn a_sleep_never_ends_early() {
        let due = Instant::now() + Duration::from_millis(3);
        sleep_until(due);
        assert!(Instant::now() >= due);
    }
}
