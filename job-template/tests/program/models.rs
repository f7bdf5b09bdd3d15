//! Folders of BERT as people have them: other names, other numbers, other files, other labels. The right
//! answer is that of transformers, with which `check --full` compares; here, that of the same weights.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;

use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::support::{Project, Weight, read_weights, stderr, stdout, write_weights};

const TEXT: &str = "a great plot, and a dull scene";

/// A project with a trained model in `out`.
fn trained() -> Project {
    let project = Project::new();
    stdout(project.job("out", &["train"]).env("N_EPOCHS", "1"));
    project
}

/// Copies a model's directory, changes it, and gives its name.
fn variant<'a>(
    project: &Project,
    from: &str,
    name: &'a str,
    change: impl FnOnce(&mut Vec<Weight>, &mut Value),
) -> &'a str {
    let directory = project.path(name);
    fs::create_dir(&directory).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        let _ = fs::copy(project.path(from).join(file), directory.join(file));
    }
    let mut weights = read_weights(&project.path(from).join("model.safetensors"));
    let mut config = project.json(&format!("{from}/config.json"));
    change(&mut weights, &mut config);
    write_weights(&directory.join("model.safetensors"), &weights);
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    name
}

fn predict(project: &Project, directory: &str, arguments: &[&str]) -> Result<Value, String> {
    let mut job = project.job("unused", &[&["predict", TEXT][..], arguments].concat());
    let output = job.env("MODEL", project.path(directory)).output().unwrap();
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        let prefix = format!("{}/", project.path("").display());
        Err(stderr(&output).replace(prefix.trim_end_matches('/'), ""))
    }
}

fn logits(project: &Project, directory: &str) -> Vec<f64> {
    let answer = predict(project, directory, &["--logits"]).unwrap();
    let logits = answer["logits"].as_array().unwrap().iter();
    logits.map(|logit| logit.as_f64().unwrap()).collect()
}

fn assert_close(left: &[f64], right: &[f64], tolerance: f64) {
    assert_eq!(left.len(), right.len());
    let pairs = left.iter().zip(right);
    assert!(
        pairs
            .clone()
            .all(|(left, right)| (left - right).abs() < tolerance),
        "{left:?} and {right:?}"
    );
}

fn rename(weights: &mut [Weight], from: &str, to: &str) {
    for weight in weights {
        weight.name = weight.name.replacen(from, to, 1);
    }
}

/// What makes a variant of a model.
type Change = fn(&mut Vec<Weight>);

#[test]
fn the_same_weights_by_other_names_and_in_other_numbers_are_the_same_model() {
    let project = trained();
    let expected = logits(&project, "out");
    let exact: [(&str, Change); 4] = [
        ("no-prefix", |weights| rename(weights, "bert.", "")),
        ("gamma-beta", |weights| {
            rename(weights, "LayerNorm.weight", "LayerNorm.gamma");
            rename(weights, "LayerNorm.bias", "LayerNorm.beta");
        }),
        ("f64", |weights| {
            for weight in weights {
                weight.cast(Dtype::F64, |number| f64::from(number).to_le_bytes());
            }
        }),
        ("others", |weights| {
            for name in ["cls.predictions.bias", "bert.embeddings.position_ids"] {
                let mut weight = weights[0].clone();
                weight.name = name.to_owned();
                weights.push(weight);
            }
        }),
    ];
    for (name, change) in exact {
        variant(&project, "out", name, |weights, _| change(weights));
        assert_eq!(logits(&project, name), expected, "{name}");
    }
    variant(&project, "out", "f16", |weights, _| {
        for weight in weights {
            weight.cast(Dtype::F16, |number| {
                half::f16::from_f32(number).to_le_bytes()
            });
        }
    });
    assert_close(&logits(&project, "f16"), &expected, 0.02);
    variant(&project, "out", "bf16", |weights, _| {
        for weight in weights {
            weight.cast(Dtype::BF16, |number| {
                half::bf16::from_f32(number).to_le_bytes()
            });
        }
    });
    assert_close(&logits(&project, "bf16"), &expected, 0.2);
}

