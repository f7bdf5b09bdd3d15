//! What the server counts, in Prometheus's text format.
//!
//! Follows the exposition format 0.0.4. Labels come from the routes and the statuses, so their
//! number is bounded whatever clients send.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
const TEXTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
const TOKENS: &[f64] = &[16.0, 64.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0, 65536.0];

/// What the server counts.
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    seconds: Histogram,
    batch_texts: Histogram,
    batch_tokens: Histogram,
    tokens: AtomicU64,
    pub(crate) in_flight: AtomicI64,
    pub(crate) model_restarts: AtomicU64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            requests: Mutex::default(),
            seconds: Histogram::new(SECONDS),
            batch_texts: Histogram::new(TEXTS),
            batch_tokens: Histogram::new(TOKENS),
            tokens: AtomicU64::new(0),
            in_flight: AtomicI64::new(0),
            model_restarts: AtomicU64::new(0),
        }
    }

    /// Counts a request that was answered.
    pub(crate) fn answered(&self, route: &str, status: u16, took: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route.to_owned(), status)).or_default() += 1;
        drop(requests);
        self.seconds.observe(took.as_secs_f64());
    }

    /// Counts a batch that was computed.
    pub(crate) fn computed(&self, texts: usize, tokens: usize) {
        self.batch_texts.observe(texts as f64);
        self.batch_tokens.observe(tokens as f64);
        self.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
    }

    /// All of it as text; `waiting` texts wait just now.
    pub(crate) fn render(&self, waiting: usize) -> String {
        let mut page = Page(String::new());
        page.head("job_requests_total", "counter", "Requests answered.");
        for ((route, status), count) in self
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            page.line(
                "job_requests_total",
                &format!("route={route:?},status=\"{status}\""),
                count,
            );
        }
        page.histogram(
            "job_request_duration_seconds",
            "Time to answer a request.",
            &self.seconds,
        );
        page.histogram(
            "job_batch_texts",
            "Texts computed together.",
            &self.batch_texts,
        );
        page.histogram(
            "job_batch_tokens",
            "Tokens computed together.",
            &self.batch_tokens,
        );
        page.single(
            "job_tokens_total",
            "counter",
            "Tokens computed.",
            load(&self.tokens),
        );
        page.single(
            "job_queue_texts",
            "gauge",
            "Texts that wait for the model.",
            waiting,
        );
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        page.single(
            "job_requests_in_flight",
            "gauge",
            "Requests being answered.",
            in_flight,
        );
        let restarts = load(&self.model_restarts);
        page.single(
            "job_model_restarts_total",
            "counter",
            "Panics of the model.",
            restarts,
        );
        page.head(
            "job_build_info",
            "gauge",
            "The program that runs; always 1.",
        );
        page.line(
            "job_build_info",
            concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""),
            1,
        );
        page.0
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// How many observations were at most so high.
struct Histogram {
    bounds: &'static [f64],
    counted: Mutex<Counted>,
}

#[derive(Debug, Clone)]
struct Counted {
    /// Observations up to each bound and above the one before; the last: above all.
    buckets: Vec<u64>,
    sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        let counted = Counted {
            buckets: vec![0; bounds.len() + 1],
            sum: 0.0,
        };
        Self {
            bounds,
            counted: Mutex::new(counted),
        }
    }

    fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.buckets[bucket] += 1;
        counted.sum += value;
    }
}

/// The text so far.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn line(&mut self, name: &str, labels: &str, value: impl fmt::Display) {
        self.write(format_args!("{name}{{{labels}}} {value}\n"));
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl fmt::Display) {
        self.head(name, kind, help);
        self.write(format_args!("{name} {value}\n"));
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let counted = histogram
            .counted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut count = 0;
        for (bucket, observations) in counted.buckets.iter().enumerate() {
            count += observations;
            let bound = histogram
                .bounds
                .get(bucket)
                .map_or("+Inf".to_owned(), f64::to_string);
            self.line(&format!("{name}_bucket"), &format!("le=\"{bound}\""), count);
        }
        self.write(format_args!(
            "{name}_sum {}\n{name}_count {count}\n",
            counted.sum
        ));
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("a string takes all text");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_include_their_bound() {
        let metrics = Metrics::new();
        metrics.computed(1, 16);
        metrics.computed(3, 17);
        metrics.answered("/inference", 200, Duration::from_millis(5));
        let text = metrics.render(7);
        for line in [
            "job_batch_texts_bucket{le=\"1\"} 1",
            "job_batch_texts_bucket{le=\"2\"} 1",
            "job_batch_texts_bucket{le=\"4\"} 2",
            "job_batch_texts_bucket{le=\"+Inf\"} 2",
            "job_batch_texts_sum 4",
            "job_batch_tokens_bucket{le=\"16\"} 1",
            "job_tokens_total 33",
            "job_queue_texts 7",
            "job_requests_total{route=\"/inference\",status=\"200\"} 1",
            "job_request_duration_seconds_bucket{le=\"0.005\"} 1",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
