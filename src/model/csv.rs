//! Values that are one CSV record, as docker's `--gpus` and `--mount` are.

use super::ValueError;

/// One CSV record; fields are quoted where they need it.
pub(crate) fn record(fields: impl IntoIterator<Item = String>) -> String {
    let quoted = fields.into_iter().map(|field| {
        if field.contains([',', '"']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field
        }
    });
    quoted.collect::<Vec<_>>().join(",")
}

/// The fields of one CSV record (RFC 4180), as Go's `encoding/csv` reads it.
pub(crate) fn fields(text: &str) -> Result<Vec<String>, ValueError> {
    let bad_quote = || {
        ValueError::new("a quote is in the wrong place")
            .help("quote a whole field: `\"device=0,2\"`")
    };
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted;
            loop {
                let (before, after) = rest.split_once('"').ok_or_else(bad_quote)?;
                field.push_str(before);
                rest = after;
                let Some(more) = rest.strip_prefix('"') else {
                    break;
                };
                field.push('"');
                rest = more;
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            if field.contains('"') {
                return Err(bad_quote());
            }
            rest = &rest[end..];
        }
        fields.push(field);
        if rest.is_empty() {
            return Ok(fields);
        }
        rest = rest.strip_prefix(',').ok_or_else(bad_quote)?;
    }
}
