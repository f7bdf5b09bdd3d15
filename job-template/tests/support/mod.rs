//! A small model, reviews for it, and the program itself.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A directory with a small BERT of random weights, reviews, and a place for what comes of them.
pub(crate) struct Project {
    directory: tempfile::TempDir,
}

const GOOD: [&str; 4] = ["great", "lovely", "superb", "moving"];
const BAD: [&str; 4] = ["awful", "boring", "dull", "clumsy"];
const OTHER: [&str; 12] = [
    "the", "film", "was", "plot", "actor", "and", "a", "of", "music", "scene", "long", "story",
];
const HIDDEN: usize = 32;
const WIDE: usize = 64;
const LAYERS: usize = 2;
const POSITIONS: usize = 64;

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.next() as usize % words.len()]
    }
}

fn vocabulary() -> Vec<&'static str> {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ","];
    special
        .into_iter()
        .chain(GOOD)
        .chain(BAD)
        .chain(OTHER)
        .collect()
}

fn tokenizer() -> Value {
    let vocabulary: BTreeMap<_, _> = vocabulary()
        .into_iter()
        .enumerate()
        .map(|(id, word)| (word, id))
        .collect();
    let special = |id: usize, content: &str| {
        json!({
            "id": id, "content": content, "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false,
        })
    };
    json!({
        "version": "1.0",
        // As in real ones, and to be ignored.
        "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {
            "strategy": {"Fixed": 4}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
        },
        "added_tokens": [
            special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]"),
            special(4, "[MASK]"),
        ],
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]},
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary,
        },
    })
}

fn weights() -> Vec<u8> {
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        (
            "embeddings.word_embeddings.weight".into(),
            vec![vocabulary().len(), HIDDEN],
        ),
        (
            "embeddings.position_embeddings.weight".into(),
            vec![POSITIONS, HIDDEN],
        ),
        (
            "embeddings.token_type_embeddings.weight".into(),
            vec![2, HIDDEN],
        ),
        ("embeddings.LayerNorm.weight".into(), vec![HIDDEN]),
        ("embeddings.LayerNorm.bias".into(), vec![HIDDEN]),
        ("pooler.dense.weight".into(), vec![HIDDEN, HIDDEN]),
        ("pooler.dense.bias".into(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        for (name, output, input) in [
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", WIDE, HIDDEN),
            ("output.dense", HIDDEN, WIDE),
        ] {
            let name = format!("encoder.layer.{layer}.{name}");
            shapes.push((format!("{name}.weight"), vec![output, input]));
            shapes.push((format!("{name}.bias"), vec![output]));
        }
        for name in ["attention.output", "output"] {
            let name = format!("encoder.layer.{layer}.{name}.LayerNorm");
            shapes.push((format!("{name}.weight"), vec![HIDDEN]));
            shapes.push((format!("{name}.bias"), vec![HIDDEN]));
        }
    }
    let mut numbers = Numbers(7);
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let start = if name.ends_with("LayerNorm.weight") {
                1.0
            } else {
                0.0
            };
            let bytes = (0..shape.iter().product())
                .flat_map(|_| {
                    let uniform = numbers.next() as f32 / (1_u64 << 31) as f32 - 0.5;
                    (start + uniform * 0.2).to_le_bytes()
                })
                .collect();
            (name, shape, bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (
            name.as_str(),
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    safetensors::serialize(views, None).unwrap()
}

fn reviews(count: usize) -> String {
    let mut numbers = Numbers(3);
    let mut csv = "text,label\n".to_owned();
    for number in 0..count {
        let is_good = number % 2 == 0;
        let mut words = Vec::new();
        for _ in 0..3 + numbers.next() % 15 {
            let opinion = if is_good { &GOOD } else { &BAD };
            let from: &[&str] = if numbers.next().is_multiple_of(3) {
                opinion
            } else {
                &OTHER
            };
            words.push(numbers.pick(from));
        }
        let label = if is_good { "positive" } else { "negative" };
        writeln!(csv, "\"{}, {number}\",{label}", words.join(" ")).unwrap();
    }
    csv
}

/// A tensor of a file.
#[derive(Clone)]
pub(crate) struct Weight {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: Dtype,
    pub(crate) bytes: Vec<u8>,
}

impl Weight {
    pub(crate) fn numbers(&self) -> Vec<f32> {
        assert_eq!(self.dtype, Dtype::F32);
        let numbers = self.bytes.as_chunks::<4>().0.iter();
        numbers.map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }

    /// The same numbers as another kind, each written by `bytes`.
    pub(crate) fn cast<const N: usize>(&mut self, dtype: Dtype, bytes: impl Fn(f32) -> [u8; N]) {
        self.bytes = self.numbers().into_iter().flat_map(bytes).collect();
        self.dtype = dtype;
    }
}

pub(crate) fn read_weights(path: &Path) -> Vec<Weight> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    tensors
        .map(|(name, tensor)| Weight {
            name,
            shape: tensor.shape().to_vec(),
            dtype: tensor.dtype(),
            bytes: tensor.data().to_vec(),
        })
        .collect()
}

pub(crate) fn write_weights(path: &Path, weights: &[Weight]) {
    let views = weights.iter().map(|weight| {
        let view = TensorView::new(weight.dtype, weight.shape.clone(), &weight.bytes);
        (weight.name.as_str(), view.unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

impl Project {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let model = directory.path().join("model");
        fs::create_dir(&model).unwrap();
        let config = json!({
            "model_type": "bert", "hidden_act": "gelu", "hidden_size": HIDDEN,
            "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": WIDE,
            "vocab_size": vocabulary().len(), "max_position_embeddings": POSITIONS,
            "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02,
        });
        fs::write(model.join("config.json"), config.to_string()).unwrap();
        fs::write(model.join("tokenizer.json"), tokenizer().to_string()).unwrap();
        fs::write(model.join("model.safetensors"), weights()).unwrap();
        fs::write(directory.path().join("reviews.csv"), reviews(600)).unwrap();
        Self { directory }
    }

    /// One with a trained model in `out`.
    pub(crate) fn trained() -> Self {
        let project = Self::new();
        stdout(&mut project.job("out", &["train"]));
        project
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program, which writes to `output`, with a recipe that suits the small model.
    pub(crate) fn job(&self, output: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_finetuning-job"));
        command
            .args(arguments)
            .env_clear()
            .env("MODEL", self.path("model"))
            .env("DATA", self.path("reviews.csv"))
            .env("OUTPUT_DIR", self.path(output))
            .env("NUM_MAX_POSITIONS", "32")
            .env("N_EPOCHS", "4")
            .env("LR", "3e-3")
            .env("OMP_NUM_THREADS", "1")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(path)).unwrap()).unwrap()
    }

    pub(crate) fn sha256(&self, path: &str) -> String {
        sha256(&self.path(path))
    }
}

pub(crate) fn sha256(path: &Path) -> String {
    format!("{:x}", Sha256::digest(fs::read(path).unwrap()))
}

/// What a program that must succeed wrote to standard output.
pub(crate) fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
