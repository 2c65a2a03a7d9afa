//! What somebody should hear of at once: rules as data, and what a step of a record's history raises under them (Z08, Z16,
//! C09, C14, X06).
//!
//! An alert is about a *cause*: an event that has just come in and the record whose customer brought it. Documents are
//! only compared where such a cause is among what a label rests on, so nothing is raised when settings change, a day
//! passes, history is scored anew or something is erased. An event that was older than `cause_age_days_max` when it
//! came raises nothing: that is history being loaded. The id of an alert is made of its cause, so a cause raises each
//! alert once, however often it is looked at.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    action,
    digest::Digest,
    event::{EventData, EventId, Interaction, RecordKey},
    history::Entry,
    metrics::standard_answer,
    panels::competitors::{Stance, SwitchRisk},
    rules::Label,
    settings::Settings,
};
use crate::scores::{Intent, Label as _, Sentiment};

/// The rules of a tenant; `/v1/settings/alerts`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlertRules {
    /// An event that was older than this when it came raises no alert.
    pub cause_age_days_max: u32,
    pub label_raised: LabelRaised,
    pub competitor_mentioned: Named,
    pub turned_negative: TurnedNegative,
    pub critical_feedback: CriticalFeedback,
    pub watch_hit: Named,
    pub digest: DigestRule,
}

/// A warning label became active, or more severe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabelRaised {
    pub enabled: bool,
    /// Only these labels; empty means all.
    pub labels: Vec<String>,
    /// 1 to 3.
    pub severity_min: u8,
}

/// Something of a settings list was named: a competitor, or a phrase of a watchlist.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Named {
    pub enabled: bool,
    /// Only these competitors or watchlists; empty means all.
    pub names: Vec<String>,
}

/// The net sentiment of the default window fell below `net_below`, where it had not been before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TurnedNegative {
    pub enabled: bool,
    /// (positive - negative) / responses, from -1 to 1.
    pub net_below: f64,
    /// Fewest responses in the window.
    pub responses_min: u64,
}

/// An answer or a message that should not wait: a detractor, a low satisfaction, a hard time, an angry complaint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CriticalFeedback {
    pub enabled: bool,
    /// NPS answers up to this one, on 0-10.
    pub nps_max: f64,
    /// CSAT answers up to this one, on 1-5.
    pub csat_max: f64,
    /// CES answers up to this one, on 1-7, where higher is easier.
    pub ces_max: f64,
    /// Complaints that are negative with at least this probability.
    pub complaint_negative_p_min: f64,
}

/// The daily summary for each team.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DigestRule {
    pub enabled: bool,
    /// IANA name of the time zone whose days are summed up.
    pub tz: String,
    /// Hour of the day, in that zone, from which on the day before is sent.
    pub hour: u8,
}

impl Default for AlertRules {
    fn default() -> Self {
        Self {
            cause_age_days_max: 7,
            label_raised: LabelRaised::default(),
            competitor_mentioned: Named::default(),
            turned_negative: TurnedNegative::default(),
            critical_feedback: CriticalFeedback::default(),
            watch_hit: Named::default(),
            digest: DigestRule::default(),
        }
    }
}

impl Default for LabelRaised {
    fn default() -> Self {
        Self { enabled: true, labels: vec![], severity_min: 1 }
    }
}

impl Default for Named {
    fn default() -> Self {
        Self { enabled: true, names: vec![] }
    }
}

impl Default for TurnedNegative {
    fn default() -> Self {
        Self { enabled: true, net_below: 0.0, responses_min: 3 }
    }
}

impl Default for CriticalFeedback {
    fn default() -> Self {
        Self { enabled: true, nps_max: 6.0, csat_max: 2.0, ces_max: 2.0, complaint_negative_p_min: 0.9 }
    }
}

impl Default for DigestRule {
    fn default() -> Self {
        Self { enabled: true, tz: "UTC".into(), hour: 7 }
    }
}

impl AlertRules {
    /// Names what cannot mean anything: a JSON pointer, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let share = |pointer, value: f64, low: f64, high: f64| {
            let fits = (low..=high).contains(&value);
            if fits { Ok(()) } else { Err((pointer, format!("give a number from {low} to {high}"))) }
        };
        share("/turned_negative/net_below", self.turned_negative.net_below, -1.0, 1.0)?;
        let critical = &self.critical_feedback;
        share("/critical_feedback/nps_max", critical.nps_max, 0.0, 10.0)?;
        share("/critical_feedback/csat_max", critical.csat_max, 0.0, 5.0)?;
        share("/critical_feedback/ces_max", critical.ces_max, 0.0, 7.0)?;
        share("/critical_feedback/complaint_negative_p_min", critical.complaint_negative_p_min, 0.0, 1.0)?;
        if !(1..=3).contains(&self.label_raised.severity_min) {
            return Err(("/label_raised/severity_min", "a severity is 1, 2 or 3".into()));
        }
        if self.digest.hour > 23 {
            return Err(("/digest/hour", "an hour of the day is 0 to 23".into()));
        }
        Ok(())
    }
}

