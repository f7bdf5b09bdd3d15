//! "Did you mean …?"

use strsim::damerau_levenshtein;

/// The candidate that was most likely meant by `written`, if any is near enough.
///
/// Near enough is a third of the letters, at least one slip. Among equally near ones the one that
/// keeps the first letter wins, then the one of the same length, as slips seldom change either.
pub(crate) fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let folded = fold(written);
    candidates
        .into_iter()
        .map(|candidate| {
            let distance = damerau_levenshtein(&folded, &fold(candidate));
            let first_differs = folded.chars().next() != candidate.chars().next();
            let length_differs = folded.chars().count().abs_diff(candidate.chars().count());
            ((distance, first_differs, length_differs), candidate)
        })
        .filter(|((distance, ..), candidate)| {
            let longest = written.chars().count().max(candidate.chars().count());
            *distance <= (longest / 3).max(1)
        })
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, candidate)| candidate)
}

/// Case and the choice of `-` or `_` are no difference.
fn fold(text: &str) -> String {
    text.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::nearest;

    const KEYS: [&str; 5] = ["command", "environment", "env_file", "needs", "network"];

    #[test]
    fn one_slip_finds_the_word() {
        assert_eq!(nearest("comand", KEYS), Some("command"));
        assert_eq!(nearest("evn_file", KEYS), Some("env_file"));
        assert_eq!(nearest("Env-File", KEYS), Some("env_file"));
        assert_eq!(nearest("need", KEYS), Some("needs"));
    }

    #[test]
    fn another_word_finds_nothing() {
        assert_eq!(nearest("colour", KEYS), None);
        assert_eq!(nearest("", KEYS), None);
    }
}
