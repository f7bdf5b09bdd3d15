//! The job's settings: environment variables with their defaults and allowed values, as typed values.
//!
//! Each field is a variable. clap parses them, as it would options of the same names; a field's
//! documentation is its row in the README's table.

mod objective;

use std::error::Error;
use std::fmt::{self, Display};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, ValueEnum};
use ipnet::IpNet;

pub use self::objective::{Metric, Objective};

/// The base weights that the image brings along.
pub const BASE_MODEL: &str = "/model";

/// Tokens of a review that are read, where neither `NUM_MAX_POSITIONS` nor the model says.
pub const DEFAULT_POSITIONS: usize = 256;

const MOST_THREADS: usize = 1024;

/// All that can be set, as it was set.
#[derive(Debug, Clone, clap::Parser)]
#[command(rename_all = "SCREAMING_SNAKE_CASE")]
pub struct Config {
    /// a Hugging Face BERT directory to start from, or to evaluate or serve
    #[arg(long, value_name = "a path")]
    pub model: Option<PathBuf>,
    /// Which reviews are read, and how much of each.
    #[command(flatten)]
    pub data: DataConfig,
    /// where the model and the metrics go
    #[arg(long, default_value = "/artifacts", value_name = "a path")]
    pub output_dir: PathBuf,
    /// How a model is trained.
    #[command(flatten)]
    pub training: TrainingConfig,
    /// Where and how to compute.
    #[command(flatten)]
    pub compute: ComputeConfig,
    /// How to serve.
    #[command(flatten)]
    pub serving: ServingConfig,
    // It is read before all others, whose problems are reported in its form.
    /// json: each line on standard error is an object, and each request has one
    #[arg(long, default_value = "text")]
    pub log_format: LogFormat,
}

/// Which reviews are read, and how much of each.
#[derive(Debug, Clone, Args)]
#[command(rename_all = "SCREAMING_SNAKE_CASE")]
pub struct DataConfig {
    /// CSV or JSON Lines, also with gzip, of text,label or review,sentiment
    #[arg(
        long = "DATA",
        default_value = "/data/reviews.csv",
        value_name = "a path"
    )]
    pub path: PathBuf,
    /// at most so many reviews to train on
    #[arg(long, default_value = "5000", value_parser = integer(1..=10_000_000_usize))]
    pub num_train: usize,
    /// at most so many held-out reviews to test on
    #[arg(long, default_value = "5000", value_parser = integer(1..=10_000_000_usize))]
    pub num_test: usize,
    /// share of the training reviews kept for validation
    #[arg(long, default_value = "0.05", value_parser = number(0.0..=0.5))]
    pub valid_pct: f64,
    /// tokens of a review that are read; 256, or what the model was trained with
    #[arg(long = "NUM_MAX_POSITIONS", value_parser = integer(8..=512_usize))]
    pub max_positions: Option<usize>,
}

/// How a model is trained.
#[derive(Debug, Clone, Args)]
#[command(rename_all = "SCREAMING_SNAKE_CASE")]
pub struct TrainingConfig {
    /// times that training sees every review
    #[arg(long = "N_EPOCHS", default_value = "1", value_parser = integer(1..=1000_usize))]
    pub epochs: usize,
    /// reviews that are computed together
    #[arg(long, default_value = "8", value_parser = integer(1..=1024_usize))]
    pub batch_size: usize,
    /// batches that a step learns from
    #[arg(long, default_value = "1", value_parser = integer(1..=1024_usize))]
    pub gradient_accumulation: usize,
    /// balanced: in the training loss, reviews with rare labels weigh more
    #[arg(long, default_value = "none")]
    pub class_weights: ClassWeights,
    /// also validate after every so many steps; 0: after each epoch only
    #[arg(long, default_value = "0", value_parser = integer(0..=1_000_000_000_usize))]
    pub eval_steps: Option<usize>,
    /// also write a checkpoint after every so many steps; 0: after each epoch only
    #[arg(long, default_value = "0", value_parser = integer(0..=1_000_000_000_usize))]
    pub save_steps: Option<usize>,
    /// keep the model of the best validation, not the last
    #[arg(long, value_parser = Objective::parse)]
    pub best: Option<Objective>,
    /// stop after so many validations without a better BEST, or loss; 0: never
    #[arg(long, default_value = "0", value_parser = integer(0..=1_000_000_usize))]
    pub patience: Option<usize>,
    /// highest learning rate
    #[arg(long, default_value = "6.5e-5", value_parser = number(0.0..=1.0))]
    pub lr: f64,
    /// gradients longer than this are scaled down; 0: never
    #[arg(long, default_value = "2.0", value_parser = number(0.0..=1e6))]
    pub max_norm: Option<f64>,
    /// share of the steps in which the learning rate rises
    #[arg(long, default_value = "0.1", value_parser = number(0.0..=1.0))]
    pub warmup_pct: f64,
    /// AdamW's decay; not on biases and normalizations
    #[arg(long, default_value = "0.01", value_parser = number(0.0..=1.0))]
    pub weight_decay: f64,
    /// everything random follows from it
    #[arg(long, default_value = "1337", value_parser = integer(0..=u64::MAX))]
    pub seed: u64,
    /// 1: write hashes of what each step computes to trace.jsonl
    #[arg(long = "TRACE", default_value = "0", action = ArgAction::Set, value_parser = switch)]
    pub is_traced: bool,
    /// 0: train the head only, on features computed once
    #[arg(long, default_value = "1", action = ArgAction::Set, value_parser = switch)]
    pub train_body: bool,
}

