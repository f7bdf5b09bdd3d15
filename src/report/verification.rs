//! What came of building images twice.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::words::counted;
use crate::model::Digest;
use crate::ops::build::{
    Aspect, Cause, Change, Comparison, Difference, Times, Verdict, Verification,
};

/// How many of an image's differences are shown to people, and listed for programs.
const DIFFERENCES_SHOWN: usize = 20;

/// A line for each image, and below it what differs and why.
#[must_use]
pub fn verification_human(found: &[Verification]) -> String {
    let mut text = String::new();
    for image in found {
        let _ = match &image.verdict {
            Verdict::Identical => {
                writeln!(text, "{}: identical: twice {}", image.title, image.ids[0])
            }
            Verdict::SameContent(comparison) => {
                let times = times(&comparison.times);
                writeln!(text, "{}: same content{times}", image.title)
            }
            Verdict::Differs(comparison) => {
                let count = counted(comparison.differences.len(), "difference");
                writeln!(text, "{}: differs: {count}", image.title)
            }
            Verdict::Unknown(why) => writeln!(text, "{}: could not tell: {why}", image.title),
        };
        if let Verdict::Differs(comparison) = &image.verdict {
            differences(&mut text, comparison);
        }
        for Cause { why, help, files } in &image.causes {
            let count = match files {
                0 => String::new(),
                _ => format!(" ({})", counted(*files, "file")),
            };
            let _ = writeln!(text, "  why: {why}{count}");
            let _ = writeln!(text, "  help: {help}");
        }
    }
    text
}

/// `, times differ: the image's own, and 4 files' (etc/x, …)`.
fn times(times: &Times) -> String {
    let of_files = times.first.as_ref().map(|first| match times.files {
        1 => format!("that of `{first}`"),
        count => format!("those of {count} files, `{first}` the first"),
    });
    match (times.of_image, of_files) {
        (true, Some(files)) => format!(", times differ: the image's own, and {files}"),
        (true, None) => ", times differ: the image's own".to_owned(),
        (false, Some(files)) => format!(", times differ: {files}"),
        (false, None) => ", packed differently by the engine".to_owned(),
    }
}

fn differences(text: &mut String, comparison: &Comparison) {
    let mut current = 0;
    for difference in comparison.differences.iter().take(DIFFERENCES_SHOWN) {
        let _ = match difference {
            Difference::Config(key) => writeln!(text, "  configuration: `{key}`"),
            Difference::Layers([first, second]) => {
                writeln!(text, "  {} and {second}", counted(*first, "layer"))
            }
            Difference::File {
                layer,
                step,
                path,
                change,
            } => {
                if current != *layer {
                    current = *layer;
                    let step = step
                        .as_ref()
                        .map_or(String::new(), |step| format!(", {step}"));
                    let _ = writeln!(text, "  layer {layer}{step}");
                }
                writeln!(text, "    {path}: {}", changed(change))
            }
        };
    }
    let left = comparison
        .differences
        .len()
        .saturating_sub(DIFFERENCES_SHOWN);
    if left > 0 {
        let _ = writeln!(text, "  and {left} more");
    }
}

fn changed(change: &Change) -> String {
    match change {
        Change::OnlyFirst => "only in the first image".to_owned(),
        Change::OnlySecond => "only in the second image".to_owned(),
        Change::Aspects(aspects) => {
            let words: Vec<_> = aspects.iter().map(aspect).collect();
            words.join(", ")
        }
    }
}

fn aspect(aspect: &Aspect) -> String {
    match aspect {
        Aspect::Kind => "kind".to_owned(),
        Aspect::Size(first, second) => format!("size {first} and {second} bytes"),
        Aspect::Content => "content".to_owned(),
        Aspect::Mode(first, second) => format!("mode {first:04o} and {second:04o}"),
        Aspect::Owner => "owner".to_owned(),
        Aspect::Link => "where it leads".to_owned(),
        Aspect::Attributes => "extended attributes".to_owned(),
    }
}

/// `{"schema":"jobctl.build-verify/1","images":[…]}`.
#[must_use]
pub fn verification_json(found: &[Verification]) -> Value {
    let images: Vec<_> = found.iter().map(image_json).collect();
    json!({ "schema": "jobctl.build-verify/1", "images": images })
}

fn image_json(image: &Verification) -> Value {
    let (verdict, comparison, reason) = match &image.verdict {
        Verdict::Identical => ("identical", None, None),
        Verdict::SameContent(comparison) => ("same_content", Some(comparison), None),
        Verdict::Differs(comparison) => ("differs", Some(comparison), None),
        Verdict::Unknown(why) => ("unknown", None, Some(why)),
    };
    let differences = comparison.map_or(&[][..], |comparison| &comparison.differences);
    let shown = differences.iter().take(DIFFERENCES_SHOWN);
    json!({
        "name": image.title,
        "verdict": verdict,
        "reason": reason,
        "ids": image.ids.iter().map(Digest::as_str).collect::<Vec<_>>(),
        "source_date_epoch": image.epoch,
        "difference_count": differences.len(),
        "differences": shown.map(difference_json).collect::<Vec<_>>(),
        "times": comparison.map(|comparison| json!({
            "of_image": comparison.times.of_image,
            "files": comparison.times.files,
            "first": comparison.times.first,
        })),
        "causes": image.causes.iter().map(|cause| json!({
            "why": cause.why,
            "help": cause.help,
            "files": cause.files,
        })).collect::<Vec<_>>(),
    })
}

fn difference_json(difference: &Difference) -> Value {
    match difference {
        Difference::Config(key) => json!({ "kind": "configuration", "key": key }),
        Difference::Layers(counts) => json!({ "kind": "layers", "counts": counts }),
        Difference::File {
            layer,
            step,
            path,
            change,
        } => {
            let (only_in, aspects) = match change {
                Change::OnlyFirst => (Some("first"), &[][..]),
                Change::OnlySecond => (Some("second"), &[][..]),
                Change::Aspects(aspects) => (None, aspects.as_slice()),
            };
            let names = aspects.iter().map(|aspect| match aspect {
                Aspect::Kind => "kind",
                Aspect::Size(..) => "size",
                Aspect::Content => "content",
                Aspect::Mode(..) => "mode",
                Aspect::Owner => "owner",
                Aspect::Link => "link",
                Aspect::Attributes => "attributes",
            });
            json!({
                "kind": "file",
                "layer": layer,
                "step": step,
                "path": path,
                "only_in": only_in,
                "differs_in": names.collect::<Vec<_>>(),
            })
        }
    }
}

#[cfg(test)]
mod tests;
