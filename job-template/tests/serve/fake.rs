//! A model whose answers are known, and a server of it.

use std::cell::Cell;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use finetuning_job::classify::Classify;
use finetuning_job::config::ServingConfig;
use finetuning_job::serve::{
    self, Compute, ConnectionLimits, End, Loaded, ModelInfo, Processor, ServeError, ServeOptions,
};
use finetuning_job::tokenize::Tokenizer;
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
    /// Lets every `wait` go on.
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
pub type Load = Box<dyn FnOnce() -> Result<Loaded<Fake>, Box<dyn Error + Send + Sync>> + Send>;

/// Small limits, so that tests reach them.
pub fn options() -> ServeOptions {
    ServeOptions {
        serving: ServingConfig {
            host: "127.0.0.1".to_owned(),
            port: 0,
            max_batch_tokens: 64,
            max_queue: 8,
            max_text_bytes: 1000,
            max_connections: 64,
            trusted_proxies: Vec::new(),
            grace: Duration::from_secs(20),
        },
        compute: Compute {
            processor: Processor::Gpu,
            set_threads: |threads| THREADS.set(threads),
            on_each_thread: |threads, body| {
                std::thread::scope(|scope| {
                    for thread in 1..threads {
                        scope.spawn(move || body(thread));
                    }
                    body(0);
                });
            },
            hang_time: Duration::from_mins(1),
        },
        connections: ConnectionLimits::new(64),
    }
}

/// Loads a fake.
pub fn load(watched: &Arc<Watched>) -> Load {
    let watched = Arc::clone(watched);
    Box::new(move || {
        Ok(Loaded {
            classifier: Fake { watched },
            tokenizer: tokenizer(),
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
    pub async fn start(options: ServeOptions) -> Self {
        let server = Self::start_with(options, load).await;
        server.until("/readyz", 200).await;
        // What it was tried with.
        server.watched.forget();
        server
    }

    /// A server of what `load` gives, as soon as it listens.
    pub async fn start_with(
        options: ServeOptions,
        load: impl FnOnce(&Arc<Watched>) -> Load,
    ) -> Self {
        let watched = Arc::default();
        let listener = serve::bind(&options.serving).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = mpsc::channel(2);
        let ended = tokio::spawn(serve::serve(listener, options, load(&watched), stopped));
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

fn tokenizer() -> Tokenizer {
    let vocabulary: serde_json::Map<_, _> = WORDS
        .iter()
        .enumerate()
        .map(|(id, word)| ((*word).to_owned(), id.into()))
        .collect();
    let file = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "Replace", "pattern": {"String": "\u{1}"}, "content": ""},
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    Tokenizer::open(folder.path(), MOST_TOKENS, WORDS.len()).unwrap()
}
