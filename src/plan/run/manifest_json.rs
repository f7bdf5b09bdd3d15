//! A job as JSON, as `jobs.yaml` has it with variables put in. Secrets are in it.

use serde_json::{Map, Value, json};

use crate::manifest::Located;
use crate::manifest::schema::{
    Build, CaBundle, EnvFileFormat, Healthcheck, Job, LogMetric, Metrics, Need, Output, Resources,
    Retry, RetryCause, Variables,
};

/// A job, with the keys that it has in the order of the schema.
pub(super) fn job_json(job: &Job) -> Value {
    let mut keys = Keys::default();
    keys.add("build", job.build.as_ref().map(build));
    keys.text("image", job.image.as_ref());
    keys.add(
        "command",
        job.command.as_deref().map(|command| json!(command.0)),
    );
    let entrypoint = job.entrypoint.as_deref();
    keys.add("entrypoint", entrypoint.map(|words| json!(words.0)));
    keys.text("user", job.user.as_ref());
    keys.text("working_dir", job.working_dir.as_ref());
    keys.add(
        "gpus",
        job.gpus.as_deref().map(|gpus| json!(gpus.0.to_string())),
    );
    keys.list(
        "env_file",
        job.env_file.0.iter().map(|file| {
            let mut keys = Keys::default();
            keys.text("path", Some(&file.path));
            keys.add(
                "format",
                file.format.map(|format| match format {
                    EnvFileFormat::Raw => json!("raw"),
                    EnvFileFormat::Compose => json!("compose"),
                }),
            );
            keys.add("required", file.required.map(Value::from));
            keys.value()
        }),
    );
    keys.map("environment", variables(&job.environment));
    keys.list("sensitive", job.sensitive.iter().map(text));
    keys.map(
        "inputs",
        job.inputs.iter().map(|(name, input)| {
            let mut keys = Keys::default();
            keys.text("source", Some(&input.value.source));
            keys.text("target", Some(&input.value.target));
            (name.to_string(), keys.value())
        }),
    );
    let outputs = job.outputs.iter();
    keys.map(
        "outputs",
        outputs.map(|(name, output)| (name.to_string(), self::output(&output.value))),
    );
    keys.add("metrics", job.metrics.as_ref().map(metrics));
    keys.add("resources", job.resources.as_ref().map(resources));
    keys.text("timeout", job.timeout.as_ref());
    keys.add("retry", job.retry.as_deref().map(retry));
    keys.list("volumes", job.volumes.iter().map(text));
    keys.text("network", job.network.as_ref());
    let needs = job.needs.0.iter();
    keys.map(
        "needs",
        needs.map(|(name, entry)| (name.to_string(), need(&entry.value))),
    );
    keys.add("service", job.service.as_deref().copied().map(Value::from));
    keys.list("ports", job.ports.iter().map(text));
    keys.add("healthcheck", job.healthcheck.as_deref().map(healthcheck));
    keys.text("restart", job.restart.as_ref());
    keys.value()
}

/// The keys of a mapping; those without a value are left out.
#[derive(Default)]
struct Keys(Map<String, Value>);

impl Keys {
    fn add(&mut self, key: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), value);
        }
    }

    fn text<T: ToString>(&mut self, key: &str, value: Option<&Located<T>>) {
        self.add(key, value.map(text));
    }

    fn list(&mut self, key: &str, items: impl Iterator<Item = Value>) {
        let items: Vec<_> = items.collect();
        self.add(key, (!items.is_empty()).then_some(Value::Array(items)));
    }

    fn map(&mut self, key: &str, entries: impl Iterator<Item = (String, Value)>) {
        let entries: Map<_, _> = entries.collect();
        self.add(key, (!entries.is_empty()).then_some(Value::Object(entries)));
    }

    fn value(self) -> Value {
        Value::Object(self.0)
    }
}

fn text<T: ToString>(value: &Located<T>) -> Value {
    Value::String((**value).to_string())
}

fn variables(variables: &Variables) -> impl Iterator<Item = (String, Value)> {
    variables.0.iter().map(|variable| {
        let name = variable.name.to_string();
        let value = variable.value.as_ref();
        (name, value.map_or(Value::Null, text))
    })
}

fn build(build: &Build) -> Value {
    let mut keys = Keys::default();
    keys.text("context", build.context.as_ref());
    keys.text("dockerfile", build.dockerfile.as_ref());
    keys.text("target", build.target.as_ref());
    keys.map("args", variables(&build.args));
    keys.list("secrets", build.secrets.iter().map(text));
    keys.list("requires", build.requires.iter().map(text));
    keys.add(
        "ca_bundle",
        build.ca_bundle.as_deref().map(|bundle| match bundle {
            CaBundle::Host => json!("host"),
            CaBundle::File(path) => json!(path.to_string()),
        }),
    );
    keys.value()
}

fn metrics(metrics: &Metrics) -> Value {
    let mut keys = Keys::default();
    keys.list("files", metrics.files.iter().map(text));
    let log = metrics.log.0.iter();
    keys.map(
        "log",
        log.map(|(name, metric)| match &metric.value {
            LogMetric::Name => (name.to_string(), Value::Null),
            LogMetric::Pattern(pattern) => (name.to_string(), text(pattern)),
        }),
    );
    keys.text("step", metrics.step.as_ref());
    keys.value()
}

fn resources(resources: &Resources) -> Value {
    let mut keys = Keys::default();
    keys.text("cpus", resources.cpus.as_ref());
    keys.text("memory", resources.memory.as_ref());
    keys.text("shm_size", resources.shm_size.as_ref());
    keys.value()
}

fn retry(retry: &Retry) -> Value {
    let mut keys = Keys::default();
    keys.add("attempts", Some(Value::from(*retry.attempts)));
    keys.list(
        "on",
        retry.on.iter().map(|cause| match **cause {
            RetryCause::Infra => json!("infra"),
            RetryCause::Oom => json!("oom"),
            RetryCause::Error => json!("error"),
            RetryCause::Timeout => json!("timeout"),
        }),
    );
    keys.text("backoff", retry.backoff.as_ref());
    keys.value()
}

fn output(output: &Output) -> Value {
    if output.max_size.is_none() && output.optional.is_none() {
        return text(&output.path);
    }
    let mut keys = Keys::default();
    keys.text("path", Some(&output.path));
    keys.text("max_size", output.max_size.as_ref());
    let optional = output.optional.as_deref().copied();
    keys.add("optional", optional.map(Value::from));
    keys.value()
}

fn need(need: &Need) -> Value {
    let mut keys = Keys::default();
    let outputs = need.outputs.iter();
    keys.map(
        "outputs",
        outputs.map(|(name, path)| (name.to_string(), text(&path.value))),
    );
    keys.text("gate", need.gate.as_ref());
    keys.value()
}

fn healthcheck(check: &Healthcheck) -> Value {
    let mut keys = Keys::default();
    keys.add("test", check.test.as_deref().map(|test| json!(test.0)));
    keys.text("interval", check.interval.as_ref());
    keys.text("timeout", check.timeout.as_ref());
    keys.add(
        "retries",
        check.retries.as_deref().copied().map(Value::from),
    );
    keys.text("start_period", check.start_period.as_ref());
    keys.value()
}