/// What an alert is about. The names are those of the settings, of routes and of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    LabelRaised,
    CompetitorMentioned,
    TurnedNegative,
    CriticalFeedback,
    WatchHit,
}

impl Rule {
    pub const ALL: [Rule; 5] = [
        Self::LabelRaised,
        Self::CompetitorMentioned,
        Self::TurnedNegative,
        Self::CriticalFeedback,
        Self::WatchHit,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::LabelRaised => "label_raised",
            Self::CompetitorMentioned => "competitor_mentioned",
            Self::TurnedNegative => "turned_negative",
            Self::CriticalFeedback => "critical_feedback",
            Self::WatchHit => "watch_hit",
        }
    }

    /// The CloudEvents type of its alerts.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::LabelRaised => "hearken.alert.label_raised.v1",
            Self::CompetitorMentioned => "hearken.alert.competitor_mentioned.v1",
            Self::TurnedNegative => "hearken.alert.turned_negative.v1",
            Self::CriticalFeedback => "hearken.alert.critical_feedback.v1",
            Self::WatchHit => "hearken.alert.watch_hit.v1",
        }
    }
}

/// Something to tell. It names what was found, never the customer's own words.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub rule: Rule,
    /// The record as it is called now.
    pub record: RecordKey,
    /// 1 (notice) to 3 (act now).
    pub severity: u8,
    pub cause: EventId,
    /// When the cause happened.
    pub at: Timestamp,
    /// What a route is looked up by: the label, or the rule's name.
    pub label: String,
    /// What the rule found, by the rule.
    pub found: Value,
    /// What makes this alert another one than the others of its cause and rule.
    item: String,
}

impl Alert {
    /// Its name for ever: the same cause never raises it twice.
    pub fn id(&self, tenant: &str) -> String {
        let day = super::view::day(self.at).to_string();
        match self.rule {
            // A net that goes up and down around its bound turns once a day.
            Rule::TurnedNegative => {
                action::name("alr", &[tenant, self.rule.name(), &self.record.module, &self.record.id, &day])
            }
            _ => action::name(
                "alr",
                &[tenant, self.rule.name(), &self.item, &self.cause.source, &self.cause.id],
            ),
        }
    }
}

/// The parts of a document that rules look at, read from its bytes.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Glimpse {
    pub highlights: Labels,
    pub competitors: Rows,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Labels {
    pub labels: Vec<Label>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Rows {
    pub rows: Vec<Leaning>,
}

/// How the customer leans toward a competitor.
#[derive(Clone, Debug, Deserialize)]
pub struct Leaning {
    pub competitor: String,
    pub stance: Stance,
    pub switch_risk: SwitchRisk,
}

/// An event that may raise alerts.
pub struct Cause<'a> {
    pub entry: &'a Entry,
    /// What was found in its text.
    pub digest: Option<Digest>,
}

/// What is known of a record before or after a step.
#[derive(Default)]
pub struct Side {
    pub glimpse: Glimpse,
    pub responses: u64,
    /// (positive - negative) / responses of the default window.
    pub net: Option<f64>,
}

