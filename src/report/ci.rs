//! What CI systems read out of a log, and the summaries that they show.

use std::fmt::Write as _;
use std::path::Path;

use super::guard::harmless;
use super::run::ending;
use super::words::{elapsed, figure};
use super::{draw, printable};
use crate::diagnostic::{Diagnostic, Severity};
use crate::ops::build::Image;
use crate::ops::push::Pushed;
use crate::records::Record;

/// How wide a curve is in a summary.
const COLUMNS: usize = 78;

/// A CI system whose logs fold, and show messages at the lines of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// GitHub Actions: workflow commands.
    GitHub,
    /// GitLab CI: sections.
    GitLab,
}

impl Marks {
    /// The line before what is folded. GitLab counts the time, in seconds since 1970, until it ends.
    pub(super) fn begin(self, id: u64, title: &str, seconds: i64) -> String {
        let title = printable::line(title);
        match self {
            Self::GitHub => format!("::group::{}", escaped(&title)),
            Self::GitLab => format!(
                "\x1b[0Ksection_start:{seconds}:jobctl_{id}[collapsed=true]\r\x1b[0K{title}"
            ),
        }
    }

    /// The line behind it.
    pub(super) fn end(self, id: u64, seconds: i64) -> String {
        match self {
            Self::GitHub => "::endgroup::".to_owned(),
            Self::GitLab => format!("\x1b[0Ksection_end:{seconds}:jobctl_{id}\r\x1b[0K"),
        }
    }

    /// The line that makes a message stand at its place in a file, if there are such lines. `place` says
    /// where a file that is known by this path is in the repository.
    #[must_use]
    pub fn annotation(
        self,
        diagnostic: &Diagnostic,
        place: impl FnOnce(&Path) -> String,
    ) -> Option<String> {
        if self != Self::GitHub {
            return None;
        }
        let word = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut line = format!("::{word} title=jobctl {}", property(diagnostic.rule));
        if let (Some(source), Some(primary)) = (&diagnostic.source, &diagnostic.primary) {
            let (row, column) = source.line_column(primary.span.start);
            let file = property(&place(&source.path));
            let _ = write!(line, ",file={file},line={row},col={column}");
        }
        let mut message = diagnostic.message.clone();
        for help in &diagnostic.help {
            let _ = write!(message, "\nhelp: {help}");
        }
        let _ = write!(line, "::{}", escaped(&message));
        Some(line)
    }
}

/// A text as the message of a workflow command has it (actions/toolkit, `command.ts`).
fn escaped(text: &str) -> String {
    // The runner's page shows it as a line of its own.
    let text = harmless(Marks::GitHub, &printable::text(text)).replace('%', "%25");
    text.replace('\n', "%0A")
}

/// A text as one of a workflow command's properties.
fn property(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace(',', "%2C")
}

/// A table of what was built, in Markdown.
#[must_use]
pub fn build_summary(images: &[Image]) -> String {
    let mut text = "| image | version | id |\n|---|---|---|\n".to_owned();
    for image in images {
        let name = image.tags.first();
        let name = name.map_or_else(|| image.title.clone(), ToString::to_string);
        let version = image.version.as_ref().map(ToString::to_string);
        let version = version.unwrap_or_default();
        let _ = writeln!(
            text,
            "| {} | {} | `{}` |",
            cell(&name),
            cell(&version),
            image.id
        );
    }
    text
}

/// A table of what was pushed, in Markdown.
#[must_use]
pub fn push_summary(pushed: &[Pushed]) -> String {
    let mut text = "| name | digest | |\n|---|---|---|\n".to_owned();
    for one in pushed {
        let word = if one.was_there { "was there" } else { "pushed" };
        let name = cell(&one.name.to_string());
        let _ = writeln!(text, "| {name} | `{}` | {word} |", one.digest);
    }
    text
}

