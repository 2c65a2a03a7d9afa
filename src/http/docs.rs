//! `/docs/problems`: what each `type` of problem means and what to do about it.

use axum::{Router, response::Html, routing::get};
use maud::{DOCTYPE, html};

use super::{AppState, problem::KINDS};

pub fn routes() -> Router<AppState> {
    Router::new().route("/docs/problems", get(problems))
}

/// The kinds of problem, as a page that the `type` of each leads to.
async fn problems() -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "Problems - hearken" }
                style { "body{font:16px/1.5 system-ui;max-width:46rem;margin:2rem auto;padding:0 1rem}:target{background:#ff09}" }
            }
            body {
                h1 { "Problems" }
                p {
                    "Every answer that is not a success is " code { "application/problem+json" }
                    " (RFC 9457). Its " code { "type" } " leads to one of these."
                }
                @for kind in KINDS {
                    section id=(kind.name) {
                        h2 { (kind.title) }
                        p { code { (kind.name) } ", status " (kind.status) }
                        p { (kind.advice) }
                    }
                }
            }
        }
    };
    Html(page.into_string())
}
