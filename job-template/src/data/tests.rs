use std::collections::HashSet;
use std::fmt::Write as _;

use super::*;

fn config(csv: &str, directory: &tempfile::TempDir) -> DataConfig {
    let path = directory.path().join("reviews.csv");
    std::fs::write(&path, csv).unwrap();
    DataConfig {
        path,
        num_train: 100_000,
        num_test: 100_000,
        valid_pct: 0.1,
        max_positions: None,
    }
}

fn try_read(csv: &str) -> Result<Reviews, String> {
    let directory = tempfile::tempdir().unwrap();
    let prefix = format!("{}/", directory.path().display());
    read(&config(csv, &directory), ModelLabels::Base(&[]))
        .map_err(|error| error.to_string().replace(&prefix, ""))
}

fn many(count: usize) -> String {
    (0..count).fold("text,label\n".to_owned(), |mut csv, row| {
        writeln!(
            csv,
            "review number {row},{}",
            ["positive", "negative"][row % 2]
        )
        .unwrap();
        csv
    })
}

#[test]
fn parts_have_their_shares_and_nothing_in_common() {
    let reviews = try_read(&many(5000)).unwrap();
    assert_eq!(reviews.labels, ["negative", "positive"]);
    let parts = [&reviews.train, &reviews.valid, &reviews.test];
    let rows: HashSet<usize> = parts
        .iter()
        .flat_map(|part| part.iter().map(|it| it.row))
        .collect();
    assert_eq!(rows.len(), 5000);
    assert!(
        (900..1100).contains(&reviews.test.len()),
        "{}",
        reviews.test.len()
    );
    assert!(
        (330..470).contains(&reviews.valid.len()),
        "{}",
        reviews.valid.len()
    );
}

#[test]
fn fewer_reviews_are_the_first_of_more() {
    let directory = tempfile::tempdir().unwrap();
    let all = config(&many(1000), &directory);
    let some = DataConfig {
        num_train: 100,
        valid_pct: 0.0,
        ..all.clone()
    };
    let all = DataConfig {
        valid_pct: 0.0,
        ..all
    };
    let read = |config| read(config, ModelLabels::Base(&[])).unwrap();
    let (all, some) = (read(&all), read(&some));
    assert_eq!(all.train[..100], some.train[..]);
}

#[test]
fn what_says_the_same_is_there_once() {
    let mut csv = many(100);
    csv.push_str("REVIEW  number<br />7,negative\n");
    let reviews = try_read(&csv).unwrap();
    assert_eq!((reviews.rows, reviews.duplicates), (101, 1));
}

/// The original job numbered labels in the order of Python's hashes.
#[test]
fn labels_are_numbered_by_name_whatever_their_order_in_the_file() {
    let reversed: Vec<String> = many(200).lines().rev().map(str::to_owned).collect();
    let csv = format!("text,label\n{}", reversed[..200].join("\n"));
    assert_eq!(
        try_read(&csv).unwrap().labels,
        try_read(&many(200)).unwrap().labels
    );
}

#[test]
fn other_names_of_columns_and_labels_are_known() {
    let csv = many(100)
        .replace("text,label", "\u{feff}Review,Sentiment")
        .replace("positive", "1")
        .replace("negative", "0");
    assert_eq!(try_read(&csv).unwrap().labels, ["negative", "positive"]);
}

#[test]
fn files_of_spreadsheets_and_of_windows_read_as_others() {
    let expected = try_read(&many(200)).unwrap();
    let same = |csv: String| {
        let reviews = try_read(&csv).unwrap();
        assert_eq!(
            (&reviews.train, &reviews.test),
            (&expected.train, &expected.test)
        );
        assert_eq!(reviews.warnings, expected.warnings);
    };
    same(format!("\u{feff}{}", many(200).replace('\n', "\r\n")));
    same(many(200).replace('\n', "\r"));
    same(
        many(200)
            .replace("review number", "\"review\n\nnumber")
            .replace(",p", "\",p")
            .replace(",n", "\",n"),
    );
    // All labels have the blank: it is not a label's own.
    same(many(200).replace(',', ", "));
    let quoted =
        try_read(&many(200).replace("review number 7,", "\"he said \"\"no, 7\"\"\",")).unwrap();
    let parts = [quoted.train, quoted.valid, quoted.test].concat();
    assert!(parts.iter().any(|it| it.text == "he said \"no, 7\""));
}

