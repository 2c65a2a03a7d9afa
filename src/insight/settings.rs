//! What a company configures, as data: competitors, modules, channels, watchlists and the rules for labels.
//!
//! Every settings document has a version that grows by one with each change; a document names the versions it used.

use serde::{Deserialize, Serialize};

/// All settings of one tenant, as the fold reads them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub competitors: Vec<Competitor>,
    pub modules: Vec<Module>,
    pub channels: Vec<Channel>,
    pub watchlists: Vec<Watchlist>,
    pub labels: LabelRules,
    /// Version of the `labels` rules, for `meta.rules`.
    pub labels_version: u64,
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

impl Settings {
    /// Whether records of `module` have insights.
    pub fn module_enabled(&self, module: &str) -> bool {
        self.modules.iter().find(|m| m.name == module).is_none_or(|m| m.enabled)
    }
}
