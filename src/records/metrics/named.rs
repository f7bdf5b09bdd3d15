//! A metric in a line of a log, by its name alone.

use memchr::memmem::Finder;

use crate::model::number;

/// What libraries print around a number.
const WRAPPERS: [&str; 5] = [
    "tensor(",
    "np.float64(",
    "np.float32(",
    "np.float16(",
    "array(",
];

/// Finds `loss=0.5`, `loss: 0.5`, `"loss": 0.5` and `'loss': 0.5`, for one name.
#[derive(Debug, Clone)]
pub(super) struct NameFinder(Finder<'static>);

impl NameFinder {
    pub(super) fn new(name: &str) -> Self {
        Self(Finder::new(name.as_bytes()).into_owned())
    }

    /// The values in a line.
    pub(super) fn values<'l>(&'l self, line: &'l str) -> impl Iterator<Item = f64> + 'l {
        let length = self.0.needle().len();
        let found = self.0.find_iter(line.as_bytes());
        found.filter_map(move |at| value(line.get(..at)?, line.get(at + length..)?))
    }
}

/// The value of a name that stands between these two texts.
fn value(before: &str, after: &str) -> Option<f64> {
    let before = before.chars().next_back();
    if before.is_some_and(is_of_word) {
        return None;
    }
    let quote = before.filter(|quote| matches!(quote, '"' | '\''));
    let after = quote
        .and_then(|quote| after.strip_prefix(quote))
        .unwrap_or(after);
    let after = after.trim_start_matches([' ', '\t']);
    let after = after.strip_prefix(['=', ':'])?;
    let after = after.trim_start_matches([' ', '\t']);
    let after = WRAPPERS
        .iter()
        .find_map(|wrapper| after.strip_prefix(wrapper))
        .unwrap_or(after);
    let after = after.strip_prefix(['"', '\'']).unwrap_or(after);
    number::prefix(after).map(|(value, _)| value)
}

/// Whether a character before a name makes it another: `val_loss`, `train/loss`.
fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::NameFinder;
    use crate::model::number;

    fn values(line: &str) -> Vec<String> {
        let finder = NameFinder::new("loss");
        finder.values(line).map(number::text).collect()
    }

    #[test]
    fn a_metric_is_found_by_its_name() {
        for (line, expected) in [
            ("loss=0.5", "0.5"),
            ("step 3 loss: 1.2e-05, next", "0.000012"),
            ("loss = -3", "-3"),
            ("{\"loss\": 0.5, \"lr\": 1e-5}", "0.5"),
            ("{\"loss\":NaN}", "NaN"),
            ("{'loss': inf, 'epoch': 1.0}", "Infinity"),
            ("{'loss': '0.25', 'epoch': '1'}", "0.25"),
            ("'loss=-inf'", "-Infinity"),
            ("[loss=1,234.5]", "1234.5"),
            ("loss: tensor(0.125, device='cuda:0')", "0.125"),
            ("loss: np.float64(0.125)", "0.125"),
            ("100%|██| 3/3 [00:01<00:00, 2.9it/s, loss=.5]", "0.5"),
            ("loss:\t+1", "1"),
            ("étape loss=2.", "2"),
            ("loss=0.5%", "0.5"),
        ] {
            assert_eq!(values(line), [expected], "{line}");
        }
        assert_eq!(values("loss=1 loss=2,loss=3"), ["1", "2", "3"]);
    }

    #[test]
    fn another_metric_is_another() {
        for line in [
            "val_loss=0.5",
            "train/loss=0.5",
            "eval.loss: 0.5",
            "aux-loss=0.5",
            "2loss=0.5",
            "éloss=0.5",
            "loss_scale=0.5",
            "loss/train=0.5",
            "loss.mean: 0.5",
            "loss-a: 0.5",
            "losses=0.5",
            "\"val loss\": 0.5",
            "Loss=0.5",
            "loss 0.5",
            "loss==0.5",
            "loss",
            "loss=",
            "loss=None",
            "loss=null",
            "loss=1.2.3",
            "loss=5s",
            "loss=12:30",
            "loss=2024-01-01",
            "loss=0,5",
            "loss=1.234,5",
            "loss=1'000",
        ] {
            assert_eq!(values(line), [""; 0], "{line}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_printed_is_found(value in any::<f64>(), form in 0..5) {
            let line = match form {
                0 => format!("step 1 loss={value} lr=1"),
                1 => format!("loss: {value:?}, x"),
                2 => format!("{{\"loss\": {value:e}}}"),
                3 => format!("{{'val_loss': 1, 'loss': {value:+}, 'a': 2}}"),
                _ => format!("\rloss = {}]", number::text(value)),
            };
            let expected = number::text(value);
            prop_assert_eq!(values(&line), [expected], "{}", line);
        }

        #[test]
        fn no_line_makes_it_panic(line in "(loss|[-=:'\" .0-9é\u{0}n]){0,12}") {
            values(&line);
        }
    }
}
