//! Where the metrics of a job are found.

use schemars::JsonSchema;

use crate::manifest::decode::{Decode, Decoder, Entry, Field, Located, Map, decode_table};
use crate::manifest::node::{Kind, Node};
use crate::model::{ContainerPath, MetricName, MetricPattern};

/// Where a job's metrics are found.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Metrics {
    /// JSON files in the container: an object of numbers, or one such object per line (.jsonl).
    #[schemars(default)]
    pub files: Vec<Located<ContainerPath>>,
    /// Metrics in the log: a list of names, each found as `loss=0.5`, `loss: 0.5` or `"loss": 0.5`; or a mapping
    /// of names to regular expressions whose one group is the value (without one, it is found by its name).
    #[schemars(default)]
    pub log: LogMetrics,
    /// A regular expression for the step in the log, whose one group is the number: that of the metrics in the
    /// same line, and in those after it.
    pub step: Option<Located<MetricPattern>>,
}

decode_table!(Metrics, "`metrics`", { files, log, step });

impl Metrics {
    /// Whether no metric can come of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.log.0.is_empty()
    }
}

/// Metrics in the log: a list of names, or a mapping of names to patterns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogMetrics(pub Map<MetricName, LogMetric>);

/// How a metric in the log is found.
#[derive(Debug, Clone, PartialEq)]
pub enum LogMetric {
    /// By its name.
    Name,
    /// By a regular expression.
    Pattern(Located<MetricPattern>),
}

impl Decode for LogMetric {
    /// Nothing at all means the name: `log: { loss: }`.
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if node.kind == Kind::Null {
            return Some(Self::Name);
        }
        Located::decode(node, decoder).map(Self::Pattern)
    }
}

impl Decode for LogMetrics {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let Kind::List(items) = &node.kind else {
            return Map::decode(node, decoder).map(Self);
        };
        let mut metrics = Map::new();
        for item in items {
            let key: Option<Located<MetricName>> = Located::decode(item, decoder);
            if let Some(key) = key {
                let extent = key.span();
                let value = LogMetric::Name;
                metrics.insert((*key).clone(), Entry { key, value, extent });
            }
        }
        Some(Self(metrics))
    }
}

impl Field for LogMetrics {
    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn present(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        Self::decode(node, decoder)
    }
}
