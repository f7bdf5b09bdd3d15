//! A model whose answers are known, and a server of it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use text_server::{
    Classify, Compute, End, Failure, Limits, Loaded, ModelInfo, Processor, ServeError,
    ServerConfig, Tokens,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// The tokens that a text may have.
pub const MOST_TOKENS: usize = 16;

/// The words that the tokenizer knows; their ids are their places.
const WORDS: &[&str] = &["[UNK]", "good", "bad", "panic", "nan", "infinite", "wait"];

thread_local! {
    static THREADS: Cell<usize> = const { Cell::new(0) };
}

/// What the model was asked, and how to hold it up.
#[derive(Default)]
pub struct Watched {
    /// For each batch, the threads and the lengths of its texts.
    batches: watch::Sender<Vec<(usize, Vec<usize>)>>,
    /// Whether every text makes it panic.
    pub is_broken: AtomicBool,
    /// The niceness of the thread that computed last.
    pub niceness: AtomicI32,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Watched {
    /// Lets every `wait` continue.
    pub fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    /// Forgets the batches that were computed.
    pub fn forget(&self) {
        self.batches.send_modify(Vec::clear);
    }

    /// The batches, once there are so many.
    pub async fn batches(&self, number: usize) -> Vec<(usize, Vec<usize>)> {
        let mut batches = self.batches.subscribe();
        batches
            .wait_for(|batches| batches.len() >= number)
            .await
            .unwrap()
            .clone()
    }
}

/// The calling thread's.
pub fn niceness() -> i32 {
    rustix::process::getpriority_process(None).unwrap()
}

/// Counts `good` against `bad`. Some words make it fail, or wait.
pub struct Fake {
    watched: Arc<Watched>,
}

impl Classify for Fake {
    fn logits(&self, batch: &[&[u32]]) -> Vec<Vec<f32>> {
        self.watched.niceness.store(niceness(), Ordering::Relaxed);
        let lengths = batch.iter().map(|ids| ids.len()).collect();
        self.watched
            .batches
            .send_modify(|batches| batches.push((THREADS.get(), lengths)));
        let is_broken = self.watched.is_broken.load(Ordering::Relaxed);
        assert!(!is_broken, "the test says so");
        batch.iter().map(|ids| self.row(ids)).collect()
    }

    fn share(&self) -> Self {
        Self {
            watched: Arc::clone(&self.watched),
        }
    }
}

impl Fake {
    fn row(&self, ids: &[u32]) -> Vec<f32> {
        let mut score = 0.0;
        for id in ids {
            match WORDS[*id as usize] {
                "good" => score += 1.0,
                "bad" => score -= 1.0,
                "panic" => panic!("the text says so"),
                "nan" => score = f32::NAN,
                "infinite" => score = f32::INFINITY,
                "wait" => {
                    let is_open = self.watched.is_open.lock().unwrap();
                    drop(
                        self.watched
                            .opened
                            .wait_while(is_open, |is_open| !*is_open)
                            .unwrap(),
                    );
                }
                _ => {}
            }
        }
        vec![score, -score]
    }
}

/// A server of the fake.
pub struct Server {
    pub address: SocketAddr,
    pub watched: Arc<Watched>,
    pub stop: mpsc::Sender<()>,
    pub ended: JoinHandle<Result<End, ServeError>>,
}

/// Loads a model.
pub type Load = Box<dyn FnOnce() -> Result<Loaded<Fake>, Failure> + Send>;

/// Small limits, so that tests reach them.
pub fn config() -> ServerConfig {
    let compute = Compute {
        processor: Processor::Gpu,
        set_threads: |threads| THREADS.set(threads),
        ..Compute::on_std_threads(1)
    };
    let mut config = ServerConfig::new("1.2.3", compute);
    config.timeouts.grace = Duration::from_secs(20);
    config.limits = Limits {
        batch_tokens: 64,
        queue_texts: 8,
        text_bytes: 1000,
        connections: 64,
    };
    config
}

/// Loads a fake.
pub fn load(watched: &Arc<Watched>) -> Load {
    let watched = Arc::clone(watched);
    Box::new(move || {
        Ok(Loaded {
            classifier: Fake { watched },
            tokenize: Box::new(tokenize),
            info: info(&["positive", "negative"]),
        })
    })
}

/// What is known of a fake with these labels.
pub fn info(labels: &[&str]) -> ModelInfo {
    ModelInfo {
        sha256: "5f0c".repeat(16),
        labels: labels.iter().map(ToString::to_string).collect(),
        device: "cpu".to_owned(),
        precision: "fp32",
        text_tokens: MOST_TOKENS,
    }
}

impl Server {
    /// A server that is ready.
    pub async fn start(config: ServerConfig) -> Self {
        let server = Self::start_with(config, load).await;
        server.until("/readyz", 200).await;
        // What it was tried with.
        server.watched.forget();
        server
    }

    /// A server of what `load` gives, as soon as it listens.
    pub async fn start_with(
        config: ServerConfig,
        load: impl FnOnce(&Arc<Watched>) -> Load,
    ) -> Self {
        let watched = Arc::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = mpsc::channel(2);
        let ended = tokio::spawn(text_server::serve(
            listener,
            config,
            load(&watched),
            stopped,
        ));
        Self {
            address,
            watched,
            stop,
            ended,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.watched.open();
        self.ended.abort();
    }
}

/// A word is a token; U+0001 is nothing, U+0002 an error, U+0003 a panic.
fn tokenize(text: &str) -> Result<Tokens, Failure> {
    if text.contains('\u{2}') {
        return Err("U+0002 is no text".into());
    }
    assert!(!text.contains('\u{3}'), "the text says so");
    let text = text.replace('\u{1}', "");
    let mut words = text.split_whitespace();
    let id = |word| WORDS.iter().position(|known| *known == word);
    let ids = words.by_ref().take(MOST_TOKENS);
    let ids = ids
        .map(|word| id(word).unwrap_or_default() as u32)
        .collect();
    Ok(Tokens {
        ids,
        is_truncated: words.next().is_some(),
    })
}
