//! What a model is like: Hugging Face's config.json of a BERT.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// A BERT encoder's sizes, and the labels of its classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// Width of a token's vector.
    pub hidden_size: i64,
    /// Encoder layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: i64,
    /// Width of the feed-forward layer.
    pub intermediate_size: i64,
    /// Words that it knows.
    pub vocab_size: i64,
    /// Longest sequence, in tokens.
    pub max_positions: i64,
    /// Kinds of segments.
    pub token_types: i64,
    /// What is added to variances.
    pub norm_eps: f64,
    /// Probability that training drops an element of a hidden vector.
    pub dropout: f64,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
    /// Names of the classifier's columns; empty where there is no classifier.
    pub labels: Vec<String>,
    /// What a sequence is classified by.
    pub pooling: Pooling,
    /// The file's own fields, kept for the files that are written.
    fields: Map<String, Value>,
}

/// What a sequence is classified by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The vector of its first token, as BERT's paper has it.
    First,
    /// The mean of its tokens' vectors, which suits an encoder that was trained to it and is left as
    /// it is.
    Mean,
}

/// A model's folder can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct ModelError {
    file: PathBuf,
    reason: String,
}

impl ModelError {
    pub(super) fn new(file: &Path, reason: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            reason: reason.into(),
        }
    }
}

impl Architecture {
    /// Reads `folder`'s config.json.
    ///
    /// # Errors
    /// It is missing, isn't JSON, or describes something that isn't a BERT as this job knows it.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let error = |reason: String| ModelError::new(&path, reason);
        let text = std::fs::read_to_string(&path).map_err(|reason| error(reason.to_string()))?;
        let fields: Map<String, Value> =
            serde_json::from_str(&text).map_err(|reason| error(format!("not JSON: {reason}")))?;
        Self::of(fields).map_err(error)
    }

    pub(super) fn of(fields: Map<String, Value>) -> Result<Self, String> {
        let expect = |name: &str, value: &str| match fields.get(name).and_then(Value::as_str) {
            Some(given) if given != value => Err(format!(
                "`{name}` is {given:?}; only {value:?} is known here"
            )),
            _ => Ok(()),
        };
        expect("model_type", "bert")?;
        expect("hidden_act", "gelu")?;
        expect("position_embedding_type", "absolute")?;
        let size = |name: &str| match fields.get(name).and_then(Value::as_i64) {
            Some(size) if (1..=1 << 24).contains(&size) => Ok(size),
            Some(size) => Err(format!("`{name}` is {size}")),
            None => Err(format!("`{name}` is missing or not a whole number")),
        };
        let number = |name: &str, default: f64| match fields.get(name) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(number) if (0.0..1.0).contains(&number) => Ok(number),
                _ => Err(format!(
                    "`{name}` is {value}; a number from 0 to 1 is needed"
                )),
            },
        };
        let architecture = Self {
            hidden_size: size("hidden_size")?,
            layers: size("num_hidden_layers")? as usize,
            heads: size("num_attention_heads")?,
            intermediate_size: size("intermediate_size")?,
            vocab_size: size("vocab_size")?,
            max_positions: size("max_position_embeddings")?,
            token_types: size("type_vocab_size")?,
            norm_eps: number("layer_norm_eps", 1e-12)?,
            dropout: number("hidden_dropout_prob", 0.1)?,
            initializer_range: number("initializer_range", 0.02)?,
            labels: labels(&fields)?,
            pooling: match fields.get("pooling").and_then(Value::as_str) {
                Some("mean") => Pooling::Mean,
                _ => Pooling::First,
            },
            fields,
        };
        if architecture.hidden_size % architecture.heads != 0 {
            return Err(format!(
                "`hidden_size` {} is not a multiple of `num_attention_heads` {}",
                architecture.hidden_size, architecture.heads
            ));
        }
        Ok(architecture)
    }

    /// The same encoder with a classifier of these labels.
    #[must_use]
    pub fn with_classifier(mut self, labels: &[String], pooling: Pooling) -> Self {
        self.labels = labels.to_vec();
        self.pooling = pooling;
        self
    }

    /// config.json as Python's transformers read it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut fields = self.fields.clone();
        // Where the weights came from is in the metadata.
        fields.remove("_name_or_path");
        fields.insert(
            "architectures".to_owned(),
            json!(["BertForSequenceClassification"]),
        );
        fields.insert("model_type".to_owned(), json!("bert"));
        fields.insert(
            "problem_type".to_owned(),
            json!("single_label_classification"),
        );
        let ids = self.labels.iter().enumerate();
        let id2label: Map<_, _> = ids
            .clone()
            .map(|(id, label)| (id.to_string(), json!(label)))
            .collect();
        let label2id: Map<_, _> = ids.map(|(id, label)| (label.clone(), json!(id))).collect();
        fields.insert("id2label".to_owned(), id2label.into());
        fields.insert("label2id".to_owned(), label2id.into());
        match self.pooling {
            Pooling::First => fields.remove("pooling"),
            Pooling::Mean => fields.insert("pooling".to_owned(), json!("mean")),
        };
        fields.into()
    }
}

/// The labels in the order of their ids, which have to be 0, 1, 2, …
fn labels(fields: &Map<String, Value>) -> Result<Vec<String>, String> {
    let Some(map) = fields.get("id2label").and_then(Value::as_object) else {
        return Ok(Vec::new());
    };
    (0..map.len())
        .map(|id| {
            map.get(&id.to_string())
                .and_then(Value::as_str)
                .map(str::to_owned)
                .ok_or_else(|| format!("`id2label` has {} labels but none for {id}", map.len()))
        })
        .collect()
}
