//! What a replay changes, record by record: the document as it is, and as it would be, under the same view.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    RecordDifference, ReplayBody, SideDistributions, Work, kept_settings,
    worker::{Stop, check},
};
use crate::{
    insight::{document::Document, event::RecordKey, view},
    pipeline::{
        Setting, Tenant,
        fold::{Family, Held, default_view},
        scoring::StoredScores,
        settings::TenantSettings,
        shared::Shared,
    },
    scores::Scores,
    store::{Difference, LogRow, TenantRecord},
};

/// Records that are compared before what was found is written.
const BATCH_RECORDS: usize = 64;

/// Compares all records of a tenant that have a document.
pub fn all(
    shared: &Shared,
    work: &Work,
    id: u64,
    tenant: &Tenant,
    body: &mut ReplayBody,
) -> Result<(), Stop> {
    let settings = shared.settings.of(tenant);
    let others = shadow_settings(&settings, body)?;
    body.records = Default::default();
    let mut after: Option<TenantRecord> =
        Some((tenant.clone(), RecordKey { module: String::new(), id: String::new() }));
    let mut afresh = true;
    loop {
        check(shared, work)?;
        let seen = shared.store.bases(after.as_ref(), BATCH_RECORDS)?;
        let own: Vec<RecordKey> =
            seen.iter().filter(|((of, _), _)| of == tenant).map(|((_, key), _)| key.clone()).collect();
        after = seen.last().map(|(record, _)| record.clone());
        let mut found = Vec::new();
        for key in &own {
            let Some(difference) = one(shared, id, tenant, key, &settings, &others)? else { continue };
            count(body, &difference);
            found.push(Difference {
                record: key.clone(),
                changed: difference.labels_changed(),
                // Cannot fail: strings and numbers only.
                body: serde_json::to_string(&difference).unwrap_or_default(),
            });
        }
        shared.store.replays().put_differences(id, found, afresh, &body.to_json())?;
        afresh = false;
        if seen.is_empty() || own.len() < seen.len() {
            return Ok(());
        }
    }
}

/// The settings of a tenant with those of a replay over them.
pub fn shadow_settings(
    settings: &Arc<TenantSettings>,
    body: &ReplayBody,
) -> Result<Arc<TenantSettings>, Stop> {
    let mut others = settings.clone();
    for (name, (checked, kept)) in kept_settings(&body.request)? {
        let version = settings.document(&name)?.version + 1;
        others = Arc::new(others.with(&name, Setting { version, body: kept }, checked));
    }
    Ok(others)
}

fn one(
    shared: &Shared,
    id: u64,
    tenant: &Tenant,
    key: &RecordKey,
    settings: &Arc<TenantSettings>,
    others: &Arc<TenantSettings>,
) -> Result<Option<RecordDifference>, Stop> {
    let Some(family) = shared.customers.with(tenant, |identity| Family::of(identity, key)) else {
        return Ok(None);
    };
    let applied = shared.applied();
    let known =
        |rows: Vec<LogRow>| rows.into_iter().filter(|row| row.position <= applied).collect::<Vec<_>>();
    let old = known(shared.store.history(tenant, &family.sources)?);
    let new = known(shared.store.replays().replayed_history(id, tenant, &family.sources)?);
    let view = default_view(view::day(shared.now()));
    let scores: BTreeMap<u64, Option<Scores>> =
        old.iter().map(|row| (row.position, scores_of(row))).collect();
    let mut difference = RecordDifference {
        record: key.clone(),
        labels_before: vec![],
        labels_after: vec![],
        before: SideDistributions::default(),
        after: SideDistributions::default(),
        sentiment_changed: 0,
        intent_changed: 0,
    };
    for row in &new {
        if let Some(old) = scores.get(&row.position) {
            difference.add(old.as_ref(), scores_of(row).as_ref());
        }
    }
    let (old, new) = shared.customers.with(tenant, |identity| {
        let document = |rows, settings: &Arc<TenantSettings>| {
            Held::of_rows(rows, &family, settings).document(key, identity, &view)
        };
        (document(old, settings), document(new, others))
    });
    let (Some(old), Some(new)) = (old, new) else { return Ok(None) };
    (difference.labels_before, difference.before) = side(&old);
    (difference.labels_after, difference.after) = side(&new);
    Ok(Some(difference))
}

fn scores_of(row: &LogRow) -> Option<Scores> {
    StoredScores::read(row.scores.as_deref()?).ok()?.scores
}

fn side(document: &Document) -> (Vec<String>, SideDistributions) {
    let labels = document.highlights.labels.iter().filter(|l| l.active).map(|l| l.id.clone()).collect();
    let (s, i) = (document.sentiment.distribution, document.intent.distribution);
    let counts = SideDistributions {
        sentiment: [s.negative, s.neutral, s.positive],
        intent: [i.complaint, i.purchase, i.request, i.other],
    };
    (labels, counts)
}

fn count(body: &mut ReplayBody, difference: &RecordDifference) {
    let records = &mut body.records;
    records.compared += 1;
    records.labels_changed += u64::from(difference.labels_changed());
    records.counts_changed += u64::from(difference.before != difference.after);
    let (before, after) = (&difference.labels_before, &difference.labels_after);
    for label in after.iter().filter(|l| !before.contains(l)) {
        records.labels.entry(label.clone()).or_default().gained += 1;
    }
    for label in before.iter().filter(|l| !after.contains(l)) {
        records.labels.entry(label.clone()).or_default().lost += 1;
    }
}
