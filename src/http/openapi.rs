//! `openapi.json`: made from the handlers, committed, compared in a test; `/docs` shows it.

use axum::Router;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};
use utoipa_swagger_ui::SwaggerUi;

use super::AppState;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "hearken",
        description = "Scores customer messages with multilingual transformers and keeps a ready-made insight document \
                       for every CRM record.\n\nErrors are `application/problem+json` (RFC 9457); `/docs/problems` \
                       explains each `type`. Character offsets count Unicode scalar values. Times are RFC 3339, UTC."
    ),
    paths(
        super::score::score,
        super::zero_shot::zero_shot,
        super::events::events,
        super::records::records,
        super::records::insights,
        super::stream::insights_stream,
        super::interactions::interactions,
        super::interactions::evidence,
        super::interactions::keywords,
        super::records::export,
        super::records::erase,
        super::segments::segments,
        super::segments::patterns,
        super::replays::start,
        super::replays::replays,
        super::replays::replay,
        super::replays::diff,
        super::replays::switch,
        super::replays::cancel,
        super::settings::setting,
        super::settings::put_setting,
        super::actions::actions,
        super::actions::action,
        super::actions::change_action,
        super::actions::alerts,
        super::actions::digest,
        super::webhooks::create_webhook,
        super::webhooks::webhooks,
        super::webhooks::webhook,
        super::webhooks::change_webhook,
        super::webhooks::delete_webhook,
        super::webhooks::test_webhook,
        super::webhooks::rotate_secret,
        super::webhooks::deliveries,
        super::webhooks::resend,
        super::models::models,
        super::models::model,
        super::models::put_model,
        super::models::remove_model,
        super::models::swap,
        super::compat::tei::predict,
        super::compat::hugging_face::infer,
        super::compat::vllm::classify,
        super::compat::oip::server,
        super::compat::oip::live,
        super::compat::oip::ready,
        super::compat::oip::metadata,
        super::compat::oip::model_ready,
        super::compat::oip::infer,
        super::compat::oip::index,
        super::compat::oip::load,
        super::compat::oip::unload,
        super::info::info,
        super::health::health,
        super::health::live,
        super::health::ready,
        super::metrics::metrics,
    ),
    components(schemas(super::score::ScoreInput)),
    modifiers(&Keys),
    tags(
        (name = "scoring", description = "Texts to labels"),
        (name = "events", description = "What happens to records"),
        (name = "records", description = "Insight documents and what is behind them"),
        (name = "segments", description = "Many records at once"),
        (name = "replays", description = "History under other models and rules"),
        (name = "actions", description = "What is to be done about records: suggestions, cases, alerts, digests"),
        (name = "webhooks", description = "Where alerts are sent"),
        (name = "settings", description = "Configuration as data"),
        (name = "models", description = "What answers"),
        (name = "compatibility", description = "The shapes of other servers"),
        (name = "operations", description = "Health and metrics"),
    )
)]
struct Api;

struct Keys;

/// Routes that are open without a key.
pub const OPEN: &[&str] =
    &["/health", "/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready"];

impl Modify for Keys {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        for (path, item) in &mut api.paths.paths {
            if OPEN.contains(&path.as_str()) {
                continue;
            }
            let operations =
                [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                operation.security = Some(vec![SecurityRequirement::new("key", Vec::<String>::new())]);
            }
        }
    }
}

/// The schema of the API.
pub fn document() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

/// The schema as it is committed: indented JSON with a line end.
pub fn text() -> String {
    // Cannot fail: strings, numbers and maps with string keys only.
    let mut text = document().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// `/openapi.json`, and `/docs` to browse it.
pub fn routes() -> Router<AppState> {
    SwaggerUi::new("/docs").url("/openapi.json", document()).into()
}
