//! The job's variables: what they are called, what they may be, and what was given.

mod variables;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use self::variables::Kind;
pub use self::variables::{VARIABLES, Variable};

/// The base weights that the image brings along.
pub const BASE_MODEL: &str = "/model";

/// Tokens of a review that are read, where neither `NUM_MAX_POSITIONS` nor the model says.
pub const DEFAULT_POSITIONS: usize = 256;

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

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// In which numbers to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Whether MKL is told that it runs on an Intel processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MklFix {
    /// Where the processor has AVX2.
    Auto,
    /// Never.
    Off,
    /// Always.
    On,
}

/// All that can be set, as it was set.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which examples are read, and how much of each.
    pub data: DataConfig,
    /// How training goes.
    pub training: TrainingConfig,
    /// Where and how to compute.
    pub compute: ComputeConfig,
    /// How to serve.
    pub serving: ServingConfig,
    /// A model's folder, where one is named.
    pub model: Option<PathBuf>,
    /// Where the model and the metrics go.
    pub output_dir: PathBuf,
}

/// Which examples are read, and how much of each.
#[derive(Debug, Clone)]
pub struct DataConfig {
    /// The CSV file.
    pub path: PathBuf,
    /// At most so many reviews to train on.
    pub num_train: usize,
    /// At most so many reviews to test on.
    pub num_test: usize,
    /// Share of the training reviews that is kept for validation, 0 to 0.5.
    pub valid_pct: f64,
    /// Tokens of a review that are read, with the two special ones; none: [`DEFAULT_POSITIONS`] in
    /// training, then what the model was trained with.
    pub max_positions: Option<usize>,
}

/// How training goes.
#[derive(Debug, Clone)]
pub struct TrainingConfig {
    /// Times that every review is seen.
    pub epochs: usize,
    /// Reviews per step.
    pub batch_size: usize,
    /// Highest learning rate.
    pub lr: f64,
    /// Longest gradient, in the Euclidean norm; none: any.
    pub max_norm: Option<f64>,
    /// Share of the steps in which the learning rate rises, 0 to 1.
    pub warmup_pct: f64,
    /// `AdamW`'s decoupled decay.
    pub weight_decay: f64,
    /// Everything random follows from it.
    pub seed: u64,
    /// Whether the encoder is trained, or the head only.
    pub train_body: bool,
}

/// Where and how to compute.
#[derive(Debug, Clone)]
pub struct ComputeConfig {
    /// Threads that compute.
    pub threads: usize,
    /// The device that is asked for.
    pub device: DeviceChoice,
    /// The numbers that are asked for.
    pub precision: Precision,
    /// Whether equal inputs have to give equal bits.
    pub is_deterministic: bool,
    /// Whether MKL is told that it runs on an Intel processor.
    pub mkl_fix: MklFix,
}

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServingConfig {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on.
    pub port: u16,
    /// Tokens that are computed together.
    pub max_batch_tokens: usize,
    /// Texts that may wait.
    pub max_queue: usize,
    /// Longest text, in bytes.
    pub max_text_bytes: usize,
    /// Connections at a time.
    pub max_connections: usize,
    /// Proxies whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Time to finish what is in flight at the end.
    pub grace: Duration,
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
        let mut values = Values {
            get,
            problems: Vec::new(),
        };
        // It counts before the others can be read.
        values.word("LOG_FORMAT");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let config = Self {
            data: DataConfig {
                path: values.path("DATA").unwrap_or_default(),
                num_train: values.integer("NUM_TRAIN"),
                num_test: values.integer("NUM_TEST"),
                valid_pct: values.number("VALID_PCT"),
                max_positions: values
                    .whole("NUM_MAX_POSITIONS")
                    .map(|positions| positions as usize),
            },
            training: TrainingConfig {
                epochs: values.integer("N_EPOCHS"),
                batch_size: values.integer("BATCH_SIZE"),
                lr: values.number("LR"),
                max_norm: Some(values.number("MAX_NORM")).filter(|norm| *norm > 0.0),
                warmup_pct: values.number("WARMUP_PCT"),
                weight_decay: values.number("WEIGHT_DECAY"),
                seed: values.whole("SEED").unwrap_or_default(),
                train_body: values.switch("TRAIN_BODY"),
            },
            compute: ComputeConfig {
                threads: values
                    .whole("OMP_NUM_THREADS")
                    .map_or(cores, |threads| threads as usize),
                device: values.device("DEVICE"),
                precision: match values.word("PRECISION").as_str() {
                    "fp32" => Precision::Fp32,
                    "bf16" => Precision::Bf16,
                    "int8" => Precision::Int8,
                    _ => Precision::Auto,
                },
                is_deterministic: values.switch("DETERMINISTIC"),
                mkl_fix: match values.word("MKL_AMD_FIX").as_str() {
                    "0" => MklFix::Off,
                    "1" => MklFix::On,
                    _ => MklFix::Auto,
                },
            },
            serving: ServingConfig {
                host: values.text("HOST").unwrap_or_default(),
                port: values.whole("PORT").unwrap_or_default() as u16,
                max_batch_tokens: values.integer("MAX_BATCH_TOKENS"),
                max_queue: values.integer("MAX_QUEUE"),
                max_text_bytes: values.integer("MAX_TEXT_BYTES"),
                max_connections: values.integer("MAX_CONNECTIONS"),
                trusted_proxies: values.networks("TRUSTED_PROXIES"),
                grace: Duration::from_secs(values.whole("GRACE_SECONDS").unwrap_or_default()),
            },
            model: values.path("MODEL"),
            output_dir: values.path("OUTPUT_DIR").unwrap_or_default(),
        };
        if values.problems.is_empty() {
            Ok(config)
        } else {
            Err(InvalidVariables {
                problems: values.problems,
            })
        }
    }
}

