//! Who turned: records that were promoters, passive or detractors in the period before, and what they are now.
//!
//! A record's stance is its last NPS answer of a period, where segments are cut by record and it gave one, or else the
//! net sentiment of at least [`STANCE_RESPONSES_MIN`] responses, by the same bounds as in its profile.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::gather::{EXAMPLES_MAX, Moods};
use crate::insight::panels::profile::{DETRACTOR_NET_MAX, PROMOTER_NET_MIN, STANCE_RESPONSES_MIN};

/// Where records stood before and stand now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Movement {
    pub promoter_to_detractor: u64,
    pub detractor_to_promoter: u64,
    pub improved: u64,
    pub worsened: u64,
    pub stayed: u64,
    /// Records with too little said in one of the periods.
    pub unknown: u64,
    /// Records by stance before (rows) and now (columns): detractor, passive, promoter.
    pub matrix: [[u64; 3]; 3],
    /// Two-sided p that as many improve as worsen (sign test); null where nobody moved.
    pub p: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stance {
    Detractor,
    Passive,
    Promoter,
}

/// Counts of records by where they stood and stand.
#[derive(Clone, Debug, Default)]
pub struct Moves {
    matrix: [[u64; 3]; 3],
    unknown: u64,
    /// The first records that turned from promoter to detractor.
    pub turned: Vec<u32>,
}

fn stance((moods, nps): (Moods, Option<u8>)) -> Option<Stance> {
    if let Some(answer) = nps {
        return Some(match answer {
            9.. => Stance::Promoter,
            0..=6 => Stance::Detractor,
            _ => Stance::Passive,
        });
    }
    let n = moods.total();
    if n < STANCE_RESPONSES_MIN {
        return None;
    }
    let net = moods.balance() as f64 / n as f64;
    Some(match net {
        net if net >= PROMOTER_NET_MIN => Stance::Promoter,
        net if net <= DETRACTOR_NET_MAX => Stance::Detractor,
        _ => Stance::Passive,
    })
}

impl Moves {
    /// One record: its moods and last NPS answer in the period before, and now.
    pub fn add(&mut self, record: u32, before: (Moods, Option<u8>), now: (Moods, Option<u8>)) {
        let (Some(before), Some(now)) = (stance(before), stance(now)) else {
            self.unknown += 1;
            return;
        };
        self.matrix[before as usize][now as usize] += 1;
        if (before, now) == (Stance::Promoter, Stance::Detractor) && self.turned.len() < EXAMPLES_MAX {
            self.turned.push(record);
        }
    }

    pub fn movement(&self) -> Movement {
        let m = &self.matrix;
        let improved = m[0][1] + m[0][2] + m[1][2];
        let worsened = m[1][0] + m[2][0] + m[2][1];
        let moved = improved + worsened;
        let fewer = improved.min(worsened);
        let p = 2.0 * crate::insight::statistics::binomial_less(fewer, moved, 0.5);
        Movement {
            promoter_to_detractor: m[2][0],
            detractor_to_promoter: m[0][2],
            improved,
            worsened,
            stayed: m[0][0] + m[1][1] + m[2][2],
            unknown: self.unknown,
            matrix: *m,
            p: (moved > 0).then(|| crate::insight::statistics::round(p.min(1.0), 4)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moods(negative: u64, positive: u64) -> Moods {
        Moods { negative, neutral: 0, positive }
    }

    #[test]
    fn answers_go_before_moods_and_too_little_says_nothing() {
        let mut moves = Moves::default();
        moves.add(0, (moods(0, 4), None), (moods(4, 0), None));
        moves.add(1, (moods(0, 4), Some(3)), (moods(4, 0), Some(10)));
        moves.add(2, (moods(0, 2), None), (moods(4, 0), None));
        moves.add(3, (moods(3, 3), None), (moods(3, 3), None));
        let found = moves.movement();
        assert_eq!((found.promoter_to_detractor, found.detractor_to_promoter), (1, 1));
        assert_eq!((found.unknown, found.stayed, found.improved, found.worsened), (1, 1, 1, 1));
        assert_eq!((found.p, moves.turned), (Some(1.0), vec![0]));
    }

    #[test]
    fn many_that_worsen_are_no_chance() {
        let mut moves = Moves::default();
        for record in 0..10 {
            moves.add(record, (moods(0, 4), None), (moods(4, 0), None));
        }
        assert_eq!(moves.movement().p, Some(0.002));
        assert_eq!(moves.turned.len(), EXAMPLES_MAX);
    }
}