/// Where and how to compute.
#[derive(Debug, Clone, Args)]
#[command(rename_all = "SCREAMING_SNAKE_CASE")]
pub struct ComputeConfig {
    /// threads that compute; all cores if not given
    #[arg(long = "OMP_NUM_THREADS", default_value_t = cores(), hide_default_value = true)]
    #[arg(value_parser = integer(1..=MOST_THREADS))]
    pub threads: usize,
    /// where to compute; auto: a GPU if there is one
    #[arg(long, default_value = "auto", value_parser = DeviceChoice::parse)]
    pub device: DeviceChoice,
    /// auto: bf16 on a GPU that has it, fp32 else; int8: on a CPU, not in training
    #[arg(long, default_value = "auto")]
    pub precision: Precision,
    /// 1: the same weights, bit for bit, every time
    #[arg(long = "DETERMINISTIC", default_value = "1", action = ArgAction::Set)]
    #[arg(value_parser = switch)]
    pub is_deterministic: bool,
    /// have MKL take its fast path on AMD too; auto: where AVX2 is
    #[arg(long = "MKL_AMD_FIX", default_value = "auto")]
    pub mkl_fix: MklFix,
}

/// How to serve.
#[derive(Debug, Clone, Args)]
#[command(rename_all = "SCREAMING_SNAKE_CASE")]
pub struct ServingConfig {
    /// address to serve on
    #[arg(long, default_value = "0.0.0.0", value_name = "an address")]
    pub host: String,
    /// port to serve on
    #[arg(long, default_value = "8000", value_parser = integer(1..=65535_u16))]
    pub port: u16,
    /// tokens that are computed together in serving
    #[arg(long, default_value = "4096", value_parser = integer(8..=1_000_000_usize))]
    pub max_batch_tokens: usize,
    /// texts that may wait; more are refused at once
    #[arg(long, default_value = "512", value_parser = integer(1..=1_000_000_usize))]
    pub max_queue: usize,
    /// a longer text is refused
    #[arg(long, default_value = "65536", value_parser = integer(1..=16_777_216_usize))]
    pub max_text_bytes: usize,
    /// connections at a time; half of them from one client
    #[arg(long, default_value = "1024", value_parser = integer(1..=1_000_000_usize))]
    pub max_connections: usize,
    /// proxies whose X-Forwarded-For names the client
    #[arg(long, value_delimiter = ',', value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,
    /// time to finish what is in flight at the end
    #[arg(long = "GRACE_SECONDS", default_value = "30")]
    #[arg(value_parser = |value: &str| integer(0..=3600)(value).map(Duration::from_secs))]
    pub grace: Duration,
}

/// How much the reviews of each label weigh in the training loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClassWeights {
    /// As many times as there are reviews.
    None,
    /// As much as those of any other label (scikit-learn's `balanced`).
    Balanced,
}

impl ClassWeights {
    /// Whether labels weigh the same.
    #[must_use]
    pub fn are_balanced(self) -> bool {
        self == Self::Balanced
    }
}

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU if there is one.
    Auto,
    /// The processor.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl DeviceChoice {
    fn parse(value: &str) -> Result<Self, String> {
        let index = value.strip_prefix("cuda:").map(str::parse);
        match (value, index) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(Ok(index))) => Ok(Self::Cuda(index)),
            _ => Err("auto, cpu, cuda or cuda:N".to_owned()),
        }
    }
}

impl Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// In which numbers to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// What is best for the device.
    Auto,
    /// IEEE 754 binary32.
    Fp32,
    /// bfloat16, with a binary32 master copy of the weights; on a GPU only.
    Bf16,
    /// 8-bit integers in the encoder's dense layers; on a CPU, and not in training.
    Int8,
}

/// Whether MKL takes its path for Intel processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MklFix {
    /// Where the processor has AVX2.
    Auto,
    /// Never.
    #[value(name = "0")]
    Off,
    /// Always.
    #[value(name = "1")]
    On,
}

/// How the program reports on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// Objects for programs.
    Json,
}

impl ServingConfig {
    /// What the host and the port mean here.
    ///
    /// # Errors
    /// The system doesn't know the host.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        // An IPv6 address is written in brackets in a URL, and without here.
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        Ok((host, self.port).to_socket_addrs()?.collect())
    }
}

