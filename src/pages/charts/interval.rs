//! A measured value with its interval of confidence on a scale.

use maud::{Markup, html};

/// `value` and `interval` between the ends of `scale`, all in the same unit.
pub fn interval(title: &str, value: Option<f64>, interval: [f64; 2], scale: [f64; 2]) -> Markup {
    let place = |v: f64| ((v - scale[0]) * 100.0 / (scale[1] - scale[0])).clamp(0.0, 100.0);
    let (low, high) = (place(interval[0]), place(interval[1]));
    html! {
        svg .interval viewBox="0 0 100 10" preserveAspectRatio="none" role="img"
            aria-label={ (title) ", between " (format!("{:.1}", interval[0])) " and " (format!("{:.1}", interval[1])) } {
            rect .track x="0" y="4" width="100" height="2" {}
            rect .band x=(format!("{low:.2}")) y="2" width=(format!("{:.2}", (high - low).max(0.5))) height="6" {}
            @if let Some(value) = value {
                rect .value x=(format!("{:.2}", (place(value) - 0.6).clamp(0.0, 98.8))) y="0" width="1.2" height="10" {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_and_band_lie_on_the_scale() {
        let svg = interval("NPS", Some(0.0), [-50.0, 50.0], [-100.0, 100.0]).into_string();
        assert!(svg.contains("x=\"25.00\" y=\"2\" width=\"50.00\""), "{svg}");
        assert!(svg.contains("x=\"49.40\" y=\"0\""), "{svg}");
    }

    #[test]
    fn what_lies_outside_the_scale_is_drawn_at_its_end() {
        let svg = interval("NPS", None, [-120.0, 130.0], [-100.0, 100.0]).into_string();
        assert!(svg.contains("x=\"0.00\" y=\"2\" width=\"100.00\""), "{svg}");
    }
}
