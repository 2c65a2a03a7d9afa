//! Between byte offsets (Rust) and Unicode scalar offsets (the public API) of one text.

/// Looks up the scalar offset of byte offsets; texts in ASCII cost nothing.
pub struct ScalarOffsets<'t> {
    text: &'t str,
    /// Scalar offset at every `STRIDE_BYTES`-th byte; empty for ASCII.
    marks: Vec<u32>,
}

const STRIDE_BYTES: usize = 64;

impl<'t> ScalarOffsets<'t> {
    pub fn new(text: &'t str) -> Self {
        let mut marks = Vec::new();
        if !text.is_ascii() {
            let mut scalars = 0;
            for (i, byte) in text.bytes().enumerate() {
                if i % STRIDE_BYTES == 0 {
                    marks.push(scalars);
                }
                scalars += u32::from(starts_scalar(byte));
            }
            if text.len().is_multiple_of(STRIDE_BYTES) {
                marks.push(scalars);
            }
        }
        Self { text, marks }
    }

    /// Number of scalars that begin before byte `byte`; offsets past the end count the whole text.
    pub fn scalar(&self, byte: usize) -> u32 {
        let byte = byte.min(self.text.len());
        if self.marks.is_empty() {
            return byte as u32;
        }
        let mark = byte / STRIDE_BYTES;
        let rest = &self.text.as_bytes()[mark * STRIDE_BYTES..byte];
        self.marks[mark] + rest.iter().map(|b| u32::from(starts_scalar(*b))).sum::<u32>()
    }
}

fn starts_scalar(byte: u8) -> bool {
    byte & 0xC0 != 0x80
}

/// The part of `text` between two scalar offsets, cut at the end of the text.
pub fn slice(text: &str, start: u32, end: u32) -> &str {
    let byte = |scalar: u32| text.char_indices().nth(scalar as usize).map_or(text.len(), |(i, _)| i);
    let (start, end) = (byte(start), byte(end));
    text.get(start..end).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_count_characters_in_every_script() {
        let text = "é断网了😭 outage".repeat(20);
        let offsets = ScalarOffsets::new(&text);
        for (scalar, (byte, _)) in text.char_indices().enumerate() {
            assert_eq!(offsets.scalar(byte), scalar as u32);
        }
        assert_eq!(offsets.scalar(text.len()), text.chars().count() as u32);
        assert_eq!(offsets.scalar(usize::MAX), text.chars().count() as u32);
    }

    #[test]
    fn slices_by_scalars() {
        assert_eq!(slice("😭断网了", 1, 3), "断网");
        assert_eq!(slice("abc", 1, 99), "bc");
        assert_eq!(slice("abc", 3, 2), "");
    }
}
