//! The program's commands. They are of the library, so that the program itself is but linked.

mod health;
mod predict;

use std::error::Error;
use std::io::{self, Write, stdout};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::json;

use crate::config::Config;
use crate::data::ModelLabels;
use crate::evaluate::{self, Report};
use crate::load::read_model;
use crate::model::Problem;
use crate::progress::{Progress, say};
use crate::runtime::{self, Runtime};
use crate::serve::serve;
use crate::stop::{Stop, TERMINATED};
use crate::tokenize::tokenize;
use crate::train::{self, Outcome};
use crate::{data, files, log};

type Failure = Box<dyn Error + Send + Sync>;

/// Fine-tunes a BERT-like transformer to predict the sentiment of film reviews, and serves it.
#[derive(Parser)]
#[command(version, after_help = "Without a command: train, then serve.")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
#[expect(
    clippy::doc_markdown,
    reason = "the documentation is the help that is printed"
)]
enum Command {
    /// Trains a model and writes it to OUTPUT_DIR
    Train,
    /// Tests a model on the reviews that are held out
    Evaluate,
    /// Answers over HTTP
    Serve,
    /// Predicts the sentiment of a text
    Predict {
        /// The text; without it, lines of JSON are read: {"text": "…"}
        text: Option<String>,
        /// Print the logits instead of probabilities
        #[arg(long)]
        logits: bool,
    },
    /// Exits with 0 if the server on this machine is ready
    Health,
    /// Lists the variables that are read
    Variables,
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let is_list = matches!(command, Some(Command::Predict { .. } | Command::Variables));
    // Before all variables are read: what is wrong with them is reported in the same form.
    log::start(std::env::var("LOG_FORMAT").is_ok_and(|format| format.trim() == "json"));
    runtime::report_out_of_memory(|| {
        run(command).unwrap_or_else(|error| {
            // `variables | head` is no failure.
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            if is_list && kind == Some(io::ErrorKind::BrokenPipe) {
                return ExitCode::SUCCESS;
            }
            log::fail(&error.to_string());
            ExitCode::FAILURE
        })
    })
}

fn run(command: Option<Command>) -> Result<ExitCode, Failure> {
    if let Some(Command::Variables) = command {
        return variables();
    }
    let config = Config::read(|name| std::env::var(name).ok())?;
    if let Some(Command::Health) = command {
        return Ok(health::health(&config.serving));
    }
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for (name, meant) in names.filter_map(|name| Config::meant(&name).map(|meant| (name, meant))) {
        say(&format!(
            "warning: {name} is not read; did you mean {meant}?"
        ));
    }
    let runtime = Runtime::start(&config.compute)?;
    // libtorch records nothing for its automatic differentiation: the model's own code computes gradients.
    let _guard = tch::no_grad_guard();
    match command {
        Some(Command::Train) => train(&config, &runtime, &*Stop::listen()?),
        Some(Command::Evaluate) => evaluate(&config, &runtime),
        Some(Command::Predict { text, logits }) => {
            let (model, tokenizer) = read_model(&config, &runtime)?;
            predict::predict(&model, &tokenizer, text, logits)
        }
        Some(Command::Serve) => serve(config, &runtime, None, read_model),
        _ => train_and_serve(config, &runtime),
    }
}

fn train(config: &Config, runtime: &Runtime, stop: &Stop) -> Result<ExitCode, Failure> {
    match train::train(config, runtime, stop)? {
        Outcome::Done(report) => {
            print(&report)?;
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Stopped => Ok(ExitCode::from(TERMINATED)),
    }
}

/// Trains, then serves what was trained.
fn train_and_serve(config: Config, runtime: &Runtime) -> Result<ExitCode, Failure> {
    let stop = Stop::listen()?;
    let trained = train(&config, &runtime.without_int8(), &stop)?;
    if trained != ExitCode::SUCCESS {
        return Ok(trained);
    }
    let model = Some(config.output_dir.clone());
    serve(Config { model, ..config }, runtime, Some(&stop), read_model)
}

fn evaluate(config: &Config, runtime: &Runtime) -> Result<ExitCode, Failure> {
    let (model, tokenizer) = read_model(config, runtime)?;
    if model.architecture.problem == Problem::MultiLabel {
        return Err(
            "the model's `problem_type` is \"multi_label_classification\", and the reviews have one \
             label each; predict and serve are for such a model, evaluate is not"
                .into(),
        );
    }
    let labels = ModelLabels::Tested(&model.architecture.labels);
    let reviews = data::read(&config.data, labels)?;
    for warning in &reviews.warnings {
        say(&format!("warning: {warning}"));
    }
    files::make_directory(&config.output_dir)?;
    let test = tokenize(
        &tokenizer,
        &reviews.test,
        runtime.threads,
        "reading test reviews",
    )?;
    let mut progress = Progress::new("testing", test.labels.len(), 0);
    let logits = model.logits_of_all(&test.sequences, |count| progress.advance(count, ""));
    drop(progress);
    let report = evaluate::report(&logits, &test.labels, &reviews.labels);
    let eval = json!({
        "accuracy": report.accuracy,
        "loss": report.loss,
        "macro_f1": report.macro_f1,
        "majority_baseline": report.majority_baseline,
        "test": report,
        "model_sha256": model.sha256,
        "data_sha256": reviews.sha256,
        "precision": runtime.precision(),
    });
    files::write_json(&config.output_dir.join("eval.json"), &eval)?;
    print(&report)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what was written already.
fn print(report: &Report) -> Result<(), String> {
    let Report { accuracy, loss, .. } = report;
    writeln!(stdout(), "accuracy={accuracy:.4} loss={loss:.4}")
        .map_err(|error| format!("standard output: {error}; all files are written"))
}

/// The table of the README.
fn variables() -> Result<ExitCode, Failure> {
    let mut out = stdout();
    writeln!(out, "| variable | default | allowed | meaning |")?;
    writeln!(out, "|---|---|---|---|")?;
    for row in Config::variables() {
        writeln!(out, "| {} |", row.join(" | "))?;
    }
    Ok(ExitCode::SUCCESS)
}
