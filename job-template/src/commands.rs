//! The program's commands. They are of the library, so that the program itself is but linked.

use std::error::Error;
use std::io::{BufRead, BufWriter, Read, Write, stdin, stdout};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{BASE_MODEL, Config, DEFAULT_POSITIONS, ServingConfig, VARIABLES};
use crate::data::ModelLabels;
use crate::evaluate;
use crate::model::{Model, Problem};
use crate::progress::{Progress, say};
use crate::runtime::{self, Runtime};
use crate::serve::serve;
use crate::stop::{Stop, TERMINATED};
use crate::tokenize::Tokenizer;
use crate::train::{self, Outcome};
use crate::{data, files, log};
use clap::{Parser, Subcommand};
use serde_json::{Map, Value, json};
use text_server::Classify;

type Failure = Box<dyn Error + Send + Sync>;

/// Fine-tunes a BERT-like transformer to tell the sentiment of film reviews, and serves it.
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
    /// Tells the sentiment of a text
    Predict {
        /// The text; without it, lines of JSON are read: {"text": "…"}
        text: Option<String>,
        /// Print the logits instead of probabilities
        #[arg(long)]
        logits: bool,
    },
    /// Tells by its exit code whether the server on this machine is ready
    Health,
    /// Lists the variables that are read
    Variables,
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before all variables are read: what is wrong with them is reported in the same form.
    log::start(std::env::var("LOG_FORMAT").is_ok_and(|format| format.trim() == "json"));
    let is_list = matches!(
        arguments.command,
        Some(Command::Predict { .. } | Command::Variables)
    );
    runtime::report_out_of_memory(|| match run(arguments.command) {
        Ok(code) => code,
        // `variables | head` is no failure.
        Err(error) if is_list && is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            log::fail(&error.to_string());
            ExitCode::FAILURE
        }
    })
}

/// Whether nobody reads any more what is written.
fn is_broken_pipe(error: &Failure) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run(command: Option<Command>) -> Result<ExitCode, Failure> {
    if let Some(Command::Variables) = command {
        return variables();
    }
    let config = Config::read(|name| std::env::var(name).ok())?;
    if let Some(Command::Health) = command {
        return Ok(health(&config.serving));
    }
    let runtime = Runtime::start(&config.compute)?;
    // Gradients are computed by the model itself.
    let _guard = tch::no_grad_guard();
    match command {
        Some(Command::Train) => train(&config, &runtime, &*Stop::listen()?),
        Some(Command::Evaluate) => evaluate(&config, &runtime),
        Some(Command::Predict { text, logits }) => predict(&config, &runtime, text, logits),
        Some(Command::Serve) => serve(config, &runtime, None, read_model),
        _ => train_and_serve(config, &runtime),
    }
}

