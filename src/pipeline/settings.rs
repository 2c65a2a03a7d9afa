//! Settings documents: read, checked and held in memory for the fold.
//!
//! The meaning of each is insight's; here they get a shape on the outside, limits, and refusals that say where.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{PipelineError, SETTINGS, Setting, Tenant};
use crate::{
    insight::{
        alerts::AlertRules,
        event::json_pointer,
        lexicon::Lexicon,
        settings::{
            Assumption, Channel, Competitor, LabelRules, Module, Route, Settings, SignalRule, Than,
            Watchlist, standard_signals,
        },
    },
    store::{Store, StoreError},
};

/// Most characters of a name or phrase.
pub const PHRASE_CHARS_MAX: usize = 200;

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Competitors {
    competitors: Vec<Competitor>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Modules {
    modules: Vec<Module>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Channels {
    channels: Vec<Channel>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Watchlists {
    watchlists: Vec<Watchlist>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signals {
    signals: Vec<SignalRule>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Routing {
    routing: Vec<Route>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Assumptions {
    assumptions: Vec<Assumption>,
}

/// A settings document that was found good.
pub enum Checked {
    Competitors(Vec<Competitor>),
    Modules(Vec<Module>),
    Channels(Vec<Channel>),
    Watchlists(Vec<Watchlist>),
    Labels(LabelRules),
    Signals(Vec<SignalRule>),
    Routing(Vec<Route>),
    Alerts(AlertRules),
    Assumptions(Vec<Assumption>),
    /// The mark that a replay was switched to; nobody puts it.
    Switched,
}

/// The settings document in which the store marks a switch.
pub const SWITCHED: &str = "replay";

/// Reads the body of a settings document; answers with its meaning and the form to keep.
pub fn check(name: &str, body: &str, phrases_max: usize) -> Result<(Checked, String), PipelineError> {
    match name {
        "competitors" => {
            let document: Competitors = read(body)?;
            let mut budget = Phrases::new(phrases_max);
            for (i, competitor) in document.competitors.iter().enumerate() {
                budget.take(&format!("/competitors/{i}/name"), &competitor.name)?;
                for (j, alias) in competitor.aliases.iter().enumerate() {
                    budget.take(&format!("/competitors/{i}/aliases/{j}"), alias)?;
                }
            }
            let names = document.competitors.iter().map(|c| c.name.as_str());
            once("/competitors", names)?;
            Ok((Checked::Competitors(document.competitors.clone()), write(&document)))
        }
        "modules" => {
            let document: Modules = read(body)?;
            once("/modules", document.modules.iter().map(|m| m.name.as_str()))?;
            Ok((Checked::Modules(document.modules.clone()), write(&document)))
        }
        "channels" => {
            let document: Channels = read(body)?;
            once("/channels", document.channels.iter().map(|c| c.name.as_str()))?;
            Ok((Checked::Channels(document.channels.clone()), write(&document)))
        }
        "watchlists" => {
            let document: Watchlists = read(body)?;
            let mut budget = Phrases::new(phrases_max);
            for (i, list) in document.watchlists.iter().enumerate() {
                for (j, phrase) in list.phrases.iter().enumerate() {
                    budget.take(&format!("/watchlists/{i}/phrases/{j}"), phrase)?;
                }
            }
            once("/watchlists", document.watchlists.iter().map(|w| w.name.as_str()))?;
            Ok((Checked::Watchlists(document.watchlists.clone()), write(&document)))
        }
        "labels" => {
            let rules: LabelRules = read(body)?;
            if !(0.0..=1.0).contains(&rules.negative_share_min) {
                return Err(bad("/negative_share_min", "a share lies between 0 and 1"));
            }
            if rules.window_days == 0 {
                return Err(bad("/window_days", "a window has at least one day"));
            }
            Ok((Checked::Labels(rules.clone()), write(&rules)))
        }
        "signals" => {
            let document: Signals = read(body)?;
            let mut budget = Phrases::new(phrases_max);
            for (i, rule) in document.signals.iter().enumerate() {
                budget.take(&format!("/signals/{i}/id"), &rule.id)?;
            }
            Ok((Checked::Signals(document.signals.clone()), write(&document)))
        }
        "routing" => {
            let document: Routing = read(body)?;
            let mut budget = Phrases::new(phrases_max);
            for (i, route) in document.routing.iter().enumerate() {
                budget.take(&format!("/routing/{i}/label"), &route.label)?;
                budget.take(&format!("/routing/{i}/team"), &route.team)?;
            }
            Ok((Checked::Routing(document.routing.clone()), write(&document)))
        }
        "alerts" => {
            let rules: AlertRules = read(body)?;
            rules.check().map_err(|(pointer, detail)| bad(pointer, detail))?;
            if jiff::tz::TimeZone::get(&rules.digest.tz).is_err() {
                return Err(bad("/digest/tz", "give an IANA time zone such as Europe/Paris or UTC"));
            }
            let names = rules.competitor_mentioned.names.iter().chain(&rules.watch_hit.names);
            let mut budget = Phrases::new(phrases_max);
            for name in names.chain(&rules.label_raised.labels) {
                budget.take("", name)?;
            }
            Ok((Checked::Alerts(rules.clone()), write(&rules)))
        }
        "assumptions" => {
            let document: Assumptions = read(body)?;
            let mut budget = Phrases::new(phrases_max);
            for (i, assumption) in document.assumptions.iter().enumerate() {
                budget.take(&format!("/assumptions/{i}/id"), &assumption.id)?;
                budget.take(&format!("/assumptions/{i}/statement"), &assumption.statement)?;
                if matches!(assumption.than, Than::Share(share) if !(0.0..=1.0).contains(&share)) {
                    let pointer = format!("/assumptions/{i}/than");
                    return Err(bad(&pointer, "a share lies between 0 and 1; or give \"rest\""));
                }
            }
            Ok((Checked::Assumptions(document.assumptions.clone()), write(&document)))
        }
        SWITCHED => Ok((Checked::Switched, body.to_owned())),
        other => Err(PipelineError::UnknownSetting(other.into())),
    }
}

/// The body that stands while nobody has put one.
fn default_body(name: &str) -> String {
    match name {
        "competitors" => write(&Competitors::default()),
        "modules" => write(&Modules::default()),
        "channels" => write(&Channels::default()),
        "watchlists" => write(&Watchlists::default()),
        "labels" => write(&LabelRules::default()),
        "signals" => write(&Signals { signals: standard_signals() }),
        "alerts" => write(&AlertRules::default()),
        "assumptions" => write(&Assumptions::default()),
        _ => write(&Routing::default()),
    }
}

fn bad(pointer: &str, detail: impl Into<String>) -> PipelineError {
    PipelineError::Setting { pointer: pointer.into(), detail: detail.into() }
}

/// Counts phrases against the limit and checks each.
struct Phrases {
    left: usize,
    phrases_max: usize,
}

impl Phrases {
    fn new(phrases_max: usize) -> Self {
        Self { left: phrases_max, phrases_max }
    }

    fn take(&mut self, pointer: &str, phrase: &str) -> Result<(), PipelineError> {
        if phrase.trim().is_empty() {
            return Err(bad(pointer, "a name or phrase must not be empty"));
        }
        if phrase.chars().count() > PHRASE_CHARS_MAX {
            return Err(bad(pointer, format!("a name or phrase has at most {PHRASE_CHARS_MAX} characters")));
        }
        let phrases_max = self.phrases_max;
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            bad(pointer, format!("there is room for {phrases_max} names and phrases (settings_phrases_max)"))
        })?;
        Ok(())
    }
}

/// Every name stands once and is not empty.
fn once<'a>(list: &str, names: impl Iterator<Item = &'a str>) -> Result<(), PipelineError> {
    let mut seen = HashMap::new();
    for (i, name) in names.enumerate() {
        let pointer = format!("{list}/{i}/name");
        if name.trim().is_empty() {
            return Err(bad(&pointer, "a name must not be empty"));
        }
        if let Some(first) = seen.insert(name.trim().to_lowercase(), i) {
            return Err(bad(&pointer, format!("{name:?} stands twice, first as number {first}")));
        }
    }
    Ok(())
}

fn read<T: DeserializeOwned>(body: &str) -> Result<T, PipelineError> {
    let mut json = serde_json::Deserializer::from_str(body);
    let value = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| bad(&json_pointer(error.path()), error.inner().to_string()))?;
    json.end().map_err(|error| bad("", error.to_string()))?;
    Ok(value)
}

fn write(document: &impl Serialize) -> String {
    // Cannot fail: string keys only.
    serde_json::to_string(document).unwrap_or_default()
}

/// All settings of a tenant.
pub struct TenantSettings {
    /// What the documents are made with.
    pub fold: Settings,
    /// The phrases of `fold`, which all histories share.
    pub lexicon: Arc<Lexicon>,
    /// What the company believes; documents do not depend on it.
    pub assumptions: Vec<Assumption>,
    /// Sum of the versions of all that documents are made with: grows with every change.
    pub generation: u64,
    bodies: BTreeMap<String, Setting>,
}

impl Default for TenantSettings {
    fn default() -> Self {
        let fold = Settings::default();
        let lexicon = Arc::new(Lexicon::new(&fold));
        Self { lexicon, fold, assumptions: vec![], generation: 0, bodies: BTreeMap::new() }
    }
}

impl TenantSettings {
    /// The document called `name`; version 0 while nobody has put one.
    pub fn document(&self, name: &str) -> Result<Setting, PipelineError> {
        if !SETTINGS.contains(&name) {
            return Err(PipelineError::UnknownSetting(name.into()));
        }
        let stored = self.bodies.get(name).cloned();
        Ok(stored.unwrap_or_else(|| Setting { version: 0, body: default_body(name) }))
    }

    /// These with another document of that name.
    pub fn with(&self, name: &str, setting: Setting, checked: Checked) -> Self {
        let mut fold = self.fold.clone();
        let mut assumptions = self.assumptions.clone();
        match checked {
            Checked::Competitors(competitors) => fold.competitors = competitors,
            Checked::Modules(modules) => fold.modules = modules,
            Checked::Channels(channels) => fold.channels = channels,
            Checked::Watchlists(watchlists) => fold.watchlists = watchlists,
            Checked::Labels(rules) => {
                fold.labels = rules;
                fold.labels_version = setting.version;
            }
            Checked::Signals(rules) => fold.signals = rules,
            Checked::Routing(routes) => fold.routing = routes,
            Checked::Alerts(rules) => fold.alerts = rules,
            Checked::Assumptions(stated) => assumptions = stated,
            Checked::Switched => {}
        }
        let mut bodies = self.bodies.clone();
        bodies.insert(name.into(), setting);
        // What raises an alert and what is assumed change no document.
        let made_with = bodies.iter().filter(|(name, _)| !["alerts", "assumptions"].contains(&name.as_str()));
        let generation = made_with.map(|(_, s)| s.version).sum();
        let same_words = fold.competitors == self.fold.competitors && fold.watchlists == self.fold.watchlists;
        let lexicon = if same_words { self.lexicon.clone() } else { Arc::new(Lexicon::new(&fold)) };
        Self { lexicon, fold, assumptions, generation, bodies }
    }
}

/// The settings of all tenants.
pub struct SettingsTable {
    tenants: RwLock<HashMap<Tenant, Arc<TenantSettings>>>,
    /// For tenants that have put nothing.
    standard: Arc<TenantSettings>,
    /// Held by a put, so that two come to memory in the order in which they came to the store.
    putting: Mutex<()>,
}

impl SettingsTable {
    pub fn load(store: &dyn Store) -> Result<Self, StoreError> {
        let mut tenants: HashMap<Tenant, Arc<TenantSettings>> = HashMap::new();
        for (tenant, name, setting) in store.settings()? {
            // The limit was kept when it was put; a lower one today must not lose it.
            match check(&name, &setting.body, usize::MAX) {
                Ok((checked, _)) => {
                    let all = tenants.entry(tenant).or_default();
                    *all = Arc::new(all.with(&name, setting, checked));
                }
                Err(error) => {
                    tracing::error!(name, %error, "a stored setting cannot be read; its default stands in");
                }
            }
        }
        Ok(Self { tenants: RwLock::new(tenants), standard: Arc::default(), putting: Mutex::default() })
    }

    pub fn of(&self, tenant: &Tenant) -> Arc<TenantSettings> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.get(tenant).unwrap_or(&self.standard).clone()
    }

    /// Takes documents over that are stored already.
    pub fn adopt(&self, tenant: &Tenant, settings: Vec<(String, Setting)>) {
        let _putting = self.putting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let all = tenants.entry(tenant.clone()).or_default();
        for (name, setting) in settings {
            match check(&name, &setting.body, usize::MAX) {
                Ok((checked, _)) => *all = Arc::new(all.with(&name, setting, checked)),
                Err(error) => tracing::error!(name, %error, "a stored setting cannot be read"),
            }
        }
    }

    /// Stores a checked document as the next version and takes it over.
    pub fn put(
        &self,
        store: &dyn Store,
        tenant: &Tenant,
        name: &str,
        checked: Checked,
        body: &str,
    ) -> Result<Setting, StoreError> {
        let _putting = self.putting.lock().unwrap_or_else(PoisonError::into_inner);
        let setting = store.put_setting(tenant, name, body)?;
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let all = tenants.entry(tenant.clone()).or_default();
        *all = Arc::new(all.with(name, setting.clone(), checked));
        Ok(setting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, body: &str) -> (String, String) {
        match check(name, body, 3) {
            Err(PipelineError::Setting { pointer, detail }) => (pointer, detail),
            Err(other) => panic!("{other}"),
            Ok((_, body)) => panic!("taken: {body}"),
        }
    }

    #[test]
    fn refusals_say_where_and_why() {
        let (pointer, detail) = refusal("competitors", r#"{"competitors":[{"name":"A","aliasses":[]}]}"#);
        assert_eq!(pointer, "/competitors/0/aliasses");
        assert!(detail.contains("unknown field"), "{detail}");
        let (pointer, _) = refusal("competitors", r#"{"competitors":[{"name":"A","aliases":["b"," "]}]}"#);
        assert_eq!(pointer, "/competitors/0/aliases/1");
        let (pointer, detail) =
            refusal("competitors", r#"{"competitors":[{"name":"A","aliases":["b","c","d"]}]}"#);
        assert_eq!(pointer, "/competitors/0/aliases/2");
        assert!(detail.contains("settings_phrases_max"), "{detail}");
        let (pointer, _) = refusal("competitors", r#"{"competitors":[{"name":"A"},{"name":"a"}]}"#);
        assert_eq!(pointer, "/competitors/1/name");
        let (pointer, _) = refusal("modules", r#"{"modules":[{"name":"lead","enabled":"no"}]}"#);
        assert_eq!(pointer, "/modules/0/enabled");
        let (pointer, _) = refusal("labels", r#"{"negative_share_min": 1.5}"#);
        assert_eq!(pointer, "/negative_share_min");
        let (pointer, detail) = refusal("signals", r#"{"signals":[{"id":"s","any":[{"on":"telepathy"}]}]}"#);
        assert_eq!(pointer, "/signals/0/any/0/on");
        assert!(detail.contains("telepathy"), "{detail}");
        let (_, detail) = refusal("routing", r#"{"routing":[]} {}"#);
        assert!(detail.contains("trailing"), "{detail}");
        assert!(matches!(check("colours", "{}", 3), Err(PipelineError::UnknownSetting(_))));
    }

    #[test]
    fn every_default_can_be_put() {
        for name in SETTINGS {
            let body = TenantSettings::default().document(name).unwrap().body;
            assert_eq!(check(name, &body, 20).unwrap().1, body, "{name}");
        }
    }
}
