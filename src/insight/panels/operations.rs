//! How contacts went, as the telephone or ticket system measured them, beside how the customer felt (K04).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::insight::{
    event::EventData,
    reading::Reading,
    statistics::{Mean, pct, round},
};
use crate::scores::Sentiment;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Operations {
    /// Contacts with measures.
    pub n: u64,
    pub handle_s_mean: Option<f64>,
    pub wait_s_mean: Option<f64>,
    /// As the measuring system scales it (a mean opinion score runs from 1 to 5).
    pub audio_quality_mean: Option<f64>,
    pub resolved_pct: Option<f64>,
    /// Share of negatives among resolved and among unresolved contacts, in percent.
    pub negative_pct_resolved: Option<f64>,
    pub negative_pct_unresolved: Option<f64>,
    /// The same measures of the contacts that were negative, and of those that were not.
    pub when_negative: Measures,
    pub otherwise: Measures,
}

/// Means over some contacts that carry a sentiment; null where nothing was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Measures {
    pub n: u64,
    pub handle_s_mean: Option<f64>,
    pub wait_s_mean: Option<f64>,
    pub audio_quality_mean: Option<f64>,
}

#[derive(Default)]
struct Sums {
    n: u64,
    handle: Mean,
    wait: Mean,
    audio: Mean,
}

impl Sums {
    fn add(&mut self, ops: &crate::insight::event::Ops) {
        self.n += 1;
        ops.handle_s.into_iter().for_each(|s| self.handle.add(s));
        ops.wait_s.into_iter().for_each(|s| self.wait.add(s));
        ops.audio_quality.into_iter().for_each(|q| self.audio.add(q));
    }

    fn measures(&self) -> Measures {
        Measures {
            n: self.n,
            handle_s_mean: self.handle.value().map(|s| round(s, 1)),
            wait_s_mean: self.wait.value().map(|s| round(s, 1)),
            audio_quality_mean: self.audio.value().map(|q| round(q, 2)),
        }
    }
}

impl Operations {
    /// Reads all interactions of the window, the company's own included: these carry the measures of a call too.
    pub fn of(reading: &Reading) -> Self {
        let (mut all, mut bad, mut good) = (Sums::default(), Sums::default(), Sums::default());
        // (negative, scored, all) of the resolved and of the unresolved contacts.
        let (mut resolved, mut unresolved) = ((0, 0, 0), (0, 0, 0));
        for fact in reading.shown_facts() {
            let EventData::InteractionReceived(interaction) = &fact.event.data else { continue };
            let Some(ops) = &interaction.ops else { continue };
            all.add(ops);
            let sentiment = fact.scores.as_ref().and_then(|s| s.sentiment.as_ref()).map(|s| s.label);
            match sentiment {
                Some(Sentiment::Negative) => bad.add(ops),
                Some(_) => good.add(ops),
                None => {}
            }
            let Some(is_resolved) = ops.resolved else { continue };
            let group = if is_resolved { &mut resolved } else { &mut unresolved };
            group.2 += 1;
            if let Some(label) = sentiment {
                group.0 += u64::from(label == Sentiment::Negative);
                group.1 += 1;
            }
        }
        let told = resolved.2 + unresolved.2;
        let share = |count, of| (of > 0).then(|| pct(count, of));
        let Measures { n, handle_s_mean, wait_s_mean, audio_quality_mean } = all.measures();
        Self {
            n,
            handle_s_mean,
            wait_s_mean,
            audio_quality_mean,
            resolved_pct: share(resolved.2, told),
            negative_pct_resolved: share(resolved.0, resolved.1),
            negative_pct_unresolved: share(unresolved.0, unresolved.1),
            when_negative: bad.measures(),
            otherwise: good.measures(),
        }
    }
}