/// Everything that is wrong with the variables, a line for each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct InvalidVariables {
    problems: Vec<String>,
}

impl Config {
    /// Reads the variables with `get`, which is given a name. Blanks around a value don't count, and
    /// an empty value is as if it weren't given.
    ///
    /// # Errors
    /// All variables with a value that isn't allowed, each with what is.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidVariables> {
        let mut options = vec![String::new()];
        let mut problems = Vec::new();
        for arg in Self::command().get_arguments() {
            let name = name(arg);
            let value = get(name).unwrap_or_default();
            let value = value.trim();
            if value.is_empty() {
                continue;
            }
            match parse(name, value) {
                Ok(_) => options.push(format!("--{name}={value}")),
                Err(_) => problems.push(format!("{name}={value:?}: {name} is {}", allowed(arg))),
            }
        }
        if !problems.is_empty() {
            return Err(InvalidVariables { problems });
        }
        let matches = Self::command().get_matches_from(options);
        let mut config = Self::from_arg_matches(&matches).expect("each value was parsed before");
        let training = &mut config.training;
        training.max_norm = training.max_norm.filter(|norm| *norm > 0.0);
        for steps in [
            &mut training.eval_steps,
            &mut training.save_steps,
            &mut training.patience,
        ] {
            *steps = steps.filter(|steps| *steps > 0);
        }
        Ok(config)
    }

    /// The variable that a name which isn't one is meant to be, as it seems: the job is run among variables of
    /// others.
    #[must_use]
    pub fn meant(name: &str) -> Option<String> {
        const MOST_EDITS: usize = 2;
        const LEAST_LETTERS: usize = 5;
        let command = Self::command();
        let names: Vec<&str> = command.get_arguments().map(self::name).collect();
        let edits = |known: &str| strsim::damerau_levenshtein(known, name);
        let similar = names.iter().filter(|known| {
            known.len() >= LEAST_LETTERS && !names.contains(&name) && edits(known) <= MOST_EDITS
        });
        let nearest = similar.min_by_key(|known| edits(known));
        nearest.map(|known| (*known).to_owned())
    }

    /// The README's table of variables: the name, the default (none where that depends on the machine or the
    /// model), what is allowed, and the meaning.
    #[must_use]
    pub fn variables() -> Vec<[String; 4]> {
        let row = |arg: &Arg| {
            let default = arg.get_default_values().first();
            let default = default.filter(|_| !arg.is_hide_default_value_set());
            [
                name(arg).to_owned(),
                default.map_or_else(String::new, |value| value.display().to_string()),
                allowed(arg),
                arg.get_help().map(ToString::to_string).unwrap_or_default(),
            ]
        };
        Self::command().get_arguments().map(row).collect()
    }
}

fn name(arg: &Arg) -> &str {
    arg.get_long().expect("each variable is a long option")
}

fn parse(name: &str, value: &str) -> Result<ArgMatches, clap::Error> {
    Config::command().try_get_matches_from([String::new(), format!("--{name}={value}")])
}

/// What a variable may be: one of the possible values, else what its parser says of a value that isn't allowed,
/// else, where all are allowed, what a value is.
fn allowed(arg: &Arg) -> String {
    let possible = arg.get_possible_values();
    if !possible.is_empty() {
        let names: Vec<&str> = possible.iter().map(PossibleValue::get_name).collect();
        return names.join(", ");
    }
    let refused = parse(name(arg), "\0").err();
    let reason = refused.as_ref().and_then(Error::source);
    reason.map_or_else(
        || arg.get_value_names().unwrap_or_default().concat(),
        ToString::to_string,
    )
}

fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Clone,
{
    let allowed = format!("a whole number from {} to {}", range.start(), range.end());
    move |value| in_range(value, &range).ok_or_else(|| allowed.clone())
}

fn number(range: RangeInclusive<f64>) -> impl Fn(&str) -> Result<f64, String> + Clone {
    let allowed = format!("a number from {} to {}", range.start(), range.end());
    move |value| in_range(value, &range).ok_or_else(|| allowed.clone())
}

/// The number, if it is in the range; NaN is in none.
fn in_range<T: FromStr + PartialOrd>(value: &str, range: &RangeInclusive<T>) -> Option<T> {
    value.parse().ok().filter(|number| range.contains(number))
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err("0 or 1".to_owned()),
    }
}

fn network(value: &str) -> Result<IpNet, String> {
    let value = value.trim();
    let address = || value.parse::<IpAddr>().map(IpNet::from);
    let network = value.parse().or_else(|_| address());
    let allowed = "a list of addresses and networks (10.0.0.0/8) with commas between";
    network.map_err(|_| allowed.to_owned())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS))
}

#[cfg(test)]
mod tests;
