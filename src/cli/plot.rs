//! `jobctl plot`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::{Ending, reach};
use crate::exit::Exit;
use crate::ops::metrics::metrics;
use crate::report::{charts, draw, metrics_failure, metrics_json, png, svg};

/// Draw the metrics of runs, in the terminal, as SVG, or as PNG
///
/// A chart for each metric, with a curve for each run. The engine is asked only about runs that nobody looks after.
#[derive(Debug, Args)]
pub(super) struct PlotArgs {
    /// The runs
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<String>,
    /// Only these metrics; may be repeated
    #[arg(long = "metric", value_name = "NAME")]
    metrics: Vec<String>,
    /// Write this file, whose name ends with .svg or .png
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn exec(args: &PlotArgs, context: &mut Context) -> Ending {
    reach::settle(context)?;
    if let Some(file) = &args.output
        && !file
            .extension()
            .is_some_and(|end| end == "svg" || end == "png")
    {
        let message = format!(
            "`{}` can't be written: plots are SVG or PNG",
            file.display()
        );
        let help = "give it a name that ends with .svg or .png";
        return Ok(context.output.usage(&message, Some(help)));
    }
    let mut found = Vec::new();
    for run in &args.runs {
        match context.find_run(run) {
            Ok(run) => found.push(run),
            Err(diagnostic) => return context.output.failed(&diagnostic),
        }
    }
    let runs = match metrics(&found, &args.metrics) {
        Ok(runs) => runs,
        Err(error) => return context.output.failed(&metrics_failure(&error)),
    };
    let charts = charts(&runs);
    if let Some(file) = &args.output {
        let file = context.environment.current_dir().join(file);
        let drawing = svg(&charts);
        if file.extension().is_some_and(|end| end == "svg") {
            std::fs::write(file, drawing)?;
            return Ok(Exit::Success);
        }
        match png(&drawing) {
            Ok(image) => std::fs::write(file, image)?,
            Err(error) => {
                context.output.unrun(&error.to_string(), Some(error.help()));
                return Ok(Exit::Failed);
            }
        }
        return Ok(Exit::Success);
    }
    let columns = context.columns();
    context.output.styled_result(
        || draw(&charts, columns),
        || {
            let runs: Vec<_> = runs.iter().map(|run| metrics_json(run, true)).collect();
            json!({ "schema": "jobctl.plot/1", "runs": runs })
        },
    )?;
    Ok(Exit::Success)
}
