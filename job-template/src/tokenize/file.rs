//! tokenizer.json: read as it is, made of vocab.txt, and changed by what a model's other files say.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::{Value, json};
use tokenizers::AddedToken;
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;

use super::TokenizerError;
use super::config::Settings;
use crate::data::LINE_BREAK;

/// tokenizer.json as it is, or one that is made of vocab.txt.
pub(super) fn read_file(
    directory: &Path,
    settings: &Settings,
) -> Result<(PathBuf, Value), TokenizerError> {
    let path = directory.join("tokenizer.json");
    let vocab = directory.join("vocab.txt");
    let error = |reason: String| TokenizerError::new(&path, reason);
    match fs::read(&path) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(file) => Ok((path, file)),
            Err(reason) => Err(error(format!("not a tokenizer: {reason}"))),
        },
        Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(error(reason.to_string())),
        Err(reason) if !vocab.exists() => {
            Err(error(format!("{reason}; there is no vocab.txt either")))
        }
        Err(_) => match from_vocab(&vocab, settings) {
            Ok(file) => Ok((vocab, file)),
            Err(reason) => Err(TokenizerError::new(&vocab, reason.to_string())),
        },
    }
}

/// Sets what `tokenizer_config.json` says of the normalizer. Gives a warning where transformers would read
/// the directory otherwise.
pub(super) fn set_normalizer(file: &mut Value, settings: &[(&str, Value)]) -> Option<String> {
    let normalizer = file.get_mut("normalizer")?;
    if normalizer.get("type").and_then(Value::as_str) != Some("BertNormalizer") {
        return None;
    }
    for (name, value) in settings {
        normalizer[*name] = value.clone();
    }
    let is_said = settings.iter().any(|(name, _)| *name == "lowercase");
    (normalizer["lowercase"] == json!(false) && !is_said).then(|| {
        "tokenizer.json keeps upper case, and tokenizer_config.json has no `do_lower_case`: upper case is \
         kept here, and lowered by transformers; set `do_lower_case` to false there"
            .to_owned()
    })
}

/// The steps of a normalizer that do what [`crate::data::clean`] does.
pub(super) fn cleaning() -> [Value; 2] {
    let replace = |pattern: Value| json!({"type": "Replace", "pattern": pattern, "content": " "});
    [
        replace(json!({"String": LINE_BREAK})),
        replace(json!({"Regex": r"\s+"})),
    ]
}

/// Takes the cleaning off a tokenizer.json, and gives whether it was there.
pub(super) fn remove_cleaning(file: &mut Value) -> bool {
    let steps = file["normalizer"]["normalizers"].as_array();
    let Some(rest) = steps.and_then(|steps| steps.strip_prefix(&cleaning()[..])) else {
        return false;
    };
    file["normalizer"] = match rest {
        [] => Value::Null,
        [only] => only.clone(),
        several => json!({"type": "Sequence", "normalizers": several}),
    };
    true
}

/// The tokenizer.json of a vocabulary, a word a line, as transformers' `BertTokenizer` makes it.
fn from_vocab(path: &Path, settings: &Settings) -> Result<Value, tokenizers::Error> {
    let vocab = WordPiece::read_file(path.to_str().ok_or("its path is not UTF-8")?)?;
    let token = |name| {
        let token = &settings.special_tokens[name];
        let id = vocab.get(token).copied();
        let id = id.ok_or_else(|| format!("has no word {token:?}; is it BERT's vocabulary?"));
        id.map(|id| (token.clone(), id))
    };
    let ((unk, _), cls, sep) = (
        token("unk_token")?,
        token("cls_token")?,
        token("sep_token")?,
    );
    let known = settings
        .special_tokens
        .values()
        .filter(|token| vocab.contains_key(*token));
    let special_tokens: Vec<_> = known.map(|token| AddedToken::from(token, true)).collect();
    let model = WordPiece::builder().vocab(vocab).unk_token(unk).build()?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer
        .with_normalizer(Some(BertNormalizer::default()))
        .with_pre_tokenizer(Some(BertPreTokenizer))
        .with_post_processor(Some(BertProcessing::new(sep, cls)))
        .with_decoder(Some(WordPieceDecoder::default()))
        .add_special_tokens(&special_tokens);
    Ok(serde_json::to_value(&tokenizer)?)
}
