//! `predict`: a model's answers on standard output.

use std::io::{BufRead, Write, stdin, stdout};
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use text_server::Classify;

use super::Failure;
use crate::data::json_line;
use crate::model::Model;
use crate::tokenize::Tokenizer;

/// A line of standard input.
#[derive(Deserialize)]
struct Line {
    text: String,
}

/// Answers for the text, or for each line of standard input.
pub(super) fn predict(
    model: &Model,
    tokenizer: &Tokenizer,
    text: Option<String>,
    as_logits: bool,
) -> Result<ExitCode, Failure> {
    // As serving does. Who asks for logits compares many texts; who asks for probabilities may type, and
    // waits for each answer.
    let batch_size = if as_logits { 8 } else { 1 };
    if let Some(text) = text {
        answer(model, tokenizer, &[text], as_logits)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut texts = (1..).zip(stdin().lock().lines()).map(|(number, line)| {
        let line: Result<Line, _> = json_line(&line?);
        Ok::<_, Failure>(
            line.map_err(|problem| format!("line {number}: {problem}"))?
                .text,
        )
    });
    loop {
        let batch: Vec<String> = texts.by_ref().take(batch_size).collect::<Result<_, _>>()?;
        if batch.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        answer(model, tokenizer, &batch, as_logits)?;
    }
}

/// Computes the texts together, and prints a line for each.
fn answer(
    model: &Model,
    tokenizer: &Tokenizer,
    texts: &[String],
    as_logits: bool,
) -> Result<(), Failure> {
    let mut sequences = Vec::with_capacity(texts.len());
    for text in texts {
        let ids = tokenizer.encode(text)?.ids;
        if ids.is_empty() {
            return Err(format!("the tokenizer finds no token in the text {text:?}").into());
        }
        sequences.push(ids);
    }
    let slices: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
    let mut out = stdout().lock();
    for logits in Classify::logits(model, &slices) {
        let line = if as_logits {
            json!({ "logits": logits })
        } else {
            let scores = model.scores(&logits).into_iter().map(Value::from);
            let labels = model.architecture.labels.iter().cloned();
            Value::Object(labels.zip(scores).collect::<Map<_, _>>())
        };
        writeln!(out, "{line}")?;
    }
    Ok(())
}
