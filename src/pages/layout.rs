//! The frame of every page: head, skip link, masthead, footer. No resources from elsewhere.

use maud::{DOCTYPE, Markup, html};

use super::assets;

/// A whole page. `stream` is the address of a record's event stream, where the page is of one.
pub fn page(title: &str, stream: Option<&str>, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · hearken" }
                link rel="stylesheet" href=(assets::STYLE.path());
                link rel="icon" href=(assets::ICON.path()) type="image/svg+xml";
                @if stream.is_some() {
                    script src=(assets::LIVE.path()) defer {}
                }
            }
            body data-stream=[stream] {
                a .skip href="#main" { "Skip to the content" }
                header .masthead {
                    a .brand href="/" { "hearken" }
                    nav aria-label="Main" {
                        a href="/" { "Records" }
                        a href="/docs" { "API" }
                    }
                }
                main #main tabindex="-1" { (body) }
                footer .foot {
                    p { "All times are UTC. Shares come with 95 % intervals; every count leads to the messages behind it." }
                }
            }
        }
    }
}
