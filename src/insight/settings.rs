//! What a company configures, as data: competitors, modules, channels, watchlists and the rules for labels.
//!
//! Every settings document has a version that grows by one with each change; a document names the versions it used.

use serde::{Deserialize, Serialize};

/// All settings of one tenant, as the fold reads them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub competitors: Vec<Competitor>,
    pub modules: Vec<Module>,
    pub channels: Vec<Channel>,
    pub watchlists: Vec<Watchlist>,
    pub labels: LabelRules,
    /// Version of the `labels` rules, for `meta.rules`.
    pub labels_version: u64,
    #[serde(default = "standard_signals")]
    pub signals: Vec<SignalRule>,
    /// Which team looks after a label; without a route nobody is named.
    pub routing: Vec<Route>,
    /// What somebody should hear of at once.
    pub alerts: super::alerts::AlertRules,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Competitor {
    pub name: String,
    #[serde(default)]
    pub aliases: Vec<String>,
}

/// A CRM module; one that is not listed is enabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Module {
    pub name: String,
    pub enabled: bool,
}

/// What a channel is meant for: the share of responses with another intent is its `off_purpose_pct`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    pub name: String,
    pub intended: crate::scores::Intent,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Watchlist {
    pub name: String,
    pub kind: String,
    pub phrases: Vec<String>,
}

/// The thresholds of the warning labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabelRules {
    /// Days that the negative-customer and may-switch rules look back.
    pub window_days: u32,
    /// Least number of negative responses for a negative customer.
    pub negatives_min: u32,
    /// The 80 % Wilson lower bound of the negative share must be above this.
    pub negative_share_min: f64,
    /// This many last responses, all negative, make a negative customer as well.
    pub last_negatives: u32,
}

impl Default for LabelRules {
    fn default() -> Self {
        Self { window_days: 90, negatives_min: 3, negative_share_min: 0.4, last_negatives: 2 }
    }
}

/// A signal: when one of `any` has been seen `count_min` times in the window, it means something and asks for something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalRule {
    pub id: String,
    pub any: Vec<Trigger>,
    #[serde(default = "once")]
    pub count_min: u32,
    pub meaning: String,
    pub action: String,
    /// What is expected to follow, to be monitored as a hypothesis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expects: Option<Expectation>,
}

/// What a signal lets expect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    pub statement: String,
    pub outcome: Expected,
    pub within_days: u32,
}

/// What can follow a signal; a won deal is a purchase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    Purchase,
    Contact,
    Complaint,
    Request,
    Churn,
}

/// What a signal listens to. Empty lists and absent fields ask for nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "on", rename_all = "snake_case", deny_unknown_fields)]
pub enum Trigger {
    /// An observed behaviour of one of these kinds, on a page whose address holds one of these parts, with a value
    /// (a number, or its `value`, `seconds`, `duration_s` or `percent`) within bounds.
    Behaviour {
        kinds: Vec<String>,
        #[serde(default)]
        page: Vec<String>,
        #[serde(default)]
        value_min: Option<f64>,
        #[serde(default)]
        value_max: Option<f64>,
    },
    /// A customer interaction on one of these channels with this sentiment and intent. `wants_person` asks for words
    /// that call for a human; `same_keyword` counts only interactions that share their most frequent keyword.
    Interaction {
        #[serde(default)]
        channels: Vec<String>,
        #[serde(default)]
        sentiment: Option<crate::scores::Sentiment>,
        #[serde(default)]
        intent: Option<crate::scores::Intent>,
        #[serde(default)]
        wants_person: bool,
        #[serde(default)]
        same_keyword: bool,
    },
}

/// What a company believes of its customers, stated so that many records can confirm or contradict it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Assumption {
    pub id: String,
    pub statement: String,
    #[serde(default)]
    pub about: About,
    pub measure: Measure,
    pub expect: Expect,
    pub than: Than,
}

/// The responses that an assumption is about; an absent field asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct About {
    pub channel: Option<String>,
    pub product: Option<String>,
    pub touchpoint: Option<String>,
    pub language: Option<String>,
    /// A keyword in any of its forms.
    pub keyword: Option<String>,
}

/// The share of these responses that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    NegativeShare,
    PositiveShare,
    ComplaintShare,
    RequestShare,
    PurchaseShare,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    Below,
    Above,
}

/// What the share is compared with: a number from 0 to 1, or `"rest"`, the other responses of the same segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Than {
    Share(f64),
    Rest(Rest),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rest {
    Rest,
}

/// The team that looks after what a label or an alert is about, and how soon. Of several routes the first that fits counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Id of a label, name of an alert rule, or `*` for all.
    pub label: String,
    pub team: String,
    /// Hours until it is due, by severity: of 1, 2 and 3.
    #[serde(default = "due_hours")]
    pub due_hours: [u32; 3],
    /// Whether an alert opens a case by itself; where not, it stays a suggestion until somebody takes it up.
    #[serde(default = "yes")]
    pub open: bool,
}

impl Route {
    /// When something of this severity, known since `from`, is due.
    pub fn due_at(&self, from: jiff::Timestamp, severity: u8) -> Option<jiff::Timestamp> {
        let hours = self.due_hours[usize::from(severity.clamp(1, 3)) - 1];
        from.checked_add(jiff::SignedDuration::from_hours(i64::from(hours))).ok()
    }
}

/// Three days, one day, four hours.
fn due_hours() -> [u32; 3] {
    [72, 24, 4]
}

fn yes() -> bool {
    true
}

fn once() -> u32 {
    1
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            competitors: vec![],
            modules: vec![],
            channels: vec![],
            watchlists: vec![],
            labels: LabelRules::default(),
            labels_version: 0,
            signals: standard_signals(),
            routing: vec![],
            alerts: Default::default(),
        }
    }
}

/// The signal rules that hold until a company sets its own: `signals.json`.
pub fn standard_signals() -> Vec<SignalRule> {
    // Cannot fail: the file is part of the program, and a test reads it.
    serde_json::from_str(include_str!("signals.json")).unwrap_or_default()
}

impl Settings {
    /// The route of a label or an alert rule.
    pub fn route(&self, label: &str) -> Option<&Route> {
        self.routing.iter().find(|route| route.label == label || route.label == "*")
    }

    /// Whether records of `module` have insights.
    pub fn module_enabled(&self, module: &str) -> bool {
        self.modules.iter().find(|m| m.name == module).is_none_or(|m| m.enabled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_signals_can_be_read_and_written_back() {
        let rules = standard_signals();
        assert_eq!(rules.len(), 8);
        let json = serde_json::to_string(&Settings::default()).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), Settings::default());
        assert_eq!(serde_json::from_str::<Settings>("{}").unwrap().signals, rules);
    }
}
