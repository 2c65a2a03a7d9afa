//! A value between -1 and 1 as a bar to the left or right of the middle: net sentiment, stance.

use maud::{Markup, html};

/// Below this distance from zero a balance is drawn as even.
const EVEN: f64 = 0.05;

/// Left and orange below zero, right and blue above it.
pub fn balance(title: &str, value: f64) -> Markup {
    let value = value.clamp(-1.0, 1.0);
    let length = (value.abs() * 50.0).max(0.8);
    let x = if value < 0.0 { 50.0 - length } else { 50.0 };
    let class = leaning(value);
    html! {
        svg .balance viewBox="0 0 100 10" preserveAspectRatio="none" role="img"
            aria-label={ (title) ": " (format!("{value:.2}")) " on a scale from -1 to 1" } {
            rect .track x="0" y="0" width="100" height="10" {}
            rect class=(class) x=(format!("{x:.2}")) y="0" width=(format!("{length:.2}")) height="10" {}
            rect .middle x="49.7" y="0" width="0.6" height="10" {}
        }
    }
}

/// The class of a balance: negative, neutral or positive.
pub fn leaning(value: f64) -> &'static str {
    if value > EVEN {
        "positive"
    } else if value < -EVEN {
        "negative"
    } else {
        "neutral"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leans_to_the_side_of_its_sign() {
        let down = balance("Net", -0.5).into_string();
        assert!(down.contains("class=\"negative\" x=\"25.00\" y=\"0\" width=\"25.00\""), "{down}");
        let up = balance("Net", 1.0).into_string();
        assert!(up.contains("class=\"positive\" x=\"50.00\" y=\"0\" width=\"50.00\""), "{up}");
        assert!(balance("Net", 0.01).into_string().contains("class=\"neutral\""));
    }
}
