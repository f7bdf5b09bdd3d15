//! The rules a manifest can break, by name.

use crate::diagnostic::Diagnostic;

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A rule of `jobs.yaml`. Each has at least one example in `tests/it/invalid/`, named
        /// after it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rule {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Rule {
            /// All rules.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name shown in brackets behind `error`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What the rule says, for the reference.
            #[must_use]
            pub const fn summary(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+),)+
                }
            }
        }
    };
}

rules! {
    /// The manifest, and files that it names, are there and can be read.
    Unreadable = "unreadable",
    /// The manifest and env files are UTF-8.
    NotUtf8 = "not-utf8",
    /// The manifest is at most 1 MiB.
    TooLarge = "too-large",
    /// The manifest must not be empty.
    EmptyFile = "empty-file",
    /// The manifest is YAML 1.2.
    YamlSyntax = "yaml-syntax",
    /// The manifest is one YAML document.
    MultipleDocuments = "multiple-documents",
    /// Nesting and aliases are bounded.
    TooComplex = "too-complex",
    /// Keys are texts.
    KeyNotText = "key-not-text",
    /// A key is given once.
    DuplicateKey = "duplicate-key",
    /// Keys are those of the schema, or begin with `x-`.
    UnknownKey = "unknown-key",
    /// A key has an effect: features that are still to come are refused.
    NotSupported = "not-supported",
    /// Required keys are there.
    MissingKey = "missing-key",
    /// A key that is there has a value.
    EmptyValue = "empty-value",
    /// A value is of the kind that its key takes.
    WrongType = "wrong-type",
    /// A value reads as its kind demands.
    InvalidValue = "invalid-value",
    /// A variable that a value uses is set, or has a default.
    UnsetVariable = "unset-variable",
    /// A variable in a value is spelt `${NAME}`.
    VariableSyntax = "variable-syntax",
    /// A job that is named is defined.
    UnknownJob = "unknown-job",
    /// A base image that is named is defined.
    UnknownImage = "unknown-image",
    /// A secret that is named is defined.
    UnknownSecret = "unknown-secret",
    /// An output that is named is one of that job's.
    UnknownOutput = "unknown-output",
    /// Jobs do not need each other in a circle.
    JobCycle = "job-cycle",
    /// Images do not require each other in a circle.
    ImageCycle = "image-cycle",
    /// A job builds its image or names one.
    NoImage = "no-image",
    /// A job does not both build and name its image.
    TwoImages = "two-images",
    /// A base image is pulled or built.
    ImageSource = "image-source",
    /// A secret comes from one place: a variable or a file.
    SecretSource = "secret-source",
    /// What looks like a secret is no build argument and no literal.
    LiteralSecret = "literal-secret",
    /// Variables put secrets only into `environment`, `command` and a health check's `test`.
    ExposedSecret = "exposed-secret",
    /// A secret that is defined is used.
    UnusedSecret = "unused-secret",
    /// Ports and health checks are for services.
    NotAService = "not-a-service",
    /// A service has no timeout, retries or outputs.
    ServiceKey = "service-key",
    /// A path in the container is used for one thing.
    PathConflict = "path-conflict",
    /// A job whose metrics are judged declares some.
    NoMetrics = "no-metrics",
    /// A metric that is judged is one that its job declares.
    UnknownMetric = "unknown-metric",
    /// The step in the log is that of metrics in the log.
    UnusedStep = "unused-step",
    /// A host port is published once by a job, and by one service.
    PortConflict = "port-conflict",
    /// Ports are published by what has a network.
    UnreachablePort = "unreachable-port",
    /// An image that takes its whole context leaves out what is no part of the job: the repository's own
    /// files, the manifest, the state of jobctl.
    WholeContext = "whole-context",
    /// Files that a build needs are there.
    MissingFile = "missing-file",
    /// A line of an env file is `NAME=value`, a name alone, or a comment.
    EnvSyntax = "env-syntax",
    /// Quotes have a meaning in compose's env files only, and are closed there.
    EnvQuote = "env-quote",
    /// In docker's env files, blanks around a value belong to it.
    EnvBlank = "env-blank",
    /// In docker's env files, comments are lines of their own.
    EnvComment = "env-comment",
    /// Lines of an env file end with a line feed.
    EnvLineEnd = "env-line-end",
    /// An env file gives a variable once.
    EnvDuplicate = "env-duplicate",
    /// A variable that an env file takes from the caller is set there.
    EnvUnset = "env-unset",
    /// Env files, and the variables in them, have a size that Linux can pass to a program.
    EnvSize = "env-size",
}

impl Rule {
    /// An error that breaks this rule.
    pub(crate) fn error(self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.name(), message)
    }

    /// A warning about this rule.
    pub(crate) fn warning(self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(self.name(), message)
    }
}
