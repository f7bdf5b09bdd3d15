//! The table of variables.

/// What a variable's value may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Integer { min: u64, max: u64 },
    Number { min: f64, max: f64 },
    Switch,
    Choice(&'static [&'static str]),
    Device,
    Path,
    Text,
    Networks,
}

/// A variable of the environment that the job reads.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it is where it isn't given; empty where that depends on the machine.
    pub default: &'static str,
    pub(super) kind: Kind,
    /// What it does, in a line.
    pub meaning: &'static str,
}

impl Variable {
    /// What its value may be, in words.
    #[must_use]
    pub fn allowed(&self) -> String {
        match self.kind {
            Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Number { min, max } => format!("a number from {min} to {max}"),
            Kind::Switch => "0 or 1".to_owned(),
            Kind::Choice(words) => words.join(", "),
            Kind::Device => "auto, cpu, cuda or cuda:N".to_owned(),
            Kind::Path => "a path".to_owned(),
            Kind::Text => "an address".to_owned(),
            Kind::Networks => {
                "a list of addresses and networks (10.0.0.0/8) with commas between".to_owned()
            }
        }
    }
}

const fn variable(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    meaning: &'static str,
) -> Variable {
    Variable {
        name,
        default,
        kind,
        meaning,
    }
}

const fn integer(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max }
}

const fn number(min: f64, max: f64) -> Kind {
    Kind::Number { min, max }
}

/// Every variable that the job reads, in the order of the README's table.
pub const VARIABLES: &[Variable] = &[
    variable(
        "NUM_TRAIN",
        "5000",
        integer(1, 10_000_000),
        "at most so many reviews to train on",
    ),
    variable(
        "NUM_TEST",
        "5000",
        integer(1, 10_000_000),
        "at most so many held-out reviews to test on",
    ),
    variable(
        "NUM_MAX_POSITIONS",
        "",
        integer(8, 512),
        "tokens of a review that are read; 256, or what the model was trained with",
    ),
    variable(
        "N_EPOCHS",
        "1",
        integer(1, 1000),
        "times that training sees every review",
    ),
    variable("BATCH_SIZE", "8", integer(1, 1024), "reviews per step"),
    variable(
        "VALID_PCT",
        "0.05",
        number(0.0, 0.5),
        "share of the training reviews kept for validation",
    ),
    variable("LR", "6.5e-5", number(0.0, 1.0), "highest learning rate"),
    variable(
        "MAX_NORM",
        "2.0",
        number(0.0, 1e6),
        "gradients longer than this are scaled down; 0: never",
    ),
    variable(
        "WARMUP_PCT",
        "0.1",
        number(0.0, 1.0),
        "share of the steps in which the learning rate rises",
    ),
    variable(
        "WEIGHT_DECAY",
        "0.01",
        number(0.0, 1.0),
        "AdamW's decay; not on biases and normalisations",
    ),
    variable(
        "SEED",
        "1337",
        integer(0, u64::MAX),
        "everything random follows from it",
    ),
    variable(
        "TRAIN_BODY",
        "1",
        Kind::Switch,
        "0: train the head only, on features computed once",
    ),
    variable(
        "OMP_NUM_THREADS",
        "",
        integer(1, 1024),
        "threads that compute; all cores if not given",
    ),
    variable(
        "DEVICE",
        "auto",
        Kind::Device,
        "where to compute; auto: a GPU if there is one",
    ),
    variable(
        "PRECISION",
        "auto",
        Kind::Choice(&["auto", "fp32", "bf16", "int8"]),
        "auto: bf16 on a GPU that has it, fp32 else; int8: on a CPU, not in training",
    ),
    variable(
        "DETERMINISTIC",
        "1",
        Kind::Switch,
        "1: the same weights, bit for bit, every time",
    ),
    variable(
        "MKL_AMD_FIX",
        "auto",
        Kind::Choice(&["auto", "0", "1"]),
        "have MKL take its fast path on AMD too; auto: where AVX2 is",
    ),
    variable(
        "MODEL",
        "",
        Kind::Path,
        "a Hugging Face BERT directory to start from, or to evaluate or serve",
    ),
    variable(
        "DATA",
        "/data/reviews.csv",
        Kind::Path,
        "CSV or JSON Lines, also with gzip, of text,label or review,sentiment",
    ),
    variable(
        "OUTPUT_DIR",
        "/artifacts",
        Kind::Path,
        "where the model and the metrics go",
    ),
    variable("HOST", "0.0.0.0", Kind::Text, "address to serve on"),
    variable("PORT", "8000", integer(1, 65535), "port to serve on"),
    variable(
        "MAX_BATCH_TOKENS",
        "4096",
        integer(8, 1_000_000),
        "tokens that are computed together in serving",
    ),
    variable(
        "MAX_QUEUE",
        "512",
        integer(1, 1_000_000),
        "texts that may wait; more are refused at once",
    ),
    variable(
        "MAX_TEXT_BYTES",
        "65536",
        integer(1, 16_777_216),
        "a longer text is refused",
    ),
    variable(
        "MAX_CONNECTIONS",
        "1024",
        integer(1, 1_000_000),
        "connections at a time; half of them from one client",
    ),
    variable(
        "TRUSTED_PROXIES",
        "",
        Kind::Networks,
        "proxies whose X-Forwarded-For names the client",
    ),
    variable(
        "GRACE_SECONDS",
        "30",
        integer(0, 3600),
        "time to finish what is in flight at the end",
    ),
    variable(
        "LOG_FORMAT",
        "text",
        Kind::Choice(&["text", "json"]),
        "json: each line on standard error is an object, and each request has one",
    ),
];