#[test]
fn weights_in_several_files_are_one_model() {
    let project = trained();
    variant(&project, "out", "sharded", |_, _| ());
    let directory = project.path("sharded");
    let weights = read_weights(&directory.join("model.safetensors"));
    let (first, second) = weights.split_at(weights.len() / 3);
    let files = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    let mut map = serde_json::Map::new();
    for (file, weights) in files.iter().zip([first, second]) {
        write_weights(&directory.join(file), weights);
        map.extend(
            weights
                .iter()
                .map(|weight| (weight.name.clone(), json!(file))),
        );
    }
    fs::remove_file(directory.join("model.safetensors")).unwrap();
    let index = directory.join("model.safetensors.index.json");
    let write = |map: &serde_json::Map<String, Value>| {
        fs::write(
            &index,
            json!({"metadata": {}, "weight_map": map}).to_string(),
        )
        .unwrap();
    };
    write(&map);
    assert_eq!(logits(&project, "sharded"), logits(&project, "out"));
    // It is a base as well.
    stdout(
        project
            .job("again", &["train"])
            .env("MODEL", &directory)
            .env("N_EPOCHS", "1"),
    );

    let refused = |message: &str| {
        let error = predict(&project, "sharded", &[]).unwrap_err();
        assert!(error.contains(message), "{error}");
    };
    let mut elsewhere = map.clone();
    elsewhere["classifier.bias"] = json!("../out/model.safetensors");
    write(&elsewhere);
    refused(
        "`classifier.bias` is in \"../out/model.safetensors\", which is not the name of a file",
    );
    let mut lacking = map.clone();
    lacking.insert("more".to_owned(), json!(files[0]));
    write(&lacking);
    refused("model-00001-of-00002.safetensors: has no tensor `more`, which");
    write(&map);
    let second = directory.join(files[1]);
    let whole = fs::read(&second).unwrap();
    fs::write(&second, &whole[..whole.len() - 1]).unwrap();
    refused("model-00002-of-00002.safetensors: damaged");
    fs::remove_file(&second).unwrap();
    refused("model-00002-of-00002.safetensors: No such file");
    fs::write(&index, "{}").unwrap();
    refused("model.safetensors.index.json: not an index of weights: missing field `weight_map`");
}

