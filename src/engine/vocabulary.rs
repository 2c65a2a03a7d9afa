//! A tokenizer for the BERT family from `vocab.txt`, where a repository has no `tokenizer.json`.
//!
//! The parts are those of Hugging Face's `BertTokenizerFast`; `tokenizer_config.json` says what differs from the usual.

use std::path::Path;

use serde_json::Value;
use tokenizers::{
    AddedToken, Tokenizer, decoders::wordpiece::WordPiece as Joiner, models::wordpiece::WordPiece,
    normalizers::BertNormalizer, pre_tokenizers::bert::BertPreTokenizer, processors::bert::BertProcessing,
};

use super::{error::ModelError, pack};

/// Families whose texts are cut by WordPiece and framed by `[CLS]` and `[SEP]`.
const FAMILIES: [&str; 3] = ["bert", "distilbert", "electra"];

pub fn tokenizer(dir: &Path, config: &Value) -> Result<Tokenizer, ModelError> {
    let path = dir.join(pack::VOCABULARY);
    let model_type = config["model_type"].as_str().unwrap_or("");
    if !path.is_file() || !FAMILIES.contains(&model_type) {
        return Err(ModelError::Tokenizer(format!(
            "missing; convert the repository's tokenizer with transformers (AutoTokenizer ... save_pretrained){}",
            if path.is_file() {
                format!("; vocab.txt alone does not say how {model_type} cuts texts")
            } else {
                String::new()
            }
        )));
    }
    let settings = optional_json(&dir.join("tokenizer_config.json"))?;
    let map = optional_json(&dir.join("special_tokens_map.json"))?;
    let special = |key: &str, usual: &str| {
        [&settings[key], &map[key]]
            .into_iter()
            .find_map(|v| v.as_str().or_else(|| v["content"].as_str()))
            .unwrap_or(usual)
            .to_owned()
    };
    let error = |e: tokenizers::Error| ModelError::Tokenizer(format!("vocab.txt: {e}"));
    let unknown = special("unk_token", "[UNK]");
    let model =
        WordPiece::from_file(&path.to_string_lossy()).unk_token(unknown.clone()).build().map_err(error)?;
    let mut tokenizer = Tokenizer::new(model);
    let flag = |key: &str, usual: bool| settings[key].as_bool().unwrap_or(usual);
    let normalizer = BertNormalizer::new(
        true,
        flag("tokenize_chinese_chars", true),
        settings["strip_accents"].as_bool(),
        flag("do_lower_case", true),
    );
    tokenizer.with_normalizer(Some(normalizer)).map_err(error)?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_decoder(Some(Joiner::default()));
    let framing = |key: &str, usual: &str| {
        let token = special(key, usual);
        match tokenizer.token_to_id(&token) {
            Some(id) => Ok((token, id)),
            None => Err(ModelError::Tokenizer(format!("vocab.txt has no {token}"))),
        }
    };
    let (separator, class) = (framing("sep_token", "[SEP]")?, framing("cls_token", "[CLS]")?);
    tokenizer.with_post_processor(Some(BertProcessing::new(separator.clone(), class.clone())));
    let mut added = vec![unknown, separator.0, class.0];
    for (key, usual) in [("pad_token", "[PAD]"), ("mask_token", "[MASK]")] {
        let token = special(key, usual);
        if tokenizer.token_to_id(&token).is_some() {
            added.push(token);
        }
    }
    let added: Vec<AddedToken> = added.into_iter().map(|t| AddedToken::from(t, true)).collect();
    tokenizer.add_special_tokens(added).map_err(error)?;
    Ok(tokenizer)
}

/// A JSON file, or null where there is none.
fn optional_json(path: &Path) -> Result<Value, ModelError> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map_err(|e| ModelError::file(path, e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(e) => Err(ModelError::file(path, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tokenize::Tokenizer as Engine;

    fn dir(config: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nnet\n##work\n断\n了\ncafe\nThe\n";
        std::fs::write(dir.path().join("vocab.txt"), vocabulary).unwrap();
        std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
        dir
    }

    #[test]
    fn vocab_txt_cuts_and_frames_as_bert_does() {
        let bert = serde_json::json!({"model_type": "bert"});
        let ids = |config: &str, text: &str| {
            let dir = dir(config);
            let tokenizer = Engine::new(tokenizer(dir.path(), &bert).unwrap()).unwrap();
            let tokens = tokenizer.encode(text).unwrap();
            let pair = tokenizer.pair().unwrap();
            assert_eq!((pair.middle.as_slice(), pair.second_type), (&[3][..], 1));
            tokenizer.framed(&tokens.ids).collect::<Vec<_>>()
        };
        assert_eq!(ids("{}", "The network断了 Café"), [2, 5, 6, 7, 8, 9, 10, 3]);
        assert_eq!(ids(r#"{"do_lower_case": false}"#, "The café"), [2, 11, 1, 3]);
    }

    #[test]
    fn families_with_other_tokenizers_are_refused() {
        let dir = dir("{}");
        let roberta = serde_json::json!({"model_type": "roberta"});
        let error = tokenizer(dir.path(), &roberta).unwrap_err().to_string();
        assert!(error.contains("vocab.txt alone does not say how roberta cuts texts"), "{error}");
    }
}
