//! What makes two keywords one: the key under which "Outages", "outage" and "ＯＵＴＡＧＥ" are counted together.

use rust_stemmers::{Algorithm, Stemmer};

/// Normalised, stemmed word by word where Snowball knows the language (ISO 639-1), without punctuation at the ends.
/// Empty where nothing but punctuation was given.
pub fn key(phrase: &str, language: Option<&str>) -> String {
    let normalized = super::normalize::normalize(phrase);
    let stemmer = language.and_then(algorithm).map(Stemmer::create);
    let mut key = String::with_capacity(normalized.len());
    for word in normalized.split_whitespace() {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric() && !is_mark(c));
        if word.is_empty() {
            continue;
        }
        if !key.is_empty() {
            key.push(' ');
        }
        match &stemmer {
            Some(stemmer) => key.push_str(&stemmer.stem(word)),
            None => key.push_str(word),
        }
    }
    key
}

/// Vowel signs of Indic and Thai words are no punctuation.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{0300}'..='\u{036F}' | '\u{0900}'..='\u{0DFF}' | '\u{0E30}'..='\u{0E4E}')
}

fn algorithm(language: &str) -> Option<Algorithm> {
    Some(match language {
        "ar" => Algorithm::Arabic,
        "da" => Algorithm::Danish,
        "de" => Algorithm::German,
        "el" => Algorithm::Greek,
        "en" => Algorithm::English,
        "es" => Algorithm::Spanish,
        "fi" => Algorithm::Finnish,
        "fr" => Algorithm::French,
        "hu" => Algorithm::Hungarian,
        "it" => Algorithm::Italian,
        "nl" => Algorithm::Dutch,
        "no" | "nb" => Algorithm::Norwegian,
        "pt" => Algorithm::Portuguese,
        "ro" => Algorithm::Romanian,
        "ru" => Algorithm::Russian,
        "sv" => Algorithm::Swedish,
        "ta" => Algorithm::Tamil,
        "tr" => Algorithm::Turkish,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn forms_of_one_keyword_share_a_key() {
        assert_eq!(key("Outages!", Some("en")), key("ｏｕｔａｇｅ", Some("en")));
        assert_eq!(key("Rechnungen", Some("de")), key("rechnung", Some("de")));
        assert_eq!(key("connection  quality", None), "connection quality");
        assert_ne!(key("router", Some("en")), key("route planner", Some("en")));
    }

    #[test]
    fn scripts_without_stems_are_kept_whole() {
        assert_eq!(key("「断网」", Some("zh")), "断网");
        assert_eq!(key("बिजली", Some("hi")), "बिजली");
        assert_eq!(key("...", Some("en")), "");
    }
}
