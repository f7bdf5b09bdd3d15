#![doc = include_str!("../README.md")]

mod answer;
mod app;
mod batcher;
mod config;
mod connections;
mod error;
mod info;
mod metrics;
mod model;
mod openapi;
mod page;
mod pool;
mod proxies;
mod request;
mod request_id;
mod routes;
mod serve;
mod slots;
mod stream;
mod workers;

pub use self::config::{Compute, Limits, Processor, ServerConfig, Timeouts, max_connections};
pub use self::model::{Classify, Failure, Loaded, ModelInfo, Tokenize, Tokens, sigmoid, softmax};
pub use self::routes::REQUEST_LOG;
pub use self::serve::{End, ForcedEnd, ServeError, runtime, serve, threads};
