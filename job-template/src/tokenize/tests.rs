use std::fs;

use super::*;

const WORDS: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nfilm\nFilm\n##s\nmuller\n很\n";

/// A directory with these files.
fn directory(files: &[(&str, String)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn open(directory: &tempfile::TempDir) -> Result<Tokenizer, String> {
    Tokenizer::open(directory.path(), 8, 10)
        .map_err(|error| error.to_string())
        .map_err(|error| error.replace(&directory.path().display().to_string(), ""))
}

fn words(directory: &tempfile::TempDir, text: &str) -> Vec<String> {
    let tokenizer = open(directory).unwrap();
    let ids = tokenizer.encode(text).unwrap().ids;
    let words = ids.into_iter().map(|id| tokenizer.inner.id_to_token(id));
    words.collect::<Option<_>>().unwrap()
}

#[test]
fn a_vocabulary_alone_is_enough() {
    let lower = directory(&[("vocab.txt", WORDS.to_owned())]);
    let expected = ["[CLS]", "film", "##s", "muller", "很", "[UNK]", "[SEP]"];
    assert_eq!(words(&lower, "FILMS Müller很x"), expected);
    open(&lower).unwrap().check_special_tokens().unwrap();
    // As Windows writes it.
    let crlf = directory(&[("vocab.txt", WORDS.replace('\n', "\r\n"))]);
    assert_eq!(words(&crlf, "films"), words(&lower, "films"));
}

#[test]
fn the_case_is_what_tokenizer_config_json_says() {
    let config = |fields: Value| ("tokenizer_config.json", fields.to_string());
    let vocab = ("vocab.txt", WORDS.to_owned());
    let cased = directory(&[vocab.clone(), config(json!({"do_lower_case": false}))]);
    assert_eq!(
        words(&cased, "Films film"),
        ["[CLS]", "Film", "##s", "film", "[SEP]"]
    );
    // Above what tokenizer.json says, but for a class that takes it as it is.
    let file = String::from_utf8(open(&cased).unwrap().file().unwrap()).unwrap();
    let file = ("tokenizer.json", file);
    for (fields, word) in [
        (
            json!({"do_lower_case": true, "tokenizer_class": "BertTokenizer"}),
            "film",
        ),
        (
            json!({"do_lower_case": true, "tokenizer_class": "PreTrainedTokenizerFast"}),
            "Film",
        ),
        (json!({}), "Film"),
    ] {
        let directory = directory(&[file.clone(), config(fields.clone())]);
        assert_eq!(words(&directory, "Film")[1], word, "{fields}");
        let warned = open(&directory).unwrap().warning().is_some();
        assert_eq!(warned, fields == json!({}), "{fields}");
    }
    let broken = directory(&[vocab, config(json!({"do_lower_case": "no"}))]);
    assert_eq!(
        open(&broken).err().unwrap(),
        "/tokenizer_config.json: `do_lower_case` is \"no\"; true or false is needed"
    );
}

#[test]
fn what_is_written_is_read_as_it_was() {
    let config = json!({"do_lower_case": false, "cls_token": {"content": "[CLS]"}});
    let cased = directory(&[
        ("vocab.txt", WORDS.to_owned()),
        ("tokenizer_config.json", config.to_string()),
    ]);
    let tokenizer = open(&cased).unwrap();
    let written = directory(&[
        (
            "tokenizer.json",
            String::from_utf8(tokenizer.file().unwrap()).unwrap(),
        ),
        ("tokenizer_config.json", tokenizer.config_file().to_string()),
    ]);
    assert_eq!(words(&written, "Films"), words(&cased, "Films"));
    assert_eq!(model_max_length(written.path()).unwrap(), Some(8));
    assert_eq!(open(&written).unwrap().warning(), None);
    assert_eq!(tokenizer.config_file()["mask_token"], "[MASK]");
}

#[test]
fn texts_are_cleaned_as_in_training_once() {
    let plain = directory(&[("vocab.txt", WORDS.to_owned())]);
    let train = |directory: &tempfile::TempDir| {
        let tokenizer = Tokenizer::open_to_train(directory.path(), 8, 10).unwrap();
        String::from_utf8(tokenizer.file().unwrap()).unwrap()
    };
    let trained = directory(&[("tokenizer.json", train(&plain))]);
    // A control character that is a blank to `clean`, and nothing to BERT.
    for text in [
        "film<br />film",
        "film\u{85}film",
        "  film \r\n film\u{2003}",
    ] {
        let cleaned = crate::data::clean(text);
        assert_eq!(cleaned, "film film");
        assert_eq!(
            words(&trained, text),
            ["[CLS]", "film", "film", "[SEP]"],
            "{text:?}"
        );
    }
    assert_eq!(train(&trained), train(&plain), "it is added once");
}

#[test]
fn a_length_without_a_limit_is_none() {
    let config = "{\"model_max_length\": 1000000000000000019884624838656}";
    let unlimited = directory(&[("tokenizer_config.json", config.to_owned())]);
    assert_eq!(model_max_length(unlimited.path()).unwrap(), None);
    let config = "{\"model_max_length\": 1}".to_owned();
    let short = directory(&[("tokenizer_config.json", config)]);
    let error = model_max_length(short.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("`model_max_length` is 1; 8 tokens at least are needed"),
        "{error}"
    );
}

#[test]
fn what_does_not_suit_a_model_is_refused() {
    let vocab = |text: &str| directory(&[("vocab.txt", text.to_owned())]);
    for (directory, message) in [
        (
            directory(&[]),
            "/tokenizer.json: No such file or directory (os error 2); there is no vocab.txt",
        ),
        (
            vocab("a\nb\n"),
            "/vocab.txt: has no word \"[UNK]\"; is it BERT's vocabulary?",
        ),
        (
            vocab(&format!("{WORDS}extra\n")),
            "/vocab.txt: has the word \"extra\" with the id 10, and",
        ),
    ] {
        let error = open(&directory).err().unwrap();
        assert!(error.starts_with(message), "{error}");
    }
    let plain = vocab(WORDS);
    let file = String::from_utf8(open(&plain).unwrap().file().unwrap()).unwrap();
    let mut file: Value = serde_json::from_str(&file).unwrap();
    file["post_processor"] = Value::Null;
    let without = directory(&[("tokenizer.json", file.to_string())]);
    let error = open(&without).unwrap().check_special_tokens().unwrap_err();
    assert!(
        error.to_string().contains("`post_processor` is missing"),
        "{error}"
    );
}

#[test]
fn examples_keep_their_order_on_any_number_of_threads_and_the_first_error_counts() {
    let plain = directory(&[("vocab.txt", WORDS.to_owned())]);
    let examples: Vec<Example> = (0..1000)
        .map(|row| Example {
            row,
            text: "film ".repeat(row % 7) + if row % 300 == 299 { "unknown" } else { "" },
            label: row % 3,
        })
        .collect();
    let on = |tokenizer: &Tokenizer, threads, count| {
        let labelled = tokenize(tokenizer, &examples[..count], threads, "reading");
        labelled
            .map(|it| (it.sequences, it.labels))
            .map_err(|error| error.to_string())
    };
    let tokenizer = open(&plain).unwrap();
    for count in [0, 1, 64, 65, 1000] {
        let (sequences, labels) = on(&tokenizer, 1, count).unwrap();
        for (example, (ids, label)) in examples.iter().zip(sequences.iter().zip(&labels)) {
            assert_eq!(*ids, tokenizer.encode(&example.text).unwrap().ids);
            assert_eq!(*label, example.label);
        }
        assert_eq!(sequences.len(), count);
        for threads in [2, 7, 100] {
            assert_eq!(
                on(&tokenizer, threads, count).unwrap(),
                (sequences.clone(), labels.clone())
            );
        }
    }
    // Without a token for them, words that are not known are errors.
    let mut file: Value = serde_json::from_slice(&tokenizer.file().unwrap()).unwrap();
    file["model"]["unk_token"] = json!("[NONE]");
    let strict = open(&directory(&[("tokenizer.json", file.to_string())])).unwrap();
    assert!(on(&strict, 4, 299).is_ok());
    for threads in [1, 2, 7] {
        let error = on(&strict, threads, 1000).unwrap_err();
        assert!(error.starts_with("the text in row 299: "), "{error}");
    }
}
