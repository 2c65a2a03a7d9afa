//! The customer's own words in an e-mail: without the message they answer to, and without their signature.
//!
//! Conservative: what does not clearly look like a quotation or a signature is kept. Where everything would go, all of
//! it is kept.

use std::ops::Range;

/// Byte ranges of the writer's own words, in order, a range for each run of kept lines.
pub fn own_words(text: &str) -> Vec<Range<usize>> {
    let mut kept: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    let lines: Vec<(usize, &str)> = text
        .split_inclusive('\n')
        .map(|line| {
            let start = at;
            at += line.len();
            (start, line)
        })
        .collect();
    for (i, (start, line)) in lines.iter().enumerate() {
        let bare = line.trim();
        if begins_quotation(bare, &lines[i + 1..]) || begins_signature(bare, &kept) {
            break;
        }
        if bare.starts_with('>') || bare.starts_with("|") {
            continue;
        }
        let end = start + line.len();
        match kept.last_mut() {
            Some(last) if last.end == *start => last.end = end,
            _ => kept.push(*start..end),
        }
        if is_closing(bare) && signature_follows(&lines[i + 1..]) {
            break;
        }
    }
    if kept.iter().all(|r| text[r.clone()].trim().is_empty()) {
        return if text.is_empty() { vec![] } else { std::iter::once(0..text.len()).collect() };
    }
    kept
}

/// Most lines that a signature has.
const SIGNATURE_LINES_MAX: usize = 6;
/// Most characters in a line of a signature.
const SIGNATURE_LINE_CHARS_MAX: usize = 60;

/// `-- ` alone on a line starts a signature (RFC 3676), once something has been said.
fn begins_signature(line: &str, kept: &[Range<usize>]) -> bool {
    !kept.is_empty() && matches!(line, "--" | "—" | "__" | "___")
}

fn signature_follows(after: &[(usize, &str)]) -> bool {
    let lines: Vec<&str> = after
        .iter()
        .map(|(_, l)| l.trim())
        .take_while(|l| !begins_header(l) && !l.starts_with('>'))
        .filter(|l| !l.is_empty())
        .collect();
    lines.len() <= SIGNATURE_LINES_MAX
        && lines
            .iter()
            .all(|l| l.chars().count() <= SIGNATURE_LINE_CHARS_MAX && !l.ends_with(['?', '!', '？', '！']))
}

/// Words with which letters end, lower case, as they begin a line.
const CLOSINGS: &[&str] = &[
    "kind regards",
    "best regards",
    "regards",
    "best wishes",
    "sincerely",
    "yours faithfully",
    "yours sincerely",
    "yours truly",
    "cheers",
    "many thanks",
    "thanks,",
    "thank you,",
    "warm regards",
    "respectfully",
    "mit freundlichen grüßen",
    "mit freundlichem gruß",
    "viele grüße",
    "freundliche grüße",
    "beste grüße",
    "mfg",
    "cordialement",
    "bien cordialement",
    "bien à vous",
    "salutations",
    "sincères salutations",
    "saludos",
    "un saludo",
    "atentamente",
    "saludos cordiales",
    "cordiali saluti",
    "distinti saluti",
    "un saluto",
    "atenciosamente",
    "cumprimentos",
    "com os melhores cumprimentos",
    "abraços",
    "met vriendelijke groet",
    "groeten",
    "vriendelijke groeten",
    "z poważaniem",
    "pozdrawiam",
    "с уважением",
    "saygılarımla",
    "saygılar",
    "مع التحية",
    "تحياتي",
    "مع خالص التحية",
    "सादर",
    "धन्यवाद,",
    "hormat kami",
    "salam,",
    "trân trọng",
    "ขอแสดงความนับถือ",
    "此致",
    "敬具",
    "よろしくお願いいたします",
    "감사합니다.",
    "드림",
];

fn is_closing(line: &str) -> bool {
    let lower = line.to_lowercase();
    line.chars().count() <= SIGNATURE_LINE_CHARS_MAX && CLOSINGS.iter().any(|c| lower.starts_with(c))
}

/// Words that stand around the sender in the line above a quoted message.
const WROTE: &[&str] = &[
    " wrote:",
    " schrieb:",
    " a écrit :",
    " a écrit:",
    " escribió:",
    " ha scritto:",
    " escreveu:",
    " schreef:",
    " napisał:",
    " napisał(a):",
    " написал:",
    " написал(а):",
    " пишет:",
    " yazdı:",
    " كتب:",
    "写道：",
    "写道:",
    " wrote :",
    "のメール:",
    "님이 작성:",
    " menulis:",
    " đã viết:",
    " เขียนว่า:",
];

fn begins_quotation(line: &str, after: &[(usize, &str)]) -> bool {
    let lower = line.to_lowercase();
    if WROTE.iter().any(|w| lower.ends_with(w)) {
        return true;
    }
    if line.starts_with("-----") && line.trim_matches('-').trim().len() > 3 && line.ends_with("-----") {
        return true;
    }
    begins_header(line) && after.iter().take(3).any(|(_, l)| begins_header(l.trim()))
}

/// `From: ...`, `Sent: ...` and their sisters: two of them close together are the head of a forwarded message.
fn begins_header(line: &str) -> bool {
    const HEADS: &[&str] = &[
        "from:",
        "sent:",
        "to:",
        "subject:",
        "date:",
        "von:",
        "gesendet:",
        "betreff:",
        "de :",
        "de:",
        "envoyé :",
        "objet :",
        "enviado:",
        "asunto:",
        "da:",
        "inviato:",
        "oggetto:",
        "assunto:",
        "van:",
        "verzonden:",
        "onderwerp:",
        "od:",
        "wysłano:",
        "temat:",
        "от:",
        "отправлено:",
        "тема:",
        "kimden:",
        "konu:",
        "发件人:",
        "发件人：",
        "发送时间:",
        "发送时间：",
        "主题:",
        "主题：",
        "差出人:",
        "件名:",
        "보낸 사람:",
        "제목:",
    ];
    let lower = line.to_lowercase();
    HEADS.iter().any(|h| lower.starts_with(h))
}

#[cfg(test)]
mod tests {
    use super::own_words;

    fn check(text: &str, expected: &str) {
        let own: String = own_words(text).into_iter().map(|r| &text[r]).collect();
        assert_eq!(own.trim(), expected);
    }

    #[test]
    fn quoted_messages_are_not_the_writers_words() {
        check(
            "It works now.\n\nOn Mon, 3 May, Airo Support wrote:\n> Try our rival\n> please",
            "It works now.",
        );
        check("Danke!\n> alte Frage\nGeht jetzt.", "Danke!\nGeht jetzt.");
        check(
            "Bitte prüfen.\n\nVon: Service\nGesendet: Montag\nBetreff: Rechnung\nAiro ist besser",
            "Bitte prüfen.",
        );
        check("See below.\n-----Original Message-----\nsecret", "See below.");
        check("好的\n在2026年3月1日，客服写道：\n旧内容", "好的");
    }

    #[test]
    fn signatures_go_closings_stay() {
        check(
            "Please refund me.\nKind regards,\nP. Hollis\nAiro Networks Ltd.",
            "Please refund me.\nKind regards,",
        );
        check("Hello there\n-- \nJane, Airo", "Hello there");
    }

    #[test]
    fn ordinary_lines_are_kept() {
        let text =
            "From: where do I download it?\nThanks, and also: why is it slow?\nRegards to Bob, will he come?";
        check(text, text);
        check("> only a quotation", "> only a quotation");
        check("", "");
    }
}
