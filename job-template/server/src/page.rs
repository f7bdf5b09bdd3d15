//! The page on which one tries the model.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse};

use crate::app::App;

/// What the page may load: nothing, and ask this server only.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; form-action 'none'; base-uri 'none'; \
                      frame-ancestors 'none'";

const PAGE: &str = include_str!("page.html");

/// Labels that the title names; of more, it has the number.
const NAMED_LABELS: usize = 5;

/// A page to try the model.
#[utoipa::path(
    get,
    path = "/",
    tag = "model",
    responses((status = 200, description = "The page", body = String, content_type = "text/html"))
)]
pub(crate) async fn page(State(app): State<Arc<App>>) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Its labels are another model's after the next start.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Html(render(app.labels())))
}

/// The page of a model with these labels; of none while it is being loaded.
fn render(labels: &[String]) -> String {
    let title = title(labels);
    let is_sentiment = labels.len() == 2
        && ["negative", "positive"]
            .iter()
            .all(|label| labels.iter().any(|known| known == label));
    let (lead, placeholder) = if is_sentiment {
        (
            "Write what someone might say of a film. The model tells how likely it is praise.",
            "I would watch it again tomorrow.",
        )
    } else {
        (
            "Write or paste a text. The model tells how likely each label is.",
            "Write or paste a text here.",
        )
    };
    PAGE.replace("{{lead}}", lead)
        .replace("{{placeholder}}", placeholder)
        .replace("{{title}}", &escape(&title))
}

/// What the model tells apart: `negative or positive?`
fn title(labels: &[String]) -> String {
    match labels {
        [] | [_] => "Text classifier".to_owned(),
        [first @ .., last] if labels.len() <= NAMED_LABELS => {
            format!("{} or {last}?", first.join(", "))
        }
        _ => format!("Which of {} labels?", labels.len()),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(labels: &[&str]) -> Vec<String> {
        labels.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_title_follows_the_labels() {
        for (names, expected) in [
            (&["positive", "negative"][..], "positive or negative?"),
            (&["billing", "login", "refund"], "billing, login or refund?"),
            (&["1", "2", "3", "4", "5", "6"], "Which of 6 labels?"),
            (&[], "Text classifier"),
            (&["a<b>", "\"&"], "a&lt;b&gt; or &quot;&amp;?"),
        ] {
            let page = render(&labels(names));
            assert!(
                page.contains(&format!("<title>{expected}</title>")),
                "{names:?}"
            );
            assert!(page.contains(&format!("<h1>{expected}</h1>")), "{names:?}");
            assert!(!page.contains("{{"), "{names:?}");
        }
    }

    #[test]
    fn only_a_model_of_sentiment_is_about_films() {
        assert!(render(&labels(&["negative", "positive"])).contains("film"));
        assert!(!render(&labels(&["billing", "login"])).contains("film"));
        assert!(!render(&[]).contains("film"));
    }

    /// The relative luminance of a colour such as `#1d2733`, by WCAG 2.
    fn luminance(colour: &str) -> f64 {
        let digits = colour.trim_start_matches('#');
        let digits: String = match digits.len() {
            3 => digits.chars().flat_map(|digit| [digit, digit]).collect(),
            _ => digits.to_owned(),
        };
        let channel = |index: usize| {
            let value = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).unwrap();
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * channel(0) + 0.7152 * channel(1) + 0.0722 * channel(2)
    }

    fn contrast(one: &str, other: &str) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn text_can_be_read_in_both_colour_schemes() {
        assert!((contrast("#fff", "#000000") - 21.0).abs() < 1e-9);
        assert!(PAGE.contains("::placeholder { color: var(--quiet); opacity: 1; }"));
        let schemes: Vec<&str> = PAGE.split(":root {").skip(1).collect();
        assert_eq!(schemes.len(), 2);
        for scheme in schemes {
            let colour = |name: &str| {
                let rest = scheme.split(&format!("--{name}: ")).nth(1).unwrap();
                rest.split(';').next().unwrap()
            };
            for (text, ground) in [
                ("text", "page"),
                ("text", "card"),
                ("quiet", "page"),
                ("quiet", "card"),
                ("error", "card"),
                ("accent", "page"),
                ("on-accent", "accent"),
            ] {
                let contrast = contrast(colour(text), colour(ground));
                assert!(contrast >= 4.5, "{text} on {ground}: {contrast:.2}");
            }
        }
    }
}
