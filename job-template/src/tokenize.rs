//! From text to the numbers that the model reads.
//!
//! A folder has a tokenizer.json, or the vocab.txt that BERT came with; and a `tokenizer_config.json`, whose
//! `do_lower_case` and the like transformers puts above the former's normalizer.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::data::{LINE_BREAK, clean};
use serde_json::{Map, Value, json};
use tokenizers::{TruncationDirection, TruncationParams, TruncationStrategy};

/// A Hugging Face tokenizer that cuts a text to what the model reads.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    max_positions: usize,
    /// Whether a text is cleaned first. The file has steps for that, which take as long as all else;
    /// here they are the same function that cleans the reviews.
    cleans: bool,
    /// Of `cls_token`, `sep_token` and the like.
    special_tokens: Vec<(&'static str, String)>,
    /// What is to be known of how it was read.
    warning: Option<String>,
}

/// A text as the model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Ids of the vocabulary, from `[CLS]` to `[SEP]`.
    pub ids: Vec<u32>,
    /// Whether the text went on.
    pub is_truncated: bool,
}

/// A tokenizer can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct TokenizerError {
    file: String,
    reason: String,
}

impl TokenizerError {
    fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self {
            file: path.display().to_string(),
            reason: reason.into(),
        }
    }
}

/// The special tokens that BERT's tokenizers have, where nothing else is said.
const SPECIAL_TOKENS: [(&str, &str); 5] = [
    ("unk_token", "[UNK]"),
    ("sep_token", "[SEP]"),
    ("pad_token", "[PAD]"),
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
];

/// Fewer tokens than `NUM_MAX_POSITIONS` may be say nothing of a text.
const LEAST_POSITIONS: usize = 8;

/// The classes of transformers that make a normalizer of `tokenizer_config.json`. Others take
/// tokenizer.json as it is.
const BERT_CLASSES: [&str; 2] = ["BertTokenizer", "BertTokenizerFast"];

