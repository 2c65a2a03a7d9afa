//! From a text to token ids, with the place of every token in the text.
//!
//! Special tokens are kept apart: windows put them around their own part of the text. A special token that a customer
//! happens to write (`[SEP]`) is plain text.

use std::{ops::Range, path::Path};

use super::{TextError, error::ModelError};

pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Special tokens before and after a text.
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    pair: Option<PairFrame>,
}

/// Special tokens around and between two texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairFrame {
    pub prefix: Vec<u32>,
    pub middle: Vec<u32>,
    pub suffix: Vec<u32>,
    /// Token type of the second text and what follows it: 1 in BERT, 0 in RoBERTa.
    pub second_type: u32,
}

/// A text as tokens, special ones left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub ids: Vec<u32>,
    /// Byte range of each token in the text.
    pub offsets: Vec<Range<usize>>,
    /// True where the text went on after the last token.
    pub truncated: bool,
}

/// Most tokens that are read of one text: 60 and more pages. What follows is not read, and the answer says so.
pub const TEXT_TOKENS_MAX: usize = 32_768;
/// Most bytes that are looked at: no language needs more than 16 bytes a token on the average.
const TEXT_BYTES_MAX: usize = 16 * TEXT_TOKENS_MAX;

impl Tokenizer {
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let error = |e: tokenizers::Error| ModelError::Tokenizer(e.to_string());
        Self::new(tokenizers::Tokenizer::from_file(path).map_err(error)?)
    }

    pub fn new(mut inner: tokenizers::Tokenizer) -> Result<Self, ModelError> {
        let error = |e: tokenizers::Error| ModelError::Tokenizer(e.to_string());
        inner.with_padding(None);
        inner.with_truncation(None).map_err(error)?;
        inner.set_encode_special_tokens(true);
        let framed = inner.encode("a", true).map_err(error)?;
        let special = framed.get_special_tokens_mask();
        let leading = special.iter().take_while(|s| **s == 1).count();
        let trailing = special[leading..].iter().rev().take_while(|s| **s == 1).count();
        let ids = framed.get_ids();
        let pair = PairFrame::of(&inner.encode(("a", "a"), true).map_err(error)?);
        Ok(Self {
            prefix: ids[..leading].to_vec(),
            suffix: ids[ids.len() - trailing..].to_vec(),
            pair,
            inner,
        })
    }

    /// The tokenizer as JSON, the same for the same tokenizer.
    pub fn canonical(&self) -> Result<String, ModelError> {
        self.inner.to_string(false).map_err(|e| ModelError::Tokenizer(e.to_string()))
    }

    /// How two texts are read together; `None` where the tokenizer has no form for it.
    pub fn pair(&self) -> Option<&PairFrame> {
        self.pair.as_ref()
    }

    /// The token itself, as it stands in the vocabulary.
    pub fn token(&self, id: u32) -> String {
        self.inner.id_to_token(id).unwrap_or_default()
    }

    /// Tokens as the text they stand for, by the tokenizer's own decoder.
    pub fn joined(&self, tokens: Vec<String>) -> String {
        match self.inner.get_decoder() {
            Some(decoder) => {
                tokenizers::Decoder::decode(decoder, tokens.clone()).unwrap_or_else(|_| tokens.concat())
            }
            None => tokens.join(" "),
        }
    }

    /// Whether a token goes on with the word before it. WordPiece and some BPE models mark it; with others a blank
    /// between two tokens begins a word, as the pipelines of `transformers` have it.
    pub fn continues_word(&self, id: u32, text: &str, bytes: &Range<usize>) -> bool {
        use tokenizers::models::ModelWrapper;
        let marked = match self.inner.get_model() {
            ModelWrapper::WordPiece(_) => true,
            ModelWrapper::BPE(bpe) => bpe.continuing_subword_prefix.as_ref().is_some_and(|p| !p.is_empty()),
            _ => false,
        };
        let unknown = match self.inner.get_model() {
            ModelWrapper::WordPiece(model) => self.inner.token_to_id(&model.unk_token),
            ModelWrapper::BPE(model) => model.unk_token.as_ref().and_then(|t| self.inner.token_to_id(t)),
            ModelWrapper::WordLevel(model) => self.inner.token_to_id(&model.unk_token),
            ModelWrapper::Unigram(_) => self.inner.token_to_id("<unk>"),
        };
        if unknown == Some(id) {
            return false;
        }
        if marked {
            return self.token(id).chars().count() != text[bytes.clone()].chars().count();
        }
        let before = text[..bytes.start].chars().next_back();
        before.is_some_and(|c| c != ' ') && !text[bytes.start..].starts_with(' ')
    }

    pub fn encode(&self, text: &str) -> Result<Tokens, TextError> {
        let read = &text[..floor_boundary(text, TEXT_BYTES_MAX)];
        let encoding =
            self.inner.encode(read, false).map_err(|e| TextError::Tokenizer(format!("tokenizer: {e}")))?;
        let kept = encoding.len().min(TEXT_TOKENS_MAX);
        Ok(Tokens {
            ids: encoding.get_ids()[..kept].to_vec(),
            // Kept inside the text and on its character boundaries whatever a tokenizer file makes of it.
            offsets: encoding.get_offsets()[..kept]
                .iter()
                .map(|(start, end)| {
                    let end = floor_boundary(read, *end);
                    floor_boundary(read, *start).min(end)..end
                })
                .collect(),
            truncated: kept < encoding.len() || read.len() < text.len(),
        })
    }

    /// Puts the special tokens around a part of a text.
    pub fn framed<'a>(&'a self, ids: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
        self.prefix.iter().chain(ids).chain(&self.suffix).copied()
    }

    /// Number of special tokens before a text.
    pub fn prefix_len(&self) -> usize {
        self.prefix.len()
    }

    /// Number of special tokens around a text.
    pub fn frame_len(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }

    /// The largest id that this tokenizer can produce.
    pub fn id_max(&self) -> u32 {
        self.inner.get_vocab(true).into_values().max().unwrap_or(0)
    }
}