impl Side {
    /// Takes over what another record of the same customer was known for: what was told of a lead is not told again of
    /// the contact that it became.
    pub fn join(&mut self, other: Side) {
        self.glimpse.highlights.labels.extend(other.glimpse.highlights.labels);
        self.responses += other.responses;
        self.net = match (self.net, other.net) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    fn severity(&self, label: &str) -> u8 {
        let of = |l: &Label| if l.active && l.id == label { l.severity.unwrap_or(0) } else { 0 };
        self.glimpse.highlights.labels.iter().map(of).max().unwrap_or(0)
    }
}

/// Whether an event can raise alerts at all: it is about a customer, and was news when it came.
pub fn is_cause(entry: &Entry, rules: &AlertRules) -> bool {
    let telling = match &entry.event.data {
        EventData::InteractionReceived(i) => i.by_customer() || i.customer_text().is_some(),
        EventData::CustomerChurned(_) | EventData::BehaviourObserved(_) => true,
        _ => false,
    };
    let age_max = SignedDuration::from_hours(24 * i64::from(rules.cause_age_days_max));
    telling && entry.received_at.duration_since(entry.event.time) <= age_max
}

/// What a step raises for one record: `causes` came in with it and are that customer's own.
pub fn raise(
    record: &RecordKey,
    before: &Side,
    after: &Side,
    causes: &[Cause],
    settings: &Settings,
) -> Vec<Alert> {
    let mut alerts = Vec::new();
    for cause in causes {
        mentions(record, cause, after, settings, &mut alerts);
        watched(record, cause, settings, &mut alerts);
        critical(record, cause, settings, &mut alerts);
    }
    labels(record, before, after, causes, settings, &mut alerts);
    turned(record, before, after, causes, settings, &mut alerts);
    alerts
}

fn alert(rule: Rule, record: &RecordKey, cause: &Cause, severity: u8, item: String, found: Value) -> Alert {
    let event = &cause.entry.event;
    Alert {
        rule,
        record: record.clone(),
        severity,
        cause: event.id.clone(),
        at: event.time,
        label: rule.name().into(),
        found,
        item,
    }
}

fn sentiment(cause: &Cause) -> Option<Sentiment> {
    cause.entry.scores.as_ref().and_then(|s| s.sentiment.as_ref()).map(|s| s.label)
}

fn interaction<'a>(cause: &'a Cause) -> Option<&'a Interaction> {
    match &cause.entry.event.data {
        EventData::InteractionReceived(interaction) => Some(interaction),
        _ => None,
    }
}

/// Severity 1; 2 where the sentence speaks well of the competitor; 3 where the customer speaks of going over.
fn mentions(record: &RecordKey, cause: &Cause, after: &Side, settings: &Settings, alerts: &mut Vec<Alert>) {
    use super::lexicon::Cue;
    let rule = &settings.alerts.competitor_mentioned;
    let Some(digest) = cause.digest.as_ref().filter(|_| rule.enabled) else { return };
    let mut named: Vec<usize> = digest.competitors.iter().map(|m| m.competitor).collect();
    named.sort_unstable();
    named.dedup();
    for index in named {
        let Some(competitor) = settings.competitors.get(index).filter(|c| is_meant(&rule.names, &c.name))
        else {
            continue;
        };
        let of_it = || digest.competitors.iter().filter(|m| m.competitor == index);
        let switching = digest.says(Cue::Switching) || digest.says(Cue::Leaving);
        let praised = of_it().any(|m| m.sentiment == Some(Sentiment::Positive));
        let severity = if switching { 3 } else { 1 + u8::from(praised) };
        let row = after.glimpse.competitors.rows.iter().find(|row| row.competitor == competitor.name);
        let found = json!({
            "competitor": competitor.name,
            "mentions": of_it().count(),
            "sentiment": of_it().find_map(|m| m.sentiment).map(|s| s.name()),
            "speaks_of_switching": switching,
            "stance": row.map(|row| &row.stance),
            "switch_risk": row.map(|row| &row.switch_risk),
        });
        alerts.push(alert(
            Rule::CompetitorMentioned,
            record,
            cause,
            severity,
            competitor.name.clone(),
            found,
        ));
    }
}

/// Severity 1; 2 where the whole text is negative. One alert for each list.
fn watched(record: &RecordKey, cause: &Cause, settings: &Settings, alerts: &mut Vec<Alert>) {
    let rule = &settings.alerts.watch_hit;
    let Some(digest) = cause.digest.as_ref().filter(|_| rule.enabled) else { return };
    for (index, list) in
        settings.watchlists.iter().enumerate().filter(|(_, l)| is_meant(&rule.names, &l.name))
    {
        let mut phrases: Vec<&str> = digest
            .watched
            .iter()
            .filter(|hit| hit.list == index)
            .filter_map(|hit| list.phrases.get(hit.phrase).map(String::as_str))
            .collect();
        let count = phrases.len();
        phrases.sort_unstable();
        phrases.dedup();
        if phrases.is_empty() {
            continue;
        }
        let severity = 1 + u8::from(sentiment(cause) == Some(Sentiment::Negative));
        let found = json!({
            "watchlist": list.name, "kind": list.kind, "phrases": phrases, "count": count,
            "sentiment": sentiment(cause).map(|s| s.name()),
        });
        alerts.push(alert(Rule::WatchHit, record, cause, severity, list.name.clone(), found));
    }
}