/// Reads values, and notes what is wrong with them. What is wrong reads as the default.
struct Values<F> {
    get: F,
    problems: Vec<String>,
}

impl<F: Fn(&str) -> Option<String>> Values<F> {
    /// The variable's value, if `parse` takes it; its default else. None where there is no default.
    fn parsed<T>(&mut self, name: &str, parse: impl Fn(Kind, &str) -> Option<T>) -> Option<T> {
        let variable = VARIABLES
            .iter()
            .find(|variable| variable.name == name)
            .expect("every variable that is read is in the table");
        if let Some(given) = (self.get)(name) {
            let value = given.trim();
            if !value.is_empty() {
                if let Some(parsed) = parse(variable.kind, value) {
                    return Some(parsed);
                }
                self.problems.push(format!(
                    "{name}={value:?}: {name} is {}",
                    variable.allowed()
                ));
            }
        }
        Some(variable.default)
            .filter(|default| !default.is_empty())
            .map(|default| parse(variable.kind, default).expect("defaults are allowed values"))
    }

    fn whole(&mut self, name: &str) -> Option<u64> {
        self.parsed(name, |kind, value| match kind {
            Kind::Integer { min, max } => value
                .parse()
                .ok()
                .filter(|number| (min..=max).contains(number)),
            _ => None,
        })
    }

    fn integer(&mut self, name: &str) -> usize {
        self.whole(name).unwrap_or_default() as usize
    }

    fn number(&mut self, name: &str) -> f64 {
        self.parsed(name, |kind, value| match kind {
            Kind::Number { min, max } => value
                .parse()
                .ok()
                .filter(|number| (min..=max).contains(number)),
            _ => None,
        })
        .unwrap_or_default()
    }

    fn switch(&mut self, name: &str) -> bool {
        self.parsed(name, |_, value| match value {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        })
        .unwrap_or_default()
    }

    fn word(&mut self, name: &str) -> String {
        self.parsed(name, |kind, value| match kind {
            Kind::Choice(words) => words.contains(&value).then(|| value.to_owned()),
            _ => None,
        })
        .unwrap_or_default()
    }

    fn device(&mut self, name: &str) -> DeviceChoice {
        self.parsed(name, |_, value| match value {
            "auto" => Some(DeviceChoice::Auto),
            "cpu" => Some(DeviceChoice::Cpu),
            "cuda" => Some(DeviceChoice::Cuda(0)),
            _ => value
                .strip_prefix("cuda:")?
                .parse()
                .ok()
                .map(DeviceChoice::Cuda),
        })
        .unwrap_or(DeviceChoice::Auto)
    }

    fn networks(&mut self, name: &str) -> Vec<IpNet> {
        let network = |text: &str| -> Option<IpNet> {
            let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
            text.parse().ok().or_else(address)
        };
        self.parsed(name, |_, value| {
            value.split(',').map(|text| network(text.trim())).collect()
        })
        .unwrap_or_default()
    }

    fn path(&mut self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    fn text(&mut self, name: &str) -> Option<String> {
        self.parsed(name, |_, value| Some(value.to_owned()))
    }
}

#[cfg(test)]
mod tests;