#[test]
fn a_file_that_is_not_there_is_named_with_its_variable() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config("", &directory);
    config.path = directory.path().join("none.csv");
    let error = read(&config, ModelLabels::Base(&[]))
        .unwrap_err()
        .to_string();
    let expected = "none.csv: No such file or directory (os error 2); DATA names the reviews";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn errors_say_where() {
    let error = |csv: &str| try_read(csv).unwrap_err();
    for empty in ["", "\n\n"] {
        assert_eq!(
            error(empty),
            "reviews.csv: line 1: the file is empty; a header `text,label` or \
             `review,sentiment` is needed"
        );
    }
    assert_eq!(
        error("text,stars\na,1\n"),
        "reviews.csv: line 1: no column `label`: the header is `text,stars`; `text,label` or \
         `review,sentiment` is needed"
    );
    assert_eq!(
        error("text,label\na,pos\n\"b\nc\",neg\nd\n"),
        "reviews.csv: line 5: 1 fields, and the header has 2; is the file cut off, or a quote not \
         closed?"
    );
    assert_eq!(
        error("text,label\nwell, well,pos\n"),
        "reviews.csv: line 2: 3 fields, and the header has 2; a text with commas needs quotes around \
         it: \"a, b\",label"
    );
    assert_eq!(
        error("text,label\na,pos\n\"b,neg\nc,pos\n"),
        "reviews.csv: line 3: 1 fields, and the header has 2; is the file cut off, or a quote not \
         closed?"
    );
    assert_eq!(
        error("text,label\na,pos\n ,neg\n"),
        "reviews.csv: line 3: no text; remove the row, or give it one"
    );
    assert_eq!(
        error("text,label\na,pos\n"),
        "reviews.csv: has the label `pos` alone; at least 2 different labels are needed"
    );
    for header in ["text,label", "text,label\r\n"] {
        let message = "reviews.csv: has no reviews, but a header alone";
        assert_eq!(error(header), message);
    }
    assert_eq!(
        error("text,label\na,\nb,NaN\nc, nan \n"),
        "reviews.csv: has no label in any of its 3 rows: all are empty or NaN"
    );
    assert_eq!(
        error("text,label\nb,pos\nc,neg\n"),
        "reviews.csv: its 2 rows leave no review to test on; it needs more rows"
    );
}

/// What a file with these bytes is refused for.
fn refusal(name: &str, bytes: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let config = DataConfig {
        path: directory.path().join(name),
        ..config("", &directory)
    };
    std::fs::write(&config.path, bytes).unwrap();
    let error = read(&config, ModelLabels::Base(&[])).unwrap_err();
    let prefix = format!("{}/", directory.path().display());
    error.to_string().replace(&prefix, "")
}

#[test]
fn other_formats_are_called_what_they_are_with_the_fix() {
    let utf16: Vec<u8> = "text,label\na,pos\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let marked = [b"\xff\xfe", utf16.as_slice()].concat();
    let latin1 = b"text,label\nfine,pos\nM\xfcller,neg\n";
    for (bytes, what, fix) in [
        (
            b"PAR1\0\0".as_slice(),
            "is a Parquet file",
            "pandas.read_parquet",
        ),
        (b"PK\x03\x04", "a workbook of Excel", "as CSV in UTF-8"),
        (b"BZh9", "is compressed with bzip2", "bunzip2"),
        (&marked, "is UTF-16", "iconv -f UTF-16 "),
        (&utf16, "is UTF-16LE", "iconv -f UTF-16LE "),
        (
            latin1,
            "line 3: the byte 0xfc is not UTF-8",
            "iconv -f WINDOWS-1252",
        ),
        (
            "text,label\né".as_bytes().split_last().unwrap().1,
            "line 2: ends within",
            "cut off?",
        ),
        (b" [ {\"text\": 1}]", "is a JSON list", "jq -c '.[]'"),
        (
            b"text\tlabel\na\tb\n",
            "no column `text`",
            "by commas, not by tabs",
        ),
        (
            b"text;label\na;b\n",
            "no column `text`: the header is `text;label`",
            "by commas, not by semicolons",
        ),
        (
            b"id,comment,score\n1,a,b\n",
            "line 1: no column `text`: the header is `id,comment,score`",
            "`text,label` or `review,sentiment` is needed",
        ),
        (
            b"text,label,Label\na,1,2\n",
            "line 1: the columns `label` and `Label` could both be the label",
            "rename one",
        ),
        (
            b"\x1f\x8b\x08\0\0",
            "is compressed with gzip, and damaged or cut off",
            "",
        ),
    ] {
        let error = refusal("reviews", bytes);
        assert!(error.contains(what) && error.contains(fix), "{error}");
    }
}

