//! Sentences, by the rules of UAX 29 and by line breaks: customers end a thought with a new line as often as with a stop.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

/// Byte ranges of the sentences of `text`, in order, without the white space around them. A blank text has none.
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (at, sentence) in text.split_sentence_bound_indices() {
        let mut start = at;
        for line in sentence.split_inclusive(['\n', '\r', '\u{2028}', '\u{2029}']) {
            let trimmed = line.trim_start();
            let from = start + (line.len() - trimmed.len());
            let trimmed = trimmed.trim_end();
            start += line.len();
            if trimmed.is_empty() {
                continue;
            }
            let range = from..from + trimmed.len();
            // A piece without a letter or digit ("!!", an emoji) belongs to the sentence before it.
            match ranges.last_mut() {
                Some(last) if !trimmed.chars().any(char::is_alphanumeric) => last.end = range.end,
                _ => ranges.push(range),
            }
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<&str> = sentences(text).into_iter().map(|r| &text[r]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn splits_in_many_scripts() {
        check(
            "The app is great. Support is not!  Really?",
            &["The app is great.", "Support is not!", "Really?"],
        );
        check("这周第三次断网了。我要退款！", &["这周第三次断网了。", "我要退款！"]);
        check("पहला वाक्य। दूसरा वाक्य।", &["पहला वाक्य।", "दूसरा वाक्य।"]);
        check("خدمة ممتازة. شكرا جزيلا!", &["خدمة ممتازة.", "شكرا جزيلا!"]);
        check("first line\nsecond line", &["first line", "second line"]);
        check("I paid 3.5 euros at v1.2 level", &["I paid 3.5 euros at v1.2 level"]);
    }

    #[test]
    fn keeps_emoji_with_their_sentence() {
        check("Great! 😭 ❤️", &["Great! 😭 ❤️"]);
        check("😭", &["😭"]);
        check("  \n ", &[]);
    }
}
