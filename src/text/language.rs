//! The language of a text, as an ISO 639-1 code.
//!
//! The script decides where it can (Han, kana, Hangul, Thai, ...). Latin texts, which share theirs, are told apart by
//! the small words of languages that detectors confuse, then by two independent detectors of letter sequences: where
//! they disagree, the one that was right more often on short customer messages wins. `cargo run --example
//! language_accuracy -- FILE...` measures it.

use whatlang::{Detector, Lang};

/// Below this many letters a Latin text is too short to tell.
const LATIN_LETTERS_MIN: usize = 3;

/// The likeliest language, or `None` where there is nothing to go by.
pub fn detect(text: &str) -> Option<&'static str> {
    let counts = Scripts::count(text);
    counts.language().or_else(|| if counts.latin >= LATIN_LETTERS_MIN { latin(text) } else { None })
}

#[derive(Default)]
struct Scripts {
    latin: usize,
    han: usize,
    kana: usize,
    hangul: usize,
    thai: usize,
    devanagari: usize,
    arabic: usize,
    persian: usize,
    cyrillic: usize,
    ukrainian: usize,
    greek: usize,
    hebrew: usize,
}

impl Scripts {
    fn count(text: &str) -> Self {
        let mut n = Scripts::default();
        for c in text.chars() {
            match c {
                'پ' | 'چ' | 'ژ' | 'گ' | 'ک' | 'ی' => n.persian += 1,
                'і' | 'ї' | 'є' | 'ґ' | 'І' | 'Ї' | 'Є' | 'Ґ' => n.ukrainian += 1,
                '\u{0600}'..='\u{06FF}' | '\u{0750}'..='\u{077F}' => n.arabic += 1,
                '\u{0400}'..='\u{04FF}' => n.cyrillic += 1,
                '\u{3040}'..='\u{30FF}' => n.kana += 1,
                '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' => n.han += 1,
                '\u{1100}'..='\u{11FF}' | '\u{AC00}'..='\u{D7A3}' => n.hangul += 1,
                '\u{0E00}'..='\u{0E7F}' => n.thai += 1,
                '\u{0900}'..='\u{097F}' => n.devanagari += 1,
                '\u{0370}'..='\u{03FF}' => n.greek += 1,
                '\u{0590}'..='\u{05FF}' => n.hebrew += 1,
                c if c.is_alphabetic() => n.latin += 1,
                _ => {}
            }
        }
        n
    }

    /// The language where a script other than Latin carries the text. A character of a script without spaces says as
    /// much as several letters, so product names in Latin do not outvote it.
    fn language(&self) -> Option<&'static str> {
        let arabic = self.arabic + self.persian;
        let cyrillic = self.cyrillic + self.ukrainian;
        let east = self.han + self.kana;
        let weighted = [
            (east * 3, if self.kana * 10 >= east { "ja" } else { "zh" }),
            (self.hangul * 3, "ko"),
            (self.thai * 2, "th"),
            (self.devanagari * 2, "hi"),
            (arabic * 2, if self.persian * 20 > arabic { "fa" } else { "ar" }),
            (cyrillic * 2, if self.ukrainian * 40 > cyrillic { "uk" } else { "ru" }),
            (self.greek * 2, "el"),
            (self.hebrew * 2, "he"),
        ];
        let (weight, language) = weighted.into_iter().max_by_key(|(weight, _)| *weight)?;
        (weight > self.latin).then_some(language)
    }
}

/// Latin languages that are told apart.
const LATIN: &[(Lang, &str)] = &[
    (Lang::Eng, "en"),
    (Lang::Spa, "es"),
    (Lang::Fra, "fr"),
    (Lang::Deu, "de"),
    (Lang::Ita, "it"),
    (Lang::Por, "pt"),
    (Lang::Nld, "nl"),
    (Lang::Pol, "pl"),
    (Lang::Tur, "tr"),
    (Lang::Ind, "id"),
    (Lang::Vie, "vi"),
    (Lang::Swe, "sv"),
    (Lang::Ces, "cs"),
];

fn latin(text: &str) -> Option<&'static str> {
    if let Some(language) = by_small_words(text) {
        return Some(language);
    }
    let allowed = LATIN.iter().map(|(lang, _)| *lang).collect();
    let by_trigrams = Detector::with_allowlist(allowed).detect(text)?;
    let trigrams = LATIN.iter().find(|(lang, _)| *lang == by_trigrams.lang()).map(|(_, code)| *code);
    use whichlang::Lang as W;
    let by_hashes = match whichlang::detect_language(text) {
        W::Eng => Some("en"),
        W::Spa => Some("es"),
        W::Fra => Some("fr"),
        W::Deu => Some("de"),
        W::Ita => Some("it"),
        W::Por => Some("pt"),
        W::Nld => Some("nl"),
        W::Tur => Some("tr"),
        W::Vie => Some("vi"),
        W::Swe => Some("sv"),
        _ => None,
    };
    // Polish, Indonesian and Czech are unknown to the second detector.
    match (trigrams, by_hashes) {
        (Some("pl" | "id" | "cs"), _) if by_trigrams.is_reliable() || by_hashes.is_none() => trigrams,
        (_, Some(language)) => Some(language),
        (language, None) => language,
    }
}

