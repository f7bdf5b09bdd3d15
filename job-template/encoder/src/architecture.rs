//! A model's sizes, labels and pooling: Hugging Face's config.json of a BERT.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tch::Tensor;

use crate::activation::Activation;
use crate::batch::Batch;

/// A BERT encoder's sizes, and the labels of its classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// `hidden_size`: elements of a token's vector; a multiple of `heads`.
    pub hidden_size: i64,
    /// `num_hidden_layers`, 1 to 1000.
    pub layers: usize,
    /// `num_attention_heads`.
    pub heads: i64,
    /// `intermediate_size`: elements of the feed-forward layer's inner vector.
    pub intermediate_size: i64,
    /// `vocab_size`: token ids are below it.
    pub vocab_size: i64,
    /// `max_position_embeddings`: the longest sequence, in tokens.
    pub max_positions: i64,
    /// `type_vocab_size`: rows of the token type embeddings, of which the first is used.
    pub token_types: i64,
    /// `hidden_act`: the feed-forward layer's activation function; GELU by default.
    pub activation: Activation,
    /// `layer_norm_eps`: `LayerNorm`'s epsilon, which is added to variances; 1e-12 by default.
    pub norm_eps: f64,
    /// `hidden_dropout_prob`: dropout's probability in training; 0.1 by default. Attention has no dropout.
    pub dropout: f64,
    /// `classifier_dropout`: the same for the vector that the classifier is given; `dropout` by default.
    pub classifier_dropout: f64,
    /// `initializer_range`: the standard deviation of new weights; 0.02 by default.
    pub initializer_range: f64,
    /// `id2label`: names of the logits, in their order; empty where config.json has none.
    pub labels: Vec<String>,
    /// `problem_type`: what the logits mean.
    pub problem: Problem,
    /// `pooling`: the vector that a sequence is classified by. The field is this crate's; transformers have
    /// [`Pooling::First`] only.
    pub pooling: Pooling,
    /// All of the file's fields, which [`Architecture::to_json`] keeps.
    fields: Map<String, Value>,
}

/// The vector that a sequence is classified by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// That of its first token, `[CLS]` (Devlin et al., 2019).
    First,
    /// The mean of its tokens' vectors (Reimers and Gurevych, 2019): for a sentence encoder that is not
    /// trained further.
    Mean,
}

impl Pooling {
    /// A vector for each sequence, [sequences, hidden], from the encoder's output: [sequences, hidden] for
    /// `First`, [rows, hidden] for `Mean`.
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
    /// One label of several is right: the labels' probabilities are the softmax of the logits.
    SingleLabel,
    /// Each label is right or not, independently: its probability is the sigmoid of its logit.
    MultiLabel,
    /// The logits are the predicted values.
    Regression,
}

/// More layers than any BERT has: a larger number is a mistake.
const MAX_LAYERS: i64 = 1000;

/// A model's directory can't be used: which file, and why.
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
    /// Reads `directory`'s config.json.
    ///
    /// # Errors
    /// It is missing, isn't JSON, or describes a model that isn't supported.
    pub fn read(directory: &Path) -> Result<Self, ModelError> {
        let path = directory.join("config.json");
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
                layers @ ..=MAX_LAYERS => layers as usize,
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

    /// The same encoder with a classifier of these labels, one of which is right.
    #[must_use]
    pub fn with_classifier(mut self, labels: &[String], pooling: Pooling) -> Self {
        self.labels = labels.to_vec();
        self.pooling = pooling;
        self.problem = Problem::SingleLabel;
        self
    }

    /// The same for a classifier with this number of logits. Where config.json has no names for them, they are
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

    /// The config.json of a single-label classifier, as Python's transformers read it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut fields = self.fields.clone();
        // They describe the weights that were read, not those that are written.
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
    fn label_names_are_those_of_transformers() {
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
    fn problem_types_are_read() {
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
    fn to_json_describes_the_weights_that_are_written() {
        let read = of(&json!({"torch_dtype": "float16", "num_labels": 3})).unwrap();
        let labels = ["a".to_owned(), "b".to_owned()];
        let written = read.with_classifier(&labels, Pooling::First).to_json();
        assert_eq!(written["dtype"], "float32");
        assert_eq!(written["problem_type"], "single_label_classification");
        assert!(written.get("torch_dtype").is_none() && written.get("num_labels").is_none());
    }
}
