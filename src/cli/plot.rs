//! `jobctl plot`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::context::Context;
use super::{Ending, reach};
use crate::exit::Exit;
use crate::ops::metrics::metrics;
use crate::report::{PlotX, charts, draw, metrics_failure, plot_json, plots, png, svg};

/// Plot the metrics of runs, in the terminal, as SVG or PNG
///
/// A chart for each metric, with a curve for each run. Curves are drawn over the step that the program reports
/// with its metrics: `step` or `epoch` in a file of metrics, or what `metrics.step` of jobs.yaml finds in the
/// log; without one, over the order of the values. The engine is asked only about runs without a supervisor.
#[derive(Debug, Args)]
pub(super) struct PlotArgs {
    /// The runs
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<String>,
    /// Only these metrics; may be repeated
    #[arg(long = "metric", value_name = "NAME")]
    metrics: Vec<String>,
    /// What the curves are drawn over: the step (else the order of the values), the seconds since the run's
    /// start, or the time of day (UTC)
    #[arg(long = "x", value_name = "WHAT", value_enum, default_value_t = X::Step)]
    x: X,
    /// Write this file, whose name ends with .svg or .png
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What curves are drawn over.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum X {
    Step,
    Seconds,
    Time,
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
            Err(diagnostic) => return Ok(context.output.failed(&diagnostic)),
        }
    }
    let runs = match metrics(&found, &args.metrics) {
        Ok(runs) => runs,
        Err(error) => return Ok(context.output.failed(&metrics_failure(&error))),
    };
    let x = match args.x {
        X::Step => PlotX::Step,
        X::Seconds => PlotX::Seconds,
        X::Time => PlotX::Time,
    };
    let plots = plots(&runs, x);
    let charts = charts(&plots);
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
    context
        .output
        .styled_result(|| draw(&charts, columns), || plot_json(&plots, x));
    Ok(Exit::Success)
}