fn is_meant(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|n| n == name)
}

/// Severity 2; 3 for an NPS answer of 0 to 3.
fn critical(record: &RecordKey, cause: &Cause, settings: &Settings, alerts: &mut Vec<Alert>) {
    let rule = &settings.alerts.critical_feedback;
    let Some(interaction) = interaction(cause).filter(|_| rule.enabled) else { return };
    let answer = interaction.survey.as_ref().filter(|_| interaction.by_customer()).and_then(standard_answer);
    if let Some((metric, value)) = answer {
        let value_max = match metric {
            "nps" => rule.nps_max,
            "csat" => rule.csat_max,
            _ => rule.ces_max,
        };
        if value <= value_max {
            let severity = if metric == "nps" && value <= 3.0 { 3 } else { 2 };
            let found = json!({"metric": metric, "value": value, "value_max": value_max,
                               "channel": interaction.channel, "touchpoint": interaction.touchpoint});
            alerts.push(alert(Rule::CriticalFeedback, record, cause, severity, metric.into(), found));
            return;
        }
    }
    let scores = cause.entry.scores.as_ref();
    let negative_p =
        scores.and_then(|s| s.sentiment.as_ref()).map(|s| f64::from(s.probability(Sentiment::Negative)));
    let complains = scores.and_then(|s| s.intent.as_ref()).is_some_and(|i| i.label == Intent::Complaint);
    if let Some(p) = negative_p.filter(|p| complains && *p >= rule.complaint_negative_p_min) {
        let found = json!({"intent": "complaint", "negative_p": super::statistics::round(p, 3),
                           "negative_p_min": rule.complaint_negative_p_min,
                           "channel": interaction.channel, "touchpoint": interaction.touchpoint});
        alerts.push(alert(Rule::CriticalFeedback, record, cause, 2, "complaint".into(), found));
    }
}

/// A label that is active, or more severe, since one of the causes stands among its evidence.
fn labels(
    record: &RecordKey,
    before: &Side,
    after: &Side,
    causes: &[Cause],
    settings: &Settings,
    alerts: &mut Vec<Alert>,
) {
    let rule = &settings.alerts.label_raised;
    if !rule.enabled {
        return;
    }
    for label in after.glimpse.highlights.labels.iter().filter(|l| l.active && is_meant(&rule.labels, &l.id))
    {
        let severity = after.severity(&label.id);
        if severity < rule.severity_min || severity <= before.severity(&label.id) {
            continue;
        }
        let is_evidence = |cause: &&Cause| {
            let EventId { source, id } = &cause.entry.event.id;
            label.evidence.iter().any(|name| name == id || *name == format!("{source}#{id}"))
        };
        // The newest: the one that tipped it, where several came at once.
        let newest = |cause: &&Cause| (cause.entry.event.time, cause.entry.event.id.clone());
        let Some(cause) = causes.iter().filter(is_evidence).max_by_key(newest) else { continue };
        let found = json!({
            "label": label.id, "severity": severity, "severity_before": before.severity(&label.id),
            "basis": label.basis, "since": label.since, "cause": label.cause, "rule": label.rule,
            "inputs": label.inputs, "evidence": label.evidence, "evidence_total": label.evidence_total,
        });
        let item = format!("{}/{severity}", label.id);
        let mut raised = alert(Rule::LabelRaised, record, cause, severity, item, found);
        raised.label.clone_from(&label.id);
        alerts.push(raised);
    }
}

/// Severity 2. The cause is the newest negative response.
fn turned(
    record: &RecordKey,
    before: &Side,
    after: &Side,
    causes: &[Cause],
    settings: &Settings,
    alerts: &mut Vec<Alert>,
) {
    let rule = &settings.alerts.turned_negative;
    let (Some(from), Some(to)) = (before.net, after.net) else { return };
    if !rule.enabled || after.responses < rule.responses_min || from < rule.net_below || to >= rule.net_below
    {
        return;
    }
    let negative = |cause: &&Cause| sentiment(cause) == Some(Sentiment::Negative);
    let Some(cause) = causes.iter().filter(negative).max_by_key(|c| c.entry.event.time) else { return };
    let round = |net| super::statistics::round(net, 2);
    let found = json!({"net_from": round(from), "net_to": round(to), "net_below": rule.net_below,
                       "responses": after.responses});
    alerts.push(alert(Rule::TurnedNegative, record, cause, 2, String::new(), found));
}