impl PairFrame {
    /// Read off an encoding of two texts of ordinary tokens; `None` where their tokens lie side by side.
    fn of(encoding: &tokenizers::Encoding) -> Option<Self> {
        let special = encoding.get_special_tokens_mask();
        let (ids, types) = (encoding.get_ids(), encoding.get_type_ids());
        let next = |from: usize, wanted: u32| (from..special.len()).find(|i| special[*i] == wanted);
        let first = next(0, 0)?;
        let middle = next(first, 1)?;
        let second = next(middle, 0)?;
        let suffix = next(second, 1).unwrap_or(special.len());
        Some(Self {
            prefix: ids[..first].to_vec(),
            middle: ids[middle..second].to_vec(),
            suffix: ids[suffix..].to_vec(),
            second_type: types[second],
        })
    }

    /// Special tokens of a pair.
    pub fn tokens(&self) -> usize {
        self.prefix.len() + self.middle.len() + self.suffix.len()
    }
}

/// The last character boundary at or before `byte`, and inside the text.
fn floor_boundary(text: &str, byte: usize) -> usize {
    let mut at = byte.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The range of tokens that lie in the byte range `bytes`. A token belongs where it ends; `offsets` is in text order.
pub fn tokens_in(offsets: &[Range<usize>], bytes: &Range<usize>) -> Range<usize> {
    let start = offsets.partition_point(|o| o.end <= bytes.start);
    let end = offsets.partition_point(|o| o.end <= bytes.end);
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_where_it_ends() {
        // "Hi. Yo" with the space inside the second sentence's first token, as word-piece markers have it.
        let offsets = [0..2, 2..3, 3..6];
        assert_eq!(tokens_in(&offsets, &(0..3)), 0..2);
        assert_eq!(tokens_in(&offsets, &(4..6)), 2..3);
        assert_eq!(tokens_in(&offsets, &(6..9)), 3..3);
    }
}