fn train(config: &Config, runtime: &Runtime, stop: &Stop) -> Result<ExitCode, Failure> {
    match train::train(config, runtime, stop)? {
        Outcome::Done(report) => {
            let mut out = stdout();
            writeln!(
                out,
                "accuracy={:.4} loss={:.4}",
                report.accuracy, report.loss
            )?;
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

/// The folder of the fine-tuned model: the one named, else what training wrote, else the base.
fn model_folder(config: &Config) -> PathBuf {
    config.model.clone().unwrap_or_else(|| {
        if train::is_trained(&config.output_dir) {
            config.output_dir.clone()
        } else {
            PathBuf::from(BASE_MODEL)
        }
    })
}

/// Reads a fine-tuned model and its tokenizer.
fn read_model(config: &Config, runtime: &Runtime) -> Result<(Model, Tokenizer), Failure> {
    let folder = model_folder(config);
    let model = Model::load(&folder)?;
    train::check_weights(&folder, &model.sha256)?;
    if !model.has_classifier {
        return Err(format!(
            "{}: has no classifier: these are base weights. Train first, or name a trained \
             model's directory in MODEL",
            folder.display()
        )
        .into());
    }
    if !model.has_pooler {
        return Err(format!(
            "{}: has a classifier but no pooler, as models that label tokens have it; texts can't be \
             classified with it. To train it for that, name it in MODEL, and train",
            folder.display()
        )
        .into());
    }
    let config_file = folder.join("config.json");
    if model.architecture.problem == Problem::Regression {
        return Err(format!(
            "{}: `problem_type` is \"regression\"; models that give labels are supported: \
             single_label_classification and multi_label_classification",
            config_file.display()
        )
        .into());
    }
    data::check_label_names(&model.architecture.labels)
        .map_err(|problem| format!("{}: `id2label`: {problem}", config_file.display()))?;
    let trained = train::trained_positions(&folder)?;
    let positions = config.data.max_positions.or(trained);
    if let (Some(positions), Some(trained)) = (positions, trained)
        && train::is_trained_here(&folder)
        && positions != trained
    {
        say(&format!(
            "warning: NUM_MAX_POSITIONS={positions}: the model was trained with {trained}"
        ));
    }
    let most = model.architecture.max_positions as usize;
    let positions = positions.unwrap_or(DEFAULT_POSITIONS).min(most);
    let tokenizer = Tokenizer::open(&folder, positions, model.architecture.vocab_size as usize)?;
    tokenizer.check_special_tokens()?;
    if let Some(warning) = tokenizer.warning() {
        say(&format!("warning: {warning}"));
    }
    Ok((model.prepare(runtime), tokenizer))
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
    files::make_folder(&config.output_dir)?;
    let test = train::tokenize(&tokenizer, &reviews.test, "reading test reviews")?;
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
    writeln!(
        stdout(),
        "accuracy={:.4} loss={:.4}",
        report.accuracy,
        report.loss
    )?;
    Ok(ExitCode::SUCCESS)
}

fn predict(
    config: &Config,
    runtime: &Runtime,
    text: Option<String>,
    as_logits: bool,
) -> Result<ExitCode, Failure> {
    /// Lines that are computed together, as serving does. Who asks for logits compares many; who
    /// asks for probabilities may type, and waits for each answer.
    const TOGETHER: usize = 8;
    let (model, tokenizer) = read_model(config, runtime)?;
    let mut out = BufWriter::new(stdout());
    let mut answer = |texts: &[String]| -> Result<(), Failure> {
        let mut sequences = Vec::with_capacity(texts.len());
        for text in texts {
            let ids = tokenizer.encode(text)?.ids;
            if ids.is_empty() {
                return Err(format!("the tokenizer finds no token in the text {text:?}").into());
            }
            sequences.push(ids);
        }
        let slices: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        for logits in Classify::logits(&model, &slices) {
            let line = if as_logits {
                json!({ "logits": logits })
            } else {
                let labels = model.architecture.labels.iter().cloned();
                let shares = model.scores(&logits).into_iter().map(Value::from);
                Value::Object(labels.zip(shares).collect::<Map<_, _>>())
            };
            writeln!(out, "{line}")?;
        }
        out.flush()?;
        Ok(())
    };
    if let Some(text) = text {
        answer(&[text])?;
        return Ok(ExitCode::SUCCESS);
    }
    let together = if as_logits { TOGETHER } else { 1 };
    let mut texts = (1..)
        .zip(stdin().lock().lines())
        .map(|(number, line)| text_of(number, &line?));
    loop {
        let batch = texts
            .by_ref()
            .take(together)
            .collect::<Result<Vec<_>, _>>()?;
        if batch.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        answer(&batch)?;
    }
}

/// The text of a line of JSON.
fn text_of(number: usize, line: &str) -> Result<String, Failure> {
    let line: Value =
        serde_json::from_str(line).map_err(|error| format!("line {number}: not JSON: {error}"))?;
    let text = line.get("text").and_then(Value::as_str);
    Ok(text
        .ok_or_else(|| format!("line {number}: no `text`"))?
        .to_owned())
}

/// Asks the server that has these variables, on this machine, whether it is ready.
fn health(serving: &ServingConfig) -> ExitCode {
    const PATIENCE: Duration = Duration::from_secs(3);
    let ask = |address: &SocketAddr| -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut start = [0; 12];
        stream.read_exact(&mut start)?;
        Ok(start.ends_with(b" 200"))
    };
    let outcome = serving.addresses().and_then(|addresses| {
        let mut last = None;
        for address in addresses {
            match ask(&reachable(address)) {
                Ok(is_ready) => return Ok(is_ready),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| std::io::ErrorKind::AddrNotAvailable.into()))
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            say("not ready");
            ExitCode::FAILURE
        }
        Err(error) => {
            let (host, port) = (&serving.host, serving.port);
            say(&format!("no answer on HOST={host} PORT={port}: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Where a server that listens on this address is reached from this machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// The table of the README.
fn variables() -> Result<ExitCode, Failure> {
    let mut out = stdout();
    writeln!(
        out,
        "| variable | default | allowed | meaning |\n|---|---|---|---|"
    )?;
    for variable in VARIABLES {
        let (name, default) = (variable.name, variable.default);
        writeln!(
            out,
            "| {name} | {default} | {} | {} |",
            variable.allowed(),
            variable.meaning
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