#[test]
fn pickled_weights_are_refused_with_the_line_that_converts_them() {
    let project = trained();
    variant(&project, "out", "pickled", |_, _| ());
    let directory = project.path("pickled");
    fs::rename(
        directory.join("model.safetensors"),
        directory.join("pytorch_model.bin"),
    )
    .unwrap();
    let error = predict(&project, "pickled", &[]).unwrap_err();
    assert!(
        error.contains("pytorch_model.bin: pickled weights are not read"),
        "{error}"
    );
    assert!(
        error.contains("in that directory: python3 -c \"import glob, torch; "),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn a_pooler_is_needed_only_to_classify() {
    let project = trained();
    let drop_pooler = |weights: &mut Vec<Weight>, _: &mut Value| {
        weights.retain(|weight| !weight.name.contains("pooler"));
    };
    variant(&project, "model", "base", drop_pooler);
    let output = project
        .job("from-base", &["train"])
        .env("MODEL", project.path("base"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("the model has no pooler, and gets a new one"));
    assert!(
        project.json("from-base/metrics.json")["accuracy"]
            .as_f64()
            .unwrap()
            > 0.9
    );
    variant(&project, "out", "classifier", drop_pooler);
    let error = predict(&project, "classifier", &[]).unwrap_err();
    assert!(
        error.contains("/classifier: has a classifier but no pooler"),
        "{error}"
    );
    // A half of it is damage.
    variant(&project, "model", "half", |weights, _| {
        weights.retain(|weight| weight.name != "pooler.dense.bias");
    });
    let mut job = project.job("from-half", &["train"]);
    let output = job.env("MODEL", project.path("half")).output().unwrap();
    assert!(stderr(&output).contains("has no tensor `bert.pooler.dense.bias`"));
}

/// The classifier's weights and bias.
fn classifier(project: &Project, directory: &str) -> Vec<Vec<f32>> {
    let mut weights = read_weights(&project.path(directory).join("model.safetensors"));
    weights.retain(|weight| weight.name.starts_with("classifier."));
    weights.sort_by(|left, right| left.name.cmp(&right.name));
    weights.iter().map(Weight::numbers).collect()
}

#[test]
fn a_classifier_of_the_same_labels_is_kept_and_another_is_replaced() {
    let project = trained();
    let train = |output: &str, model: &str| {
        let mut job = project.job(output, &["train"]);
        // Nothing is learned, so that what is written is what it began with.
        job.env("MODEL", project.path(model))
            .env("LR", "0")
            .env("N_EPOCHS", "1");
        let output = job.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    assert!(!train("kept", "out").contains("replaced"));
    assert_eq!(classifier(&project, "kept"), classifier(&project, "out"));

    // The order is the model's own.
    variant(&project, "out", "reversed", |_, config| {
        config["id2label"] = json!({"0": "positive", "1": "negative"});
    });
    assert!(!train("kept-reversed", "reversed").contains("replaced"));
    assert_eq!(
        project.json("kept-reversed/config.json")["id2label"]["0"],
        "positive"
    );
    assert_eq!(
        classifier(&project, "kept-reversed"),
        classifier(&project, "out")
    );

    variant(&project, "out", "three", |weights, config| {
        config["id2label"] = json!({"0": "a", "1": "b", "2": "c"});
        for weight in weights
            .iter_mut()
            .filter(|weight| weight.name.starts_with("classifier."))
        {
            weight.shape[0] = 3;
            weight
                .bytes
                .resize(weight.shape.iter().product::<usize>() * 4, 0);
        }
    });
    variant(&project, "out", "renamed", |_, config| {
        config["id2label"] = json!({"0": "bad", "1": "good"});
    });
    for (model, before) in [("three", "a, b, c"), ("renamed", "bad, good")] {
        let output = format!("from-{model}");
        let said = train(&output, model);
        let expected = format!(
            "the model's classifier is for other labels ({before}), and is replaced by a new one \
             (negative, positive)"
        );
        assert!(said.contains(&expected), "{said}");
        let new = classifier(&project, &output);
        assert_eq!(new[0], [0.0; 2], "a new classifier has no bias");
        assert_ne!(new[1], classifier(&project, "out")[1]);
        assert_eq!(
            new,
            classifier(&project, "from-three"),
            "it follows from the seed"
        );
    }
}

#[test]
fn labels_without_names_are_called_as_transformers_calls_them() {
    let project = trained();
    variant(&project, "out", "unnamed", |_, config| {
        for field in ["id2label", "label2id"] {
            config.as_object_mut().unwrap().remove(field);
        }
    });
    let answer = predict(&project, "unnamed", &[]).unwrap();
    let labels: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(labels, ["LABEL_0", "LABEL_1"]);
    variant(&project, "out", "reserved", |_, config| {
        config["id2label"] = json!({"0": "truncated", "1": "whole"});
    });
    let error = predict(&project, "reserved", &[]).unwrap_err();
    assert!(
        error.contains("`id2label`: a label is called \"truncated\""),
        "{error}"
    );
}

#[test]
fn each_label_of_several_has_a_probability_of_its_own() {
    let project = trained();
    let problem = |name, problem: &str| {
        variant(&project, "out", name, |_, config| {
            config["problem_type"] = json!(problem);
        });
        predict(&project, name, &[])
    };
    let multi = problem("multi", "multi_label_classification").unwrap();
    let logits = logits(&project, "out");
    for (label, logit) in ["negative", "positive"].iter().zip(logits) {
        let sigmoid = 1.0 / (1.0 + (-logit).exp());
        assert!(
            (multi[label].as_f64().unwrap() - sigmoid).abs() < 1e-6,
            "{multi}"
        );
    }
    let mut job = project.job("unused", &["evaluate"]);
    let output = job.env("MODEL", project.path("multi")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("\"multi_label_classification\", and the reviews have one"));
    let error = problem("regression", "regression").unwrap_err();
    assert!(
        error.contains("`problem_type` is \"regression\"; models that give labels"),
        "{error}"
    );
    let error = problem("ranking", "ranking").unwrap_err();
    assert!(
        error.contains("/ranking/config.json: `problem_type` is \"ranking\"; "),
        "{error}"
    );
}

#[test]
fn activations_of_other_names_are_computed_in_training_and_in_int8_too() {
    let project = Project::new();
    for activation in ["gelu_new", "gelu_pytorch_tanh", "relu"] {
        let base = format!("base-{activation}");
        variant(&project, "model", &base, |_, config| {
            config["hidden_act"] = json!(activation);
        });
        let output = format!("out-{activation}");
        stdout(
            project
                .job(&output, &["train"])
                .env("MODEL", project.path(&base)),
        );
        let accuracy = project.json(&format!("{output}/metrics.json"))["accuracy"].clone();
        assert!(accuracy.as_f64().unwrap() > 0.9, "{activation}: {accuracy}");
        assert_eq!(
            project.json(&format!("{output}/config.json"))["hidden_act"],
            activation
        );
        let exact = predict(&project, &output, &[]).unwrap();
        let mut job = project.job("unused", &["predict", TEXT]);
        job.env("MODEL", project.path(&output))
            .env("PRECISION", "int8");
        let rounded: Value = serde_json::from_str(&stdout(&mut job)).unwrap();
        let apart = exact["positive"].as_f64().unwrap() - rounded["positive"].as_f64().unwrap();
        assert!(apart.abs() < 0.05, "{activation}: {exact} and {rounded}");
    }
}

#[test]
fn a_vocabulary_alone_gives_the_same_tokens() {
    let project = trained();
    variant(&project, "out", "vocab", |_, _| ());
    let tokenizer = project.json("out/tokenizer.json");
    let mut words: Vec<(u64, &String)> = tokenizer["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(word, id)| (id.as_u64().unwrap(), word))
        .collect();
    words.sort_unstable();
    let vocab: String = words
        .into_iter()
        .flat_map(|(_, word)| [word, "\n"])
        .collect();
    fs::write(project.path("vocab/vocab.txt"), vocab).unwrap();
    fs::remove_file(project.path("vocab/tokenizer.json")).unwrap();
    assert_eq!(logits(&project, "vocab"), logits(&project, "out"));
    stdout(
        project
            .job("from-vocab", &["train"])
            .env("MODEL", project.path("vocab")),
    );
    let config = project.json("from-vocab/tokenizer_config.json");
    assert_eq!(config["model_max_length"], 32);
    assert_eq!(config["tokenizer_class"], "PreTrainedTokenizerFast");
}

#[test]
fn layers_that_the_model_does_not_have_are_named() {
    let project = trained();
    variant(&project, "out", "short", |_, config| {
        config["num_hidden_layers"] = json!(1);
    });
    for arguments in [&["predict", TEXT][..], &["train"]] {
        let mut job = project.job("from-short", arguments);
        let output = job.env("MODEL", project.path("short")).output().unwrap();
        assert!(output.status.success());
        let warning =
            "warning: the weights have 2 layers, and `num_hidden_layers` of config.json is 1: ";
        assert!(stderr(&output).contains(warning), "{}", stderr(&output));
    }
}
