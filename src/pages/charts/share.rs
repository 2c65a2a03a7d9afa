//! A horizontal bar that is always full: shares of a whole, side by side.

use maud::{Markup, html};

use super::{Part, in_words, share_pct, total};

/// Width of the gap between two parts, in percent of the bar.
const GAP_PCT: f64 = 0.35;

/// The parts from left to right. The bar takes the width and height that the style sheet gives it.
pub fn share_bar(title: &str, parts: &[Part]) -> Markup {
    let whole = total(parts);
    let mut x = 0.0;
    html! {
        svg .share viewBox="0 0 100 10" preserveAspectRatio="none" role="img"
            aria-label={ (title) ": " (in_words(parts)) } {
            rect .track x="0" y="0" width="100" height="10" {}
            @for part in parts.iter().filter(|p| p.count > 0) {
                @let pct = share_pct(part.count, whole);
                @let gap = if x + pct < 99.9 { GAP_PCT } else { 0.0 };
                rect class=(part.class) x=(format!("{x:.3}")) y="0" width=(format!("{:.3}", (pct - gap).max(GAP_PCT)))
                    height="10" {
                    title { (part.count) " " (part.name) }
                }
                ({ x += pct; "" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::intent_parts;
    use super::*;

    #[test]
    fn parts_stand_side_by_side_and_leave_out_what_is_zero() {
        let svg = share_bar("Chat", &intent_parts(1, 0, 3, 0)).into_string();
        assert_eq!(svg.matches("<rect").count(), 3, "the track and two parts");
        assert!(svg.contains("x=\"25.000\" y=\"0\" width=\"75.000\""), "{svg}");
        assert!(svg.contains("aria-label=\"Chat: 1 complaint (25.0 %)"));
    }
}
