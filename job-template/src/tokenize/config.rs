//! `tokenizer_config.json`: what it sets of a tokenizer.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde_json::{Map, Value};

use super::TokenizerError;

/// The special tokens of BERT's tokenizers, where the file doesn't name others.
const SPECIAL_TOKENS: [(&str, &str); 5] = [
    ("unk_token", "[UNK]"),
    ("sep_token", "[SEP]"),
    ("pad_token", "[PAD]"),
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
];

/// The fields that set the normalizer, and what they are called there.
const NORMALIZER: [(&str, &str); 3] = [
    ("do_lower_case", "lowercase"),
    ("strip_accents", "strip_accents"),
    ("tokenize_chinese_chars", "handle_chinese_chars"),
];

/// The classes of transformers that make a normalizer of `tokenizer_config.json`. Others take
/// tokenizer.json as it is.
const BERT_CLASSES: [&str; 2] = ["BertTokenizer", "BertTokenizerFast"];

/// The fewest tokens that `NUM_MAX_POSITIONS` may be.
const LEAST_POSITIONS: usize = 8;

/// What `tokenizer_config.json` says, as far as it is used here.
pub(super) struct Settings {
    pub(super) is_bert: bool,
    /// By the names that they have in a normalizer.
    pub(super) normalizer: Vec<(&'static str, Value)>,
    pub(super) special_tokens: BTreeMap<&'static str, String>,
    model_max_length: Option<usize>,
}

impl Settings {
    pub(super) fn read(directory: &Path) -> Result<Self, TokenizerError> {
        let path = directory.join("tokenizer_config.json");
        let fields: Map<String, Value> = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(TokenizerError::new(&path, error.to_string())),
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| TokenizerError::new(&path, format!("not JSON: {error}")))?,
        };
        let mut normalizer = Vec::new();
        for (field, name) in NORMALIZER {
            match fields.get(field) {
                None | Some(Value::Null) => {}
                Some(value @ Value::Bool(_)) => normalizer.push((name, value.clone())),
                Some(value) => {
                    let reason = format!("`{field}` is {value}; true or false is needed");
                    return Err(TokenizerError::new(&path, reason));
                }
            }
        }
        let special_tokens = SPECIAL_TOKENS.map(|(name, default)| {
            let given = fields.get(name);
            let given = given.map(|token| token.get("content").unwrap_or(token));
            let token = given.and_then(Value::as_str).unwrap_or(default);
            (name, token.to_owned())
        });
        let class = fields.get("tokenizer_class").and_then(Value::as_str);
        // Where there is no limit, transformers writes 1e30.
        let length = fields.get("model_max_length").and_then(Value::as_u64);
        Ok(Self {
            is_bert: class.is_none_or(|class| BERT_CLASSES.contains(&class)),
            normalizer,
            special_tokens: special_tokens.into(),
            model_max_length: length.and_then(|length| usize::try_from(length).ok()),
        })
    }
}

/// The tokens that a model was made to read, as `tokenizer_config.json` has it; none where it doesn't say.
///
/// # Errors
/// The file isn't JSON, or the tokens are too few for a text.
pub fn model_max_length(directory: &Path) -> Result<Option<usize>, TokenizerError> {
    match Settings::read(directory)?.model_max_length {
        Some(length @ ..LEAST_POSITIONS) => Err(TokenizerError::new(
            &directory.join("tokenizer_config.json"),
            format!("`model_max_length` is {length}; {LEAST_POSITIONS} tokens at least are needed"),
        )),
        length => Ok(length),
    }
}