#[test]
fn json_lines_and_gzip_are_read_as_csv_is() {
    use std::io::Write as _;

    let expected = try_read(&many(300)).unwrap();
    let lines = |text: &str, label: &str| {
        many(300)
            .lines()
            .skip(1)
            .fold(String::new(), |mut all, line| {
                let (said, is) = line.split_once(',').unwrap();
                writeln!(
                    all,
                    "{}",
                    serde_json::json!({text: said, label: is, "id": 7})
                )
                .unwrap();
                all
            })
    };
    let json = try_read(&lines("text", "label")).unwrap();
    assert_eq!(
        (&json.train, &json.labels),
        (&expected.train, &expected.labels)
    );
    assert_eq!(
        try_read(&lines("Review", "sentiment")).unwrap().test,
        expected.test
    );

    let directory = tempfile::tempdir().unwrap();
    let config = config("", &directory);
    // Two members, as `cat a.gz b.gz` gives them.
    let mut bytes = Vec::new();
    for part in many(300).split_inclusive("number 150") {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(part.as_bytes()).unwrap();
        bytes.extend(encoder.finish().unwrap());
    }
    std::fs::write(&config.path, &bytes).unwrap();
    let read = read(&config, ModelLabels::Base(&[])).unwrap();
    assert_eq!((read.train, read.test), (expected.train, expected.test));
    let mut twice = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    twice.write_all(&bytes).unwrap();
    let twice = refusal("reviews.csv.gz", &twice.finish().unwrap());
    assert!(
        twice.ends_with("compressed with gzip twice; call gunzip once"),
        "{twice}"
    );
    let cut = refusal("reviews.csv.gz", &bytes[..bytes.len() - 9]);
    assert!(
        cut.starts_with("reviews.csv.gz: is compressed with gzip, and damaged"),
        "{cut}"
    );
}

#[test]
fn json_labels_may_be_numbers_and_errors_say_where() {
    let stars = (0..100).fold(String::new(), |mut all, row| {
        writeln!(
            all,
            "{{\"text\": \"row {row}\", \"label\": {}}}",
            1 + row % 3
        )
        .unwrap();
        all
    });
    assert_eq!(try_read(&stars).unwrap().labels, ["1", "2", "3"]);
    for (line, message) in [
        (
            "{\"text\": \"x\"}",
            "line 2: no field `label`: it has `text`; `text,label` or",
        ),
        (
            "{\"text\": 5, \"label\": 1}",
            "line 2: the text is 5, and not a string",
        ),
        ("{\"text\": null, \"label\": 1}", "line 2: no text"),
        (
            "{\"text\": \"x\", \"review\": \"y\", \"label\": 1}",
            "line 2: the fields `review` and `text` could both be the text; rename one",
        ),
        (
            "{\"text\": \"x\", \"label\": [1]}",
            "line 2: the label is a list",
        ),
        (
            "nonsense",
            "line 2: not a JSON object, one a line: expected ident at column 2",
        ),
        (
            "{\"text\": \"x\", \"label\": NaN}",
            "line 2: not a JSON object, one a line: expected value at column 24; JSON has no NaN, but \
             null",
        ),
        ("[1]", "line 2: not a JSON object, one a line: invalid type"),
    ] {
        let error = try_read(&format!("{{\"text\": \"a\", \"label\": 1}}\n{line}\n")).unwrap_err();
        assert!(
            error.starts_with(&format!("reviews.csv: {message}")),
            "{error}"
        );
    }
}

