//! How single values are written on pages: moments, counts, shares, intervals, moods. No clock: times are absolute.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use maud::{Markup, html};

use crate::scores::{Intent, Label, Sentiment};

use super::charts::balance::leaning;

/// `2 Mar 2026, 09:14` in UTC, with the exact time for machines. Day and month stay on one line.
pub fn moment(time: Timestamp) -> Markup {
    html! { time datetime=(time) { (time.to_zoned(TimeZone::UTC).strftime("%-d\u{a0}%b %Y, %H:%M")) } }
}

/// `2 Mar 2026` in UTC.
pub fn day(time: Timestamp) -> Markup {
    let date = time.to_zoned(TimeZone::UTC).date();
    html! { time datetime=(time) { (date.strftime("%-d\u{a0}%b %Y")) } }
}

pub fn date(date: Date) -> Markup {
    html! { time datetime=(date) { (date.strftime("%-d\u{a0}%b %Y")) } }
}

/// `2026-02` as `Feb 26`; anything else as it is.
pub fn month(bucket: &str) -> String {
    match format!("{bucket}-01").parse::<Date>() {
        Ok(first) => first.strftime("%b %y").to_string(),
        Err(_) => bucket.into(),
    }
}

/// `1 message`, `3 messages`: a count and what it counts, the plural by an added s.
pub fn counted(count: u64, singular: &str) -> String {
    if count == 1 { format!("1 {singular}") } else { format!("{count} {singular}s") }
}

/// `28.6 %`.
pub fn percent(value: f64) -> String {
    format!("{value:.1} %")
}

/// `−0.31`, `+0.42`, `0.00`, with a real minus sign.
pub fn signed(value: f64) -> String {
    match format!("{value:+.2}").as_str() {
        "+0.00" | "-0.00" => "0.00".into(),
        text => text.replace('-', "−"),
    }
}

/// `75 ms`, `10.0 s`.
pub fn pause(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { format!("{:.1} s", ms as f64 / 1000.0) }
}

/// Money without a currency, which events do not carry: `48,600`.
pub fn amount(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if value < 0.0 { format!("−{grouped}") } else { grouped }
}

/// `95 % between 17.2 and 43.6`, in small print.
pub fn interval(ci95: Option<[f64; 2]>) -> Markup {
    html! {
        @if let Some([low, high]) = ci95 {
            span .small { "95 % between " (format!("{low:.1}").replace('-', "−")) " and "
                (format!("{high:.1}").replace('-', "−")) }
        }
    }
}

/// An id of the document in words: `negative_customer` as `negative customer`.
pub fn words(id: &str) -> String {
    id.replace('_', " ")
}

/// Words with a capital first letter, as headings have it.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// A sentiment as a sign and a word, so that nobody has to tell colours apart.
pub fn tone(sentiment: Sentiment) -> Markup {
    html! { span class={ "tone " (sentiment.name()) } { span aria-hidden="true" { (sign(sentiment.name())) } " " (sentiment.name()) } }
}

/// The sign of a sentiment's class.
pub fn sign(class: &str) -> &'static str {
    match class {
        "positive" => "▲",
        "negative" => "▼",
        _ => "●",
    }
}

pub fn intent(intent: Intent) -> Markup {
    html! { span class={ "intent " (intent.name()) } { (intent.name()) } }
}

/// A balance between -1 and 1 as a sign and a number.
pub fn net(value: f64) -> Markup {
    let class = leaning(value);
    html! { span class={ "tone " (class) } { span aria-hidden="true" { (sign(class)) } " " (signed(value)) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_numbers_as_people_read_them() {
        assert_eq!(signed(-0.314), "−0.31");
        assert_eq!(signed(0.5), "+0.50");
        assert_eq!(signed(-0.001), "0.00");
        assert_eq!(amount(48600.0), "48,600");
        assert_eq!(amount(-1234567.4), "−1,234,567");
        assert_eq!(amount(12.0), "12");
        assert_eq!(pause(75), "75 ms");
        assert_eq!(pause(10_043), "10.0 s");
        assert_eq!(counted(1, "message"), "1 message");
        assert_eq!(counted(0, "message"), "0 messages");
    }

    #[test]
    fn writes_times_in_utc_with_the_exact_moment_beside() {
        let time: Timestamp = "2026-03-02T09:14:07Z".parse().unwrap();
        let markup = moment(time).into_string();
        assert!(
            markup.contains("2\u{a0}Mar 2026, 09:14") && markup.contains("datetime=\"2026-03-02T09:14:07Z\"")
        );
        assert_eq!(month("2026-02"), "Feb 26");
        assert_eq!(month("someday"), "someday");
    }

    #[test]
    fn capital_letters_exist_beyond_ascii() {
        assert_eq!(capital("état"), "État");
        assert_eq!(capital(""), "");
    }
}