/// Frequent words, as customers write them, of languages that letter sequences of a short text confuse with others.
/// Words that another of our languages has too are left out. Hindi stands here in its Latin spelling.
const SMALL_WORDS: &[(&str, &[&str])] = &[
    (
        "pl",
        &[
            "nie",
            "się",
            "sie",
            "jest",
            "że",
            "czy",
            "już",
            "dla",
            "przez",
            "tylko",
            "proszę",
            "dziękuję",
            "mam",
            "ale",
            "jak",
            "od",
            "po",
            "bardzo",
            "wszystko",
            "dzień",
            "dobry",
            "mi",
            "za",
            "było",
            "był",
            "są",
            "jestem",
            "tak",
            "też",
            "niż",
            "gdzie",
            "kiedy",
            "poproszę",
            "chcę",
            "więc",
            "może",
            "można",
            "państwa",
            "ok",
            "dziś",
        ],
    ),
    (
        "id",
        &[
            "yang",
            "yg",
            "tidak",
            "saya",
            "ini",
            "itu",
            "dan",
            "untuk",
            "dengan",
            "sudah",
            "bisa",
            "ada",
            "tapi",
            "mau",
            "gak",
            "ga",
            "nggak",
            "banget",
            "aja",
            "kok",
            "tolong",
            "terima",
            "kasih",
            "belum",
            "dari",
            "lagi",
            "juga",
            "udah",
            "kalau",
            "kalo",
            "kami",
            "mohon",
            "bagaimana",
            "apa",
            "kenapa",
            "min",
            "kak",
            "sama",
            "buat",
            "pesan",
            "cuma",
            "masih",
            "pas",
            "dong",
            "nih",
            "sih",
            "makasih",
            "bukan",
            "kapan",
            "berapa",
            "jadi",
            "tinggal",
            "beli",
        ],
    ),
    (
        "hi",
        &[
            "hai", "nahi", "nahin", "kya", "mera", "mere", "meri", "aap", "aapka", "aapki", "mujhe", "bhi",
            "toh", "kar", "karo", "raha", "rahi", "rahe", "bhai", "chahiye", "hain", "mein", "kab", "yaar",
            "bahut", "accha", "wala", "gaya", "gayi", "kyun", "abhi", "hua", "diya", "liya", "koi", "aur",
            "ko", "ka", "hoon", "sab", "kaam",
        ],
    ),
];

/// Share of the words that must be small words of a language to decide for it.
const SMALL_WORDS_SHARE_MIN: f64 = 0.2;

fn by_small_words(text: &str) -> Option<&'static str> {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphabetic()).filter(|w| !w.is_empty()).collect();
    let (hits, language) = SMALL_WORDS
        .iter()
        .map(|(language, small)| (words.iter().filter(|w| small.contains(w)).count(), *language))
        .max_by_key(|(hits, _)| *hits)?;
    let polish_letters = lower.chars().filter(|c| "łżźśńąęć".contains(*c)).count();
    if polish_letters >= 2 && !lower.contains(['ş', 'ğ', 'ı', 'ř', 'ě']) {
        return Some("pl");
    }
    let least = if words.len() >= 4 { 2 } else { 1 };
    (hits >= least && hits as f64 >= SMALL_WORDS_SHARE_MIN * words.len() as f64).then_some(language)
}

#[cfg(test)]
mod tests {
    use super::detect;

    #[test]
    fn scripts_decide() {
        assert_eq!(detect("这周第三次断网了，iPhone也连不上"), Some("zh"));
        assert_eq!(detect("通信障害が今週3回目です"), Some("ja"));
        assert_eq!(detect("인터넷이 또 끊겼어요"), Some("ko"));
        assert_eq!(detect("شكرا على الخدمة الرائعة"), Some("ar"));
        assert_eq!(detect("Опять нет интернета"), Some("ru"));
        assert_eq!(detect("อินเทอร์เน็ตหลุดอีกแล้ว"), Some("th"));
        assert_eq!(detect("इंटरनेट फिर बंद है"), Some("hi"));
    }

    #[test]
    fn latin_languages_are_told_apart() {
        assert_eq!(detect("C'est la troisième panne cette semaine, je veux un remboursement"), Some("fr"));
        assert_eq!(detect("Das ist schon der dritte Ausfall in dieser Woche"), Some("de"));
        assert_eq!(detect("Third outage this week and nobody answers the phone"), Some("en"));
        assert_eq!(detect("To już trzecia awaria w tym tygodniu"), Some("pl"));
        assert_eq!(detect("Ini sudah ketiga kalinya internet mati minggu ini"), Some("id"));
    }

    #[test]
    fn nothing_to_go_by() {
        assert_eq!(detect("12345 !!"), None);
        assert_eq!(detect("😭"), None);
    }
}
