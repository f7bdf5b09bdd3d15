//! What the server counts, for Prometheus.
//!
//! Labels come from the routes and the statuses, so their number is bounded whatever clients send.

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
const TEXTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
const TOKENS: &[f64] = &[16.0, 64.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0, 65536.0];

/// What the server counts.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    inference_seconds: Histogram,
    queue_seconds: Histogram,
    batch_seconds: Histogram,
    batch_texts: Histogram,
    batch_tokens: Histogram,
    tokens: IntCounter,
    queue_texts: IntGauge,
    requests_in_flight: IntGauge,
    /// Held by each request that is being answered.
    in_flight: Arc<()>,
    pub(crate) model_restarts: IntCounter,
}

impl Metrics {
    pub(crate) fn new(version: &str) -> Self {
        let registry = Registry::new();
        let histogram = |name, help, buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            add(&registry, Histogram::with_opts(options))
        };
        let request_seconds = HistogramOpts::new(
            "job_request_duration_seconds",
            "Time to answer a request, whatever the answer, by route.",
        )
        .buckets(SECONDS.to_vec());
        let build = Opts::new("job_build_info", "The program that runs; always 1.")
            .const_label("version", version);
        add(&registry, IntGauge::with_opts(build)).set(1);
        Self {
            requests: add(
                &registry,
                IntCounterVec::new(
                    Opts::new("job_requests_total", "Requests answered."),
                    &["route", "status"],
                ),
            ),
            request_seconds: add(&registry, HistogramVec::new(request_seconds, &["route"])),
            inference_seconds: histogram(
                "job_inference_duration_seconds",
                "Time from a request's texts to their answers: tokenizing, waiting and computing.",
                SECONDS,
            ),
            queue_seconds: histogram(
                "job_queue_duration_seconds",
                "Time that a text waits for the model.",
                SECONDS,
            ),
            batch_seconds: histogram(
                "job_batch_duration_seconds",
                "Time to compute a batch.",
                SECONDS,
            ),
            batch_texts: histogram("job_batch_texts", "Texts computed together.", TEXTS),
            batch_tokens: histogram("job_batch_tokens", "Tokens computed together.", TOKENS),
            tokens: add(
                &registry,
                IntCounter::new("job_tokens_total", "Tokens computed."),
            ),
            queue_texts: add(
                &registry,
                IntGauge::new("job_queue_texts", "Texts that wait for the model."),
            ),
            requests_in_flight: add(
                &registry,
                IntGauge::new("job_requests_in_flight", "Requests being answered."),
            ),
            model_restarts: add(
                &registry,
                IntCounter::new("job_model_restarts_total", "Panics of the model."),
            ),
            in_flight: Arc::default(),
            registry,
        }
    }

    /// Counts a request as in flight until the result is dropped.
    pub(crate) fn in_flight(&self) -> Arc<()> {
        Arc::clone(&self.in_flight)
    }

    /// Counts a request that was answered.
    pub(crate) fn answered(&self, route: &str, status: u16, took: Duration) {
        self.requests
            .with_label_values(&[route, &status.to_string()])
            .inc();
        self.request_seconds
            .with_label_values(&[route])
            .observe(took.as_secs_f64());
    }

    /// Counts a request whose texts the model answered.
    pub(crate) fn inferred(&self, took: Duration) {
        self.inference_seconds.observe(took.as_secs_f64());
    }

    /// Counts a text that is computed now, after it waited.
    pub(crate) fn waited(&self, waited: Duration) {
        self.queue_seconds.observe(waited.as_secs_f64());
    }

    /// Counts a batch that was computed.
    pub(crate) fn computed(&self, texts: usize, tokens: usize, took: Duration) {
        self.batch_seconds.observe(took.as_secs_f64());
        self.batch_texts.observe(texts as f64);
        self.batch_tokens.observe(tokens as f64);
        self.tokens.inc_by(tokens as u64);
    }

    /// All of it in Prometheus's text format 0.0.4; `waiting` texts wait now.
    pub(crate) fn render(&self, waiting: usize) -> String {
        self.queue_texts.set(waiting as i64);
        let in_flight = Arc::strong_count(&self.in_flight) - 1;
        self.requests_in_flight.set(in_flight as i64);
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("what was registered can be written")
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> C {
    let metric = metric.expect("names and labels are well-formed");
    registry
        .register(Box::new(metric.clone()))
        .expect("each name is there once");
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_in_the_text() {
        let metrics = Metrics::new("1.2.3");
        let took = Duration::from_millis(5);
        metrics.computed(1, 16, took);
        metrics.computed(3, 17, took);
        metrics.answered("/inference", 200, took);
        metrics.answered("/livez", 200, Duration::ZERO);
        metrics.inferred(took);
        let text = metrics.render(7);
        for line in [
            "job_build_info{version=\"1.2.3\"} 1",
            "job_batch_texts_bucket{le=\"1\"} 1",
            "job_batch_texts_bucket{le=\"4\"} 2",
            "job_batch_texts_bucket{le=\"+Inf\"} 2",
            "job_batch_texts_sum 4",
            "job_batch_tokens_bucket{le=\"16\"} 1",
            "job_batch_duration_seconds_count 2",
            "job_tokens_total 33",
            "job_queue_texts 7",
            "job_requests_total{route=\"/inference\",status=\"200\"} 1",
            "job_request_duration_seconds_bucket{route=\"/inference\",le=\"0.005\"} 1",
            "job_request_duration_seconds_count{route=\"/livez\"} 1",
            "job_inference_duration_seconds_count 1",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
