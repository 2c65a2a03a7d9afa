//! One spelling for what readers take as one: NFKC, lower case, no Arabic vowel signs, single spaces. Every byte of the
//! result knows where it came from.

use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// A normalised text and the way back to the text it was made from.
pub struct Normalized {
    pub text: String,
    /// For every byte of `text`, the byte offset in the original of the grapheme cluster that it came from; one more at
    /// the end, for the end.
    origins: Vec<u32>,
}

impl Normalized {
    /// Each grapheme cluster is normalised on its own, so that an origin is exact to the cluster.
    pub fn new(original: &str) -> Self {
        let mut made = Self {
            text: String::with_capacity(original.len()),
            origins: Vec::with_capacity(original.len() + 1),
        };
        let bytes = original.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let plain = at + (at..bytes.len()).take_while(|i| is_plain(bytes, *i)).count();
            made.plain(&bytes[at..plain], at);
            at = plain + (plain..bytes.len()).take_while(|i| !is_plain(bytes, *i)).count();
            made.clusters(&original[plain..at], plain);
        }
        made.origins.push(original.len() as u32);
        made
    }

    /// Characters that are clusters of their own, the first at byte `at`.
    fn plain(&mut self, ascii: &[u8], at: usize) {
        for (i, byte) in ascii.iter().enumerate() {
            match char::from(*byte) {
                c if !c.is_whitespace() => self.text.push(c.to_ascii_lowercase()),
                _ if self.text.ends_with(' ') => continue,
                _ => self.text.push(' '),
            }
            self.origins.push((at + i) as u32);
        }
    }

    /// Any text, which begins at byte `start`.
    fn clusters(&mut self, part: &str, start: usize) {
        for (at, cluster) in part.grapheme_indices(true) {
            if cluster.chars().all(char::is_whitespace) {
                if self.text.ends_with(' ') {
                    continue;
                }
                self.text.push(' ');
            } else if cluster.is_ascii() {
                self.text.extend(cluster.chars().map(|c| c.to_ascii_lowercase()));
            } else {
                self.text.extend(cluster.nfkc().filter(|c| !is_ignored(*c)).flat_map(fold));
            }
            self.origins.resize(self.text.len(), (start + at) as u32);
        }
    }

    /// Where in the original the normalised range `start..end` stands, to whole grapheme clusters.
    pub fn origin(&self, start: usize, end: usize) -> std::ops::Range<usize> {
        let last = self.origins.len() - 1;
        let from = self.origins[start.min(last)];
        let mut after = end.min(last);
        // The end is where the next cluster begins: skip what shares the last byte's cluster.
        while after < last && after > 0 && self.origins[after] == self.origins[after - 1] {
            after += 1;
        }
        from as usize..(self.origins[after] as usize).max(from as usize)
    }
}

/// The normalised form alone.
pub fn normalize(text: &str) -> String {
    Normalized::new(text).text
}

/// Whether a byte is an ASCII character that forms no cluster with its neighbours: they are ASCII too. (The one cluster
/// of two ASCII characters, a line end of CR and LF, is white space in either way.)
fn is_plain(bytes: &[u8], at: usize) -> bool {
    let is_ascii = |i: usize| bytes.get(i).is_none_or(u8::is_ascii);
    bytes[at].is_ascii() && is_ascii(at + 1) && (at == 0 || bytes[at - 1].is_ascii())
}

/// Arabic vowel signs and the tatweel, soft hyphens, joiners: written or left out at will.
fn is_ignored(c: char) -> bool {
    matches!(c, '\u{064B}'..='\u{0652}' | '\u{0640}' | '\u{00AD}' | '\u{200B}'..='\u{200F}' | '\u{FE0E}' | '\u{FE0F}')
}

/// Lower case; the dotted capital I of Turkish folds to a plain i.
fn fold(c: char) -> impl Iterator<Item = char> {
    c.to_lowercase().filter(|l| *l != '\u{0307}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_width_case_and_vowel_signs() {
        assert_eq!(normalize("ＡＩＲＯ　Networks"), "airo networks");
        assert_eq!(normalize("İSTANBUL"), "istanbul");
        assert_eq!(normalize("مُحَمَّد"), "محمد");
        assert_eq!(normalize("ｶﾞﾗｽ"), "ガラス");
        assert_eq!(normalize("a \n\t b"), "a b");
    }

    #[test]
    fn plain_characters_come_out_as_clusters_do() {
        for original in [
            "plain text,\r\n with\tlines\n\nand  blanks ",
            "e\u{301}a\u{301} x\u{301}y A\u{30A}",
            "\u{600}1 a\u{600}b2",
            "é a é b 断c断 😭d",
            "",
            "a",
            "\r\n",
        ] {
            let mut clusters = Normalized { text: String::new(), origins: vec![] };
            clusters.clusters(original, 0);
            clusters.origins.push(original.len() as u32);
            let made = Normalized::new(original);
            assert_eq!((made.text, made.origins), (clusters.text, clusters.origins), "{original:?}");
        }
    }

    #[test]
    fn leads_back_to_the_original() {
        let original = "x ﬁne İZ é断\u{301} 'Airo'";
        let n = Normalized::new(original);
        for needle in ["fi", "ne", "iz", "airo", "断"] {
            let at = n.text.find(needle).unwrap();
            let back = &original[n.origin(at, at + needle.len())];
            assert!(normalize(back).contains(needle), "{needle} came back as {back}");
        }
        assert_eq!(n.origin(0, n.text.len()), 0..original.len());
    }
}