/// What came of runs, in Markdown: a table, and the curves of those that have some.
#[must_use]
pub fn runs_summary(runs: &[(&Record, Vec<super::Chart>)]) -> String {
    let mut text =
        "| run | job | came to | took | metrics | image |\n|---|---|---|---|---|---|\n".to_owned();
    for (record, _) in runs {
        let took = match (record.started, record.finished) {
            (Some(started), Some(finished)) => {
                elapsed(finished.duration_since(started).unsigned_abs())
            }
            _ => String::new(),
        };
        let metrics = record.metrics.iter();
        let metrics =
            metrics.map(|(name, value)| format!("{}={}", printable::name(name), figure(*value)));
        let metrics = metrics.collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {took} | {} | {} |",
            record.id.short(),
            cell(record.job.as_deref().unwrap_or("-")),
            cell(&ending(record)),
            cell(&metrics),
            cell(&record.image.name),
        );
    }
    for (record, charts) in runs {
        let has_curves = charts.iter().any(|chart| {
            let points = chart.curves.iter().map(|curve| curve.points.len());
            points.max() > Some(1)
        });
        if has_curves {
            let drawn = anstream::adapter::strip_str(&draw(charts, COLUMNS)).to_string();
            let title = record.job.as_deref().unwrap_or("the run");
            let fence = fence(&drawn);
            let _ = write!(
                text,
                "\n<details><summary>Metrics of {}</summary>\n\n{fence}text\n{}\n{fence}\n\n</details>\n",
                html(title),
                drawn.trim_end()
            );
        }
    }
    text
}

/// A text as HTML has it, on one line.
fn html(text: &str) -> String {
    let text = printable::line(text).replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

/// What encloses a text as code, and is nowhere in it (`CommonMark`, "Fenced code blocks").
fn fence(text: &str) -> String {
    let runs = text.split(|c| c != '`').map(str::len);
    "`".repeat(runs.max().unwrap_or_default().max(2) + 1)
}

/// A text as a cell of a table, in which it can't be anything else.
fn cell(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(printable::line).collect();
    let mut cell = String::new();
    for character in lines.join(" ").chars() {
        match character {
            '<' => cell.push_str("&lt;"),
            '&' => cell.push_str("&amp;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '~' | '$' => cell.extend(['\\', character]),
            other => cell.push(other),
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::diagnostic::Source;

    #[test]
    fn a_message_stands_at_its_line() {
        let source = Arc::new(Source {
            path: "jobs.yaml".into(),
            text: "a: 1\nb: 2\n".to_owned(),
        });
        let diagnostic = Diagnostic::error("unknown-key", "100% wrong,\nreally")
            .at(&source, 8..9, "")
            .help("mend it");
        let place = |path: &Path| format!("a,b/{}", path.display());
        assert_eq!(
            Marks::GitHub.annotation(&diagnostic, place).unwrap(),
            "::error title=jobctl unknown-key,file=a%2Cb/jobs.yaml,line=2,col=4::100%25 wrong,%0Areally%0Ahelp: \
             mend it"
        );
        assert_eq!(Marks::GitLab.annotation(&diagnostic, place), None);
    }

    #[test]
    fn what_is_folded_has_a_beginning_and_an_end() {
        assert_eq!(Marks::GitHub.begin(7, "build x", 5), "::group::build x");
        assert_eq!(Marks::GitHub.end(7, 6), "::endgroup::");
        assert_eq!(
            Marks::GitLab.begin(7, "build x", 5),
            "\x1b[0Ksection_start:5:jobctl_7[collapsed=true]\r\x1b[0Kbuild x"
        );
        assert_eq!(
            Marks::GitLab.end(7, 6),
            "\x1b[0Ksection_end:6:jobctl_7\r\x1b[0K"
        );
    }

    #[test]
    fn cells_are_nothing_but_text() {
        assert_eq!(cell("a|b\n<i> `x`"), "a\\|b &lt;i> \\`x\\`");
        assert_eq!(cell("$x$ ~~y~~"), "\\$x\\$ \\~\\~y\\~\\~");
        assert_eq!(html("a_b </summary>&"), "a_b &lt;/summary&gt;&amp;");
    }

    #[test]
    fn code_does_not_end_before_its_end() {
        for (text, fenced) in [("a `b`", "```"), ("```\n<script>", "````"), ("", "```")] {
            assert_eq!(fence(text), fenced);
        }
    }

    #[test]
    fn a_message_has_no_command_in_it() {
        let diagnostic = Diagnostic::error("x", "a\n::error::b ##[group]c");
        assert_eq!(
            Marks::GitHub
                .annotation(&diagnostic, |_| String::new())
                .unwrap(),
            "::error title=jobctl x::a%0A\\::error::b ##[\\group]c"
        );
    }
}
