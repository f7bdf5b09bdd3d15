//! What `--format json` prints, as JSON Schemas (draft 7).

/// The schema of each result: `build` for `jobctl.build/1`.
pub const SCHEMAS: [(&str, &str); 23] = [
    (
        "build",
        include_str!("../../schema/results/build.schema.json"),
    ),
    (
        "build-plan",
        include_str!("../../schema/results/build-plan.schema.json"),
    ),
    (
        "build-verify",
        include_str!("../../schema/results/build-verify.schema.json"),
    ),
    (
        "doctor",
        include_str!("../../schema/results/doctor.schema.json"),
    ),
    (
        "down",
        include_str!("../../schema/results/down.schema.json"),
    ),
    (
        "error",
        include_str!("../../schema/results/error.schema.json"),
    ),
    (
        "event",
        include_str!("../../schema/results/event.schema.json"),
    ),
    (
        "files",
        include_str!("../../schema/results/files.schema.json"),
    ),
    ("get", include_str!("../../schema/results/get.schema.json")),
    (
        "images",
        include_str!("../../schema/results/images.schema.json"),
    ),
    (
        "metrics",
        include_str!("../../schema/results/metrics.schema.json"),
    ),
    (
        "pipeline",
        include_str!("../../schema/results/pipeline.schema.json"),
    ),
    (
        "plot",
        include_str!("../../schema/results/plot.schema.json"),
    ),
    (
        "promote",
        include_str!("../../schema/results/promote.schema.json"),
    ),
    ("ps", include_str!("../../schema/results/ps.schema.json")),
    (
        "pull",
        include_str!("../../schema/results/pull.schema.json"),
    ),
    (
        "push",
        include_str!("../../schema/results/push.schema.json"),
    ),
    (
        "push-plan",
        include_str!("../../schema/results/push-plan.schema.json"),
    ),
    ("run", include_str!("../../schema/results/run.schema.json")),
    (
        "run-plan",
        include_str!("../../schema/results/run-plan.schema.json"),
    ),
    (
        "runs",
        include_str!("../../schema/results/runs.schema.json"),
    ),
    ("up", include_str!("../../schema/results/up.schema.json")),
    (
        "validate",
        include_str!("../../schema/results/validate.schema.json"),
    ),
];
