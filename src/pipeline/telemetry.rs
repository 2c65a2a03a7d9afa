//! The names of the pipeline's metrics.

/// Events by `outcome`: `accepted`, `duplicate` and, counted where bodies are read, `rejected`.
pub const EVENTS: &str = "hearken_events_total";
/// Events that are in their documents.
pub const APPLIED: &str = "hearken_events_applied_total";
/// Events on disk and not yet in documents.
pub const BACKLOG: &str = "hearken_backlog_events";
/// From the receipt of an event to its place in the documents, in seconds.
pub const LAG: &str = "hearken_apply_lag_seconds";
/// Documents whose content has changed.
pub const DOCUMENTS: &str = "hearken_documents_written_total";
/// Records that were read from the log and folded anew.
pub const REFOLDS: &str = "hearken_refolds_total";
/// Texts that could not be scored for a reason of their own.
pub const UNSCORED: &str = "hearken_texts_unscored_total";
/// Times the pipeline had to wait and try again, for its models or its store.
pub const RETRIES: &str = "hearken_pipeline_retries_total";
/// Alerts raised, by `rule`.
pub const ALERTS: &str = "hearken_alerts_total";
/// Attempts to deliver one, by `outcome`: `delivered`, `retried`, `dead`, `gone`.
pub const DELIVERIES: &str = "hearken_webhook_deliveries_total";
/// Deliveries that wait.
pub const OUTBOX: &str = "hearken_outbox_pending";
/// Age of the oldest alert that waits, in seconds.
pub const OUTBOX_AGE: &str = "hearken_outbox_oldest_seconds";

/// Describes every metric and registers it at zero.
pub fn describe() {
    metrics::describe_counter!(EVENTS, "Events by outcome");
    metrics::describe_counter!(APPLIED, "Events that are in their documents");
    metrics::describe_gauge!(BACKLOG, "Events on disk and not yet in documents");
    metrics::describe_histogram!(LAG, metrics::Unit::Seconds, "From receipt to document");
    metrics::describe_counter!(DOCUMENTS, "Documents whose content has changed");
    metrics::describe_counter!(REFOLDS, "Records folded anew from the log");
    metrics::describe_counter!(UNSCORED, "Texts that could not be scored");
    metrics::describe_counter!(RETRIES, "Waits for the models or the store");
    for outcome in ["accepted", "duplicate", "rejected"] {
        metrics::counter!(EVENTS, "outcome" => outcome).increment(0);
    }
    for name in [APPLIED, DOCUMENTS, REFOLDS, UNSCORED, RETRIES] {
        metrics::counter!(name).increment(0);
    }
    metrics::describe_counter!(ALERTS, "Alerts raised, by rule");
    metrics::describe_counter!(DELIVERIES, "Attempts to deliver an alert, by outcome");
    metrics::describe_gauge!(OUTBOX, "Deliveries that wait");
    metrics::describe_gauge!(OUTBOX_AGE, metrics::Unit::Seconds, "Age of the oldest alert that waits");
    for rule in crate::insight::alerts::Rule::ALL {
        metrics::counter!(ALERTS, "rule" => rule.name()).increment(0);
    }
    for outcome in ["delivered", "retried", "dead", "gone"] {
        metrics::counter!(DELIVERIES, "outcome" => outcome).increment(0);
    }
    for gauge in [BACKLOG, OUTBOX, OUTBOX_AGE] {
        metrics::gauge!(gauge).set(0.0);
    }
}