#[test]
fn what_looks_wrong_is_a_warning_with_numbers() {
    let mut csv = many(100)
        .replace("number 4,positive", "number 4,Positive")
        .replace("number 6,positive", "number 6, positive ");
    csv.push_str("nobody knows,\nnor this,NaN\nreview number 7,positive\nrare,neutral\n");
    let reviews = try_read(&csv).unwrap();
    assert_eq!(reviews.labels, ["negative", "neutral", "positive"]);
    assert_eq!(
        (
            reviews.unlabelled,
            reviews.contradictions,
            reviews.duplicates
        ),
        (2, 1, 1)
    );
    assert_eq!(
        reviews.warnings,
        [
            "the labels ` positive ` (1), `Positive` (1), `positive` (49) differ in their case or in \
             blanks alone, and are taken as one, `positive`",
            "2 rows without a label (empty or NaN) are left out; the first is on line 102",
            "1 row has a text that another row labels otherwise, as on lines 9 and 104; the first \
             label of a text counts",
            "the label `neutral` has 1 example, on line 105: it can't be both trained on and tested on; \
             add examples, or remove it",
        ]
    );
    let most = many(100).replace("positive", "x").replace("negative", "x");
    let reviews = try_read(&format!("{most}rare,y\nrarer,y\n")).unwrap();
    assert_eq!(
        reviews.warnings,
        [
            "98.0 % of the texts (100 of 102) have the label `x`: compare accuracy with \
          majority_baseline, and see macro_f1"
        ]
    );
    assert!(try_read(&many(100)).unwrap().warnings.is_empty());
}

#[test]
fn texts_that_many_begin_alike_are_split_by_all_of_them() {
    let salutation =
        "Dear Sir or Madam, thank you very much for your message, which we received. ".repeat(2);
    let letters = many(1000).replace("review", &format!("\"{salutation}review"));
    let letters = letters
        .replace(",positive", "\",positive")
        .replace(",negative", "\",negative");
    let reviews = try_read(&letters).unwrap();
    assert!(
        (150..250).contains(&reviews.test.len()),
        "{}",
        reviews.test.len()
    );
    assert_eq!(
        reviews.warnings,
        [
            "1000 texts share their first 100 characters with more than 10 others (1 beginning); which \
          of these are held out follows from a hash of the whole text"
        ]
    );
    // A few are copies of one another, and in one part.
    let copies: Vec<&str> = letters.lines().take(11).collect();
    let few = format!(
        "{}\n{}",
        copies.join("\n"),
        &many(100)["text,label\n".len()..]
    );
    let reviews = try_read(&few).unwrap();
    let is_copy = |it: &&Example| it.text.starts_with("Dear Sir");
    let counts = [&reviews.train, &reviews.valid, &reviews.test]
        .map(|part| part.iter().filter(is_copy).count());
    assert!(counts.contains(&10), "{counts:?}");
    assert!(reviews.warnings.is_empty());
}

#[test]
fn a_label_that_no_text_is_trained_on_with_is_named() {
    let held_out: Vec<usize> = try_read(&many(200)).unwrap().test[..3]
        .iter()
        .map(|example| example.row)
        .collect();
    let csv: Vec<String> = many(200)
        .lines()
        .enumerate()
        .map(|(line, text)| match line.checked_sub(1) {
            Some(row) if held_out.contains(&row) => format!("review number {row},neutral"),
            _ => text.to_owned(),
        })
        .collect();
    assert_eq!(
        try_read(&csv.join("\n")).unwrap().warnings,
        [
            "no text with the label `neutral` is to train on, and 3 to validate or test with: the model can't \
             learn it; add examples"
        ]
    );
}
