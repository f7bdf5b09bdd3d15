//! What a model is like: Hugging Face's config.json of a BERT.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use tch::Tensor;

use crate::activation::Activation;
use crate::batch::Batch;

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
    /// The feed-forward layer's function.
    pub activation: Activation,
    /// `LayerNorm`'s epsilon.
    pub norm_eps: f64,
    /// Probability that training drops an element of a hidden vector.
    pub dropout: f64,
    /// The same for the vector that the classifier is given.
    pub classifier_dropout: f64,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
    /// Names of the classifier's columns; empty where config.json has none.
    pub labels: Vec<String>,
    /// What the classifier's logits mean.
    pub problem: Problem,
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

impl Pooling {
    /// Of what the encoder gives, a vector for each sequence, [sequences, hidden].
    pub(crate) fn pool(self, x: Tensor, batch: &Batch) -> Tensor {
        match self {
            Self::First => x,
            Self::Mean => batch.means(&x),
        }
    }
}

/// What the classifier's logits mean: config.json's `problem_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// One label of several is right.
    SingleLabel,
    /// Each label is right or not, whatever the others are.
    MultiLabel,
    /// They are the values that are asked for.
    Regression,
}

/// As many as no BERT has: more is a mistake.
const MOST_LAYERS: i64 = 1000;

/// A model's folder can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct ModelError {
    file: PathBuf,
    reason: String,
}