/// What `tokenizer_config.json` says, as far as it counts here.
struct Settings {
    is_bert: bool,
    /// By the names that they have in a normalizer: `lowercase`, `strip_accents`,
    /// `handle_chinese_chars`.
    normalizer: Vec<(&'static str, Value)>,
    special_tokens: [(&'static str, String); 5],
    model_max_length: Option<usize>,
}

impl Settings {
    fn read(folder: &Path) -> Result<Self, TokenizerError> {
        let path = folder.join("tokenizer_config.json");
        let fields: Map<String, Value> = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(TokenizerError::new(&path, error.to_string())),
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| TokenizerError::new(&path, format!("not JSON: {error}")))?,
        };
        let class = fields.get("tokenizer_class").and_then(Value::as_str);
        let normalizer = [
            ("do_lower_case", "lowercase"),
            ("strip_accents", "strip_accents"),
            ("tokenize_chinese_chars", "handle_chinese_chars"),
        ];
        let mut settings = Vec::new();
        for (field, name) in normalizer {
            match fields.get(field) {
                None | Some(Value::Null) => {}
                Some(value @ Value::Bool(_)) => settings.push((name, value.clone())),
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
        // Where there is no limit, transformers writes 1e30.
        let length = fields.get("model_max_length").and_then(Value::as_u64);
        Ok(Self {
            is_bert: class.is_none_or(|class| BERT_CLASSES.contains(&class)),
            normalizer: settings,
            special_tokens,
            model_max_length: length.and_then(|length| usize::try_from(length).ok()),
        })
    }
}

/// The tokens that a model was made to read, as `tokenizer_config.json` has it; none where it doesn't say.
///
/// # Errors
/// The file isn't JSON, or the tokens are too few for a text.
pub fn model_max_length(folder: &Path) -> Result<Option<usize>, TokenizerError> {
    match Settings::read(folder)?.model_max_length {
        Some(length @ ..LEAST_POSITIONS) => Err(TokenizerError::new(
            &folder.join("tokenizer_config.json"),
            format!("`model_max_length` is {length}; {LEAST_POSITIONS} tokens at least are needed"),
        )),
        length => Ok(length),
    }
}

impl Tokenizer {
    /// As [`Tokenizer::open`], for a model that is to be trained: the tokenizer cleans a text as
    /// [`clean`] does, so that it is read in serving, and by transformers, as it
    /// was in training.
    ///
    /// # Errors
    /// As of [`Tokenizer::open`].
    pub fn open_to_train(
        folder: &Path,
        max_positions: usize,
        vocab_size: usize,
    ) -> Result<Self, TokenizerError> {
        let mut tokenizer = Self::open(folder, max_positions, vocab_size)?;
        tokenizer.cleans = true;
        Ok(tokenizer)
    }

    /// Opens `folder`'s tokenizer.json, or its vocab.txt where there is none. A text is cut to
    /// `max_positions` tokens, with the special ones; whatever the file says of cutting and padding is
    /// not used.
    ///
    /// # Errors
    /// The file is missing or not a tokenizer, or makes ids that a model with `vocab_size` words
    /// doesn't know.
    pub fn open(
        folder: &Path,
        max_positions: usize,
        vocab_size: usize,
    ) -> Result<Self, TokenizerError> {
        let settings = Settings::read(folder)?;
        let (path, mut file) = read_file(folder, &settings)?;
        let error = |reason: String| TokenizerError::new(&path, reason);
        let warning = if settings.is_bert {
            set_normalizer(&mut file, &settings.normalizer)
        } else {
            None
        };
        let cleans = remove_cleaning(&mut file);
        // Not `from_bytes`, which has all that such a file may hold compiled here, with each change.
        let mut inner: tokenizers::Tokenizer = file
            .to_string()
            .parse()
            .map_err(|reason| error(format!("not a tokenizer: {reason}")))?;
        let highest = inner.get_vocab(true).into_iter().max_by_key(|(_, id)| *id);
        if let Some((word, id)) = highest
            && id as usize >= vocab_size
        {
            return Err(error(format!(
                "has the word {word:?} with the id {id}, and config.json a `vocab_size` of \
                 {vocab_size}: they don't belong together"
            )));
        }
        let truncation = TruncationParams {
            direction: TruncationDirection::Right,
            max_length: max_positions,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        inner.with_padding(None);
        inner
            .with_truncation(Some(truncation))
            .map_err(|reason| error(format!("can't cut texts: {reason}")))?;
        let special_tokens = settings.special_tokens.into_iter();
        let special_tokens = special_tokens
            .filter(|(_, token)| inner.token_to_id(token).is_some())
            .collect();
        Ok(Self {
            inner,
            path,
            max_positions,
            cleans,
            special_tokens,
            warning,
        })
    }

    /// Checks that a text begins with the token that is classified, and isn't empty whatever it says.
    ///
    /// # Errors
    /// The tokenizer adds no special tokens, or others.
    pub fn check_special_tokens(&self) -> Result<(), TokenizerError> {
        let ids = self.encode("").map(|tokens| tokens.ids).unwrap_or_default();
        let id = |name: &str| {
            let token = self.special_tokens.iter().find(|(known, _)| *known == name);
            token.and_then(|(_, token)| self.inner.token_to_id(token))
        };
        match (id("cls_token"), id("sep_token"), &ids[..]) {
            (Some(cls), Some(sep), [first, last]) if (cls, sep) == (*first, *last) => Ok(()),
            _ => Err(TokenizerError::new(
                &self.path,
                "doesn't put a text between [CLS] and [SEP], as BERT reads it: its `post_processor` \
                 is missing or another's",
            )),
        }
    }

    /// Tokens that a text is cut to.
    #[must_use]
    pub fn max_positions(&self) -> usize {
        self.max_positions
    }

    /// What is to be known of how it was read.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// tokenizer.json, with the cutting as it was asked for, and the cleaning.
    ///
    /// # Errors
    /// The tokenizer can't be written.
    pub fn file(&self) -> Result<Vec<u8>, tokenizers::Error> {
        let mut file: Value = serde_json::from_str(&self.inner.to_string(false)?)?;
        if self.cleans {
            let normalizer = file["normalizer"].take();
            let steps: Vec<Value> = cleaning()
                .into_iter()
                .chain(Some(normalizer).filter(|it| !it.is_null()))
                .collect();
            file["normalizer"] = json!({"type": "Sequence", "normalizers": steps});
        }
        Ok(serde_json::to_vec_pretty(&file)?)
    }

    /// `tokenizer_config.json`, by which transformers takes tokenizer.json as it is.
    #[must_use]
    pub fn config_file(&self) -> Value {
        let mut fields = Map::new();
        // A BertTokenizer would make a normalizer of its own.
        fields.insert(
            "tokenizer_class".to_owned(),
            json!("PreTrainedTokenizerFast"),
        );
        fields.insert("model_max_length".to_owned(), json!(self.max_positions));
        let inputs = json!(["input_ids", "token_type_ids", "attention_mask"]);
        fields.insert("model_input_names".to_owned(), inputs);
        for (name, token) in &self.special_tokens {
            fields.insert((*name).to_owned(), json!(token));
        }
        fields.into()
    }

    /// The text's tokens.
    ///
    /// # Errors
    /// The tokenizer can't take the text, which none of the known ones does.
    pub fn encode(&self, text: &str) -> Result<Tokens, tokenizers::Error> {
        let encoding = if self.cleans {
            self.inner.encode_fast(clean(text), true)?
        } else {
            self.inner.encode_fast(text, true)?
        };
        Ok(Tokens {
            ids: encoding.get_ids().to_vec(),
            is_truncated: !encoding.get_overflowing().is_empty(),
        })
    }
}

/// tokenizer.json as it is, or one that is made of vocab.txt.
fn read_file(folder: &Path, settings: &Settings) -> Result<(PathBuf, Value), TokenizerError> {
    let path = folder.join("tokenizer.json");
    match fs::read(&path) {
        Ok(text) => {
            let file = serde_json::from_slice(&text).map_err(|reason| {
                TokenizerError::new(&path, format!("not a tokenizer: {reason}"))
            })?;
            Ok((path, file))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let vocab = folder.join("vocab.txt");
            if !vocab.exists() {
                return Err(TokenizerError::new(
                    &path,
                    format!("{error}; there is no vocab.txt either"),
                ));
            }
            let file = from_vocab(&vocab, settings)?;
            Ok((vocab, file))
        }
        Err(error) => Err(TokenizerError::new(&path, error.to_string())),
    }
}

/// Sets what `tokenizer_config.json` says of the normalizer. Gives a warning where transformers would read
/// the folder otherwise.
fn set_normalizer(file: &mut Value, settings: &[(&str, Value)]) -> Option<String> {
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

/// The steps of a normalizer that do what [`clean`] does.
fn cleaning() -> [Value; 2] {
    let replace = |pattern: Value| json!({"type": "Replace", "pattern": pattern, "content": " "});
    [
        replace(json!({"String": LINE_BREAK})),
        replace(json!({"Regex": r"\s+"})),
    ]
}

/// Takes the cleaning off a tokenizer.json, and gives whether it was there.
fn remove_cleaning(file: &mut Value) -> bool {
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
fn from_vocab(path: &Path, settings: &Settings) -> Result<Value, TokenizerError> {
    let error = |reason: String| TokenizerError::new(path, reason);
    let text = fs::read(path).map_err(|reason| error(reason.to_string()))?;
    let text = String::from_utf8(text).map_err(|_| error("is not UTF-8".to_owned()))?;
    // The last of equal ones counts, as in transformers.
    let vocab: HashMap<&str, usize> = text.lines().zip(0..).collect();
    let mut added_tokens = Vec::new();
    for (_, token) in &settings.special_tokens {
        if let Some(id) = vocab.get(token.as_str()) {
            added_tokens.push(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            }));
        }
    }
    added_tokens.sort_by_key(|token| token["id"].as_u64());
    let token = |name: &str| {
        let (_, token) = settings
            .special_tokens
            .iter()
            .find(|(known, _)| *known == name)
            .expect("all names are there");
        match vocab.get(token.as_str()) {
            Some(id) => Ok((token, id)),
            None => Err(error(format!(
                "has no word {token:?}; is it BERT's vocabulary?"
            ))),
        }
    };
    let (unk, _) = token("unk_token")?;
    let ((cls, cls_id), (sep, sep_id)) = (token("cls_token")?, token("sep_token")?);
    let special = |token: &str, kind: u8| json!({"SpecialToken": {"id": token, "type_id": kind}});
    let sequence = |id: &str, kind: u8| json!({"Sequence": {"id": id, "type_id": kind}});
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special(cls, 0), sequence("A", 0), special(sep, 0)],
            "pair": [
                special(cls, 0), sequence("A", 0), special(sep, 0), sequence("B", 1), special(sep, 1),
            ],
            "special_tokens": {
                cls: {"id": cls, "ids": [cls_id], "tokens": [cls]},
                sep: {"id": sep, "ids": [sep_id], "tokens": [sep]},
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": unk, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab,
        },
    }))
}

#[cfg(test)]
mod tests;
