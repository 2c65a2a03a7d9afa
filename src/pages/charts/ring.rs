//! A ring: shares of a whole, with the total in the middle.

use maud::{Markup, html};

use super::{Part, in_words, share_pct, total};

/// Radius at which the circumference is 100, so that a dash length is a percentage.
const RADIUS: &str = "15.9155";
/// Width of the gap between two parts, in percent of the circumference.
const GAP_PCT: f64 = 0.8;

/// `id` must be unique on the page.
pub fn ring(id: &str, title: &str, unit: &str, parts: &[Part]) -> Markup {
    let whole = total(parts);
    let shown: Vec<&Part> = parts.iter().filter(|p| p.count > 0).collect();
    let gap = if shown.len() > 1 { GAP_PCT } else { 0.0 };
    let mut start = 0.0;
    html! {
        svg .ring viewBox="0 0 42 42" role="img" aria-labelledby={ (id) "-title " (id) "-desc" } {
            title id={ (id) "-title" } { (title) }
            desc id={ (id) "-desc" } { (in_words(parts)) }
            circle .track cx="21" cy="21" r=(RADIUS) {}
            @for part in shown {
                @let pct = share_pct(part.count, whole);
                @let arc = (pct - gap).max(0.3);
                circle class={ "arc " (part.class) } cx="21" cy="21" r=(RADIUS)
                    stroke-dasharray=(format!("{arc:.3} {:.3}", 100.0 - arc))
                    stroke-dashoffset=(format!("{:.3}", 25.0 - start - gap / 2.0)) {
                    title { (part.count) " " (part.name) }
                }
                ({ start += pct; "" })
            }
            text .figure x="21" y="21.4" text-anchor="middle" { (whole) }
            text .unit x="21" y="26" text-anchor="middle" { (unit) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sentiment_parts;
    use super::*;

    fn arcs(svg: &str) -> Vec<f64> {
        svg.split("stroke-dasharray=\"")
            .skip(1)
            .map(|s| s.split(' ').next().unwrap().parse().unwrap())
            .collect()
    }

    #[test]
    fn arcs_are_as_long_as_their_shares_and_close_the_ring() {
        let svg = ring("r", "Sentiment", "messages", &sentiment_parts(1, 1, 2)).into_string();
        let arcs = arcs(&svg);
        assert_eq!(arcs.len(), 3);
        assert!((arcs[2] - arcs[0] - 25.0).abs() < 0.01, "{arcs:?}");
        let closed: f64 = arcs.iter().map(|a| a + GAP_PCT).sum();
        assert!((closed - 100.0).abs() < 0.01, "{arcs:?}");
        assert!(
            svg.contains("<desc id=\"r-desc\">1 positive (25.0 %), 1 neutral (25.0 %), 2 negative (50.0 %)")
        );
    }

    #[test]
    fn single_part_is_a_whole_ring_and_nothing_is_an_empty_one() {
        let whole = ring("r", "t", "u", &sentiment_parts(0, 0, 5)).into_string();
        assert_eq!(arcs(&whole), [100.0]);
        let empty = ring("r", "t", "u", &sentiment_parts(0, 0, 0)).into_string();
        assert!(arcs(&empty).is_empty() && empty.contains("nothing yet"));
    }
}