impl ModelError {
    pub(crate) fn new(file: &Path, reason: impl Into<String>) -> Self {
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

    pub(crate) fn of(fields: Map<String, Value>) -> Result<Self, String> {
        let expect = |name: &str, value: &str| match fields.get(name).and_then(Value::as_str) {
            Some(given) if given != value => Err(format!(
                "`{name}` is {given:?}; only {value:?} is known here"
            )),
            _ => Ok(()),
        };
        expect("model_type", "bert")?;
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
        let dropout = number("hidden_dropout_prob", 0.1)?;
        let architecture = Self {
            hidden_size: size("hidden_size")?,
            layers: match size("num_hidden_layers")? {
                layers @ ..=MOST_LAYERS => layers as usize,
                layers => return Err(format!("`num_hidden_layers` is {layers}")),
            },
            heads: size("num_attention_heads")?,
            intermediate_size: size("intermediate_size")?,
            vocab_size: size("vocab_size")?,
            max_positions: size("max_position_embeddings")?,
            token_types: size("type_vocab_size")?,
            norm_eps: number("layer_norm_eps", 1e-12)?,
            dropout,
            classifier_dropout: match fields.get("classifier_dropout") {
                None | Some(Value::Null) => dropout,
                Some(_) => number("classifier_dropout", dropout)?,
            },
            initializer_range: number("initializer_range", 0.02)?,
            activation: match fields.get("hidden_act") {
                None => Activation::Gelu,
                Some(Value::String(name)) => Activation::named(name)?,
                Some(other) => return Err(format!("`hidden_act` is {other}, and not a name")),
            },
            labels: labels(&fields)?,
            problem: problem(&fields)?,
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
        self.problem = Problem::SingleLabel;
        self
    }

    /// The same for a classifier of so many columns. Where config.json has no names for them, they are
    /// `LABEL_0`, `LABEL_1`, and so on, as transformers names them.
    #[must_use]
    pub(crate) fn for_columns(mut self, columns: usize) -> Self {
        if self.labels.is_empty() {
            self.labels = (0..columns).map(|id| format!("LABEL_{id}")).collect();
        }
        // As transformers' pipeline: a single label has no others to share its probability with.
        if self.labels.len() == 1 && self.problem == Problem::SingleLabel {
            self.problem = Problem::MultiLabel;
        }
        self
    }

    /// config.json as Python's transformers read it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut fields = self.fields.clone();
        // Where the weights came from is in the metadata. What the others say of them isn't so any more.
        for field in ["_name_or_path", "num_labels", "torch_dtype"] {
            fields.remove(field);
        }
        fields.insert("dtype".to_owned(), json!("float32"));
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
    let labels: Vec<String> = match fields.get("id2label") {
        Some(Value::Object(map)) => (0..map.len())
            .map(|id| match map.get(&id.to_string()) {
                Some(Value::String(label)) => Ok(label.clone()),
                Some(Value::Number(label)) => Ok(label.to_string()),
                _ => Err(format!(
                    "`id2label` has {} labels but none for {id}",
                    map.len()
                )),
            })
            .collect::<Result<_, _>>()?,
        None | Some(Value::Null) => match fields.get("num_labels").and_then(Value::as_u64) {
            Some(count @ 1..=10_000) => (0..count).map(|id| format!("LABEL_{id}")).collect(),
            Some(count) => return Err(format!("`num_labels` is {count}")),
            None => Vec::new(),
        },
        Some(_) => return Err("`id2label` is not an object of ids and labels".to_owned()),
    };
    for (id, label) in labels.iter().enumerate() {
        if let Some(first) = labels[..id].iter().position(|earlier| earlier == label) {
            return Err(format!(
                "`id2label` calls both {first} and {id} {label:?}; give each label a name of its own"
            ));
        }
    }
    Ok(labels)
}

fn problem(fields: &Map<String, Value>) -> Result<Problem, String> {
    match fields.get("problem_type") {
        Some(Value::String(problem)) if problem == "regression" => Ok(Problem::Regression),
        Some(Value::String(problem)) if problem == "multi_label_classification" => {
            Ok(Problem::MultiLabel)
        }
        Some(Value::String(problem)) if problem == "single_label_classification" => {
            Ok(Problem::SingleLabel)
        }
        None | Some(Value::Null) => Ok(Problem::SingleLabel),
        Some(other) => Err(format!(
            "`problem_type` is {other}; single_label_classification, multi_label_classification \
             and regression are supported"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A config.json with these fields changed.
    fn of(changes: &Value) -> Result<Architecture, String> {
        let mut fields = json!({
            "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
            "intermediate_size": 64, "vocab_size": 100, "max_position_embeddings": 40,
            "type_vocab_size": 2,
        });
        for (name, value) in changes.as_object().unwrap() {
            fields[name] = value.clone();
        }
        Architecture::of(fields.as_object().unwrap().clone())
    }

    #[test]
    fn labels_are_those_of_transformers() {
        let labels = |changes: Value| of(&changes).map(|it| it.for_columns(2).labels);
        assert_eq!(labels(json!({})).unwrap(), ["LABEL_0", "LABEL_1"]);
        let three = ["LABEL_0", "LABEL_1", "LABEL_2"];
        assert_eq!(labels(json!({"num_labels": 3})).unwrap(), three);
        let given = json!({"id2label": {"1": "b", "0": "z"}, "num_labels": 7});
        assert_eq!(labels(given).unwrap(), ["z", "b"]);
        assert_eq!(
            labels(json!({"id2label": {"0": 5, "1": 7}})).unwrap(),
            ["5", "7"]
        );
        for (changes, message) in [
            (
                json!({"id2label": {"0": "a", "2": "b"}}),
                "has 2 labels but none for 1",
            ),
            (
                json!({"id2label": {"0": "a", "1": "a"}}),
                "calls both 0 and 1 \"a\"",
            ),
            (json!({"id2label": ["a"]}), "is not an object"),
            (
                json!({"num_labels": 1_u64 << 60}),
                "`num_labels` is 1152921504606846976",
            ),
        ] {
            let error = labels(changes).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn problems_are_known_by_name() {
        let problem = |name: Value| of(&json!({ "problem_type": name })).map(|it| it.problem);
        assert_eq!(problem(Value::Null), Ok(Problem::SingleLabel));
        assert_eq!(problem(json!("regression")), Ok(Problem::Regression));
        let multi = json!("multi_label_classification");
        assert_eq!(problem(multi), Ok(Problem::MultiLabel));
        let error = problem(json!("ranking")).unwrap_err();
        assert!(
            error.starts_with("`problem_type` is \"ranking\"; "),
            "{error}"
        );
    }

    #[test]
    fn huge_sizes_are_refused_before_anything_is_allocated() {
        for (field, size) in [
            ("num_hidden_layers", 16_777_216_i64),
            ("vocab_size", 1 << 40),
        ] {
            let error = of(&json!({ field: size })).unwrap_err();
            assert_eq!(error, format!("`{field}` is {size}"));
        }
    }

    #[test]
    fn what_is_written_is_of_the_weights_that_are_written() {
        let read = of(&json!({"torch_dtype": "float16", "num_labels": 3})).unwrap();
        let labels = ["a".to_owned(), "b".to_owned()];
        let written = read.with_classifier(&labels, Pooling::First).to_json();
        assert_eq!(written["dtype"], "float32");
        assert_eq!(written["problem_type"], "single_label_classification");
        assert!(written.get("torch_dtype").is_none() && written.get("num_labels").is_none());
    }
}
