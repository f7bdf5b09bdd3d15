//! The labels' names and their numbers.
//!
//! Labels keep the names that the data gives them. Only where they are exactly 0 and 1, or neg and pos, are
//! they called negative and positive. Their order is that of a model that has the same; else that of
//! numbers, where all are numbers; else that of names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::file::Record;

/// What answers have beside labels, so that no label can be called so.
const RESERVED_LABELS: [&str; 3] = ["truncated", "sentence", "time_taken"];
const MOST_LABELS: usize = 100;
const SENTIMENTS: [&str; 2] = ["negative", "positive"];
/// What the sentiments are called for short.
const SHORT: [[&str; 2]; 2] = [["0", "1"], ["neg", "pos"]];

/// The labels that a model has already.
#[derive(Debug, Clone, Copy)]
pub enum ModelLabels<'a> {
    /// Training starts from it: its names and its order count where they are those of the data.
    Base(&'a [String]),
    /// It is tested: the data's labels are among these.
    Tested(&'a [String]),
}

/// The labels of a file.
#[derive(Debug)]
pub(super) struct Labels {
    pub(super) names: Vec<String>,
    /// A label as the file has it → its number.
    ids: HashMap<String, usize>,
}

impl<'a> ModelLabels<'a> {
    fn names(self) -> &'a [String] {
        match self {
            Self::Base(names) | Self::Tested(names) => names,
        }
    }

    /// Whether these are the labels of the model; some of them are enough where it is tested.
    fn has(self, names: &BTreeSet<&str>) -> bool {
        let known = self.names();
        let has_all = names.iter().all(|name| known.iter().any(|it| it == name));
        has_all && (matches!(self, Self::Tested(_)) || known.len() == names.len())
    }
}

impl Labels {
    /// The number of a label that the file has.
    pub(super) fn id(&self, label: &str) -> usize {
        self.ids[label]
    }

    /// Those of all records.
    ///
    /// # Errors
    /// They are too few or too many, or a model that is tested doesn't know one.
    pub(super) fn of(
        records: &[Record],
        model: ModelLabels<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Self, String> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for label in records.iter().filter_map(|record| record.label.as_deref()) {
            *counts.entry(label).or_default() += 1;
        }
        let spellings = one_spelling(&counts, model.names(), warnings);
        let given: BTreeSet<&str> = spellings.values().copied().collect();
        check_number(&given, records.len(), model)?;

        // Of a model that is tested, one of the short names is enough.
        let is_tested = matches!(model, ModelLabels::Tested(_));
        let short = SHORT.iter().find(|short| {
            given.iter().all(|name| short.contains(name)) && (is_tested || given.len() == 2)
        });
        let full = |name| match short {
            Some(short) => SENTIMENTS[usize::from(name == short[1])],
            None => name,
        };
        let in_full: BTreeSet<&str> = given.iter().map(|name| full(name)).collect();
        // A model that calls them 0 and 1 itself has the last word.
        let is_as_given = model.has(&given);
        let names = if is_as_given || model.has(&in_full) {
            model.names().to_vec()
        } else if let ModelLabels::Tested(known) = model {
            let is_unknown = |name: &&&str| !known.iter().any(|it| it == *name);
            let unknown: Vec<_> = given.iter().filter(is_unknown).collect();
            return Err(format!(
                "has labels that the model doesn't have: {unknown:?}; it has {known:?}"
            ));
        } else {
            sorted(&in_full)
        };
        let id = |name| {
            let name = if is_as_given { name } else { full(name) };
            let id = names.iter().position(|it| it == name);
            id.expect("each label has its place")
        };
        let ids = spellings
            .iter()
            .map(|(label, name)| ((*label).to_owned(), id(name)));
        Ok(Self {
            ids: ids.collect(),
            names,
        })
    }
}

fn check_number(
    labels: &BTreeSet<&str>,
    rows: usize,
    model: ModelLabels<'_>,
) -> Result<(), String> {
    let is_tested = matches!(model, ModelLabels::Tested(_));
    let all = || labels.iter().map(|label| format!("`{label}`"));
    match labels.len() {
        0 if rows == 0 => Err("has no reviews, but a header alone".to_owned()),
        0 => Err(format!(
            "has no label in any of its {rows} rows: all are empty or NaN"
        )),
        1 if !is_tested => Err(format!(
            "has the label {} alone; at least 2 different labels are needed",
            all().collect::<String>()
        )),
        2..=MOST_LABELS | 1 => Ok(()),
        count => Err(format!(
            "has {count} different labels ({}, …); at most {MOST_LABELS} are allowed. Are the columns \
             swapped?",
            all().take(3).collect::<Vec<_>>().join(", ")
        )),
    }
}

/// For each label, how those that differ from it in their case or in blanks alone are spelled: as the model
/// does, else as most of them are.
fn one_spelling<'a>(
    counts: &BTreeMap<&'a str, usize>,
    known: &'a [String],
    warnings: &mut Vec<String>,
) -> BTreeMap<&'a str, &'a str> {
    let mut groups: BTreeMap<String, Vec<(&'a str, usize)>> = BTreeMap::new();
    for (label, count) in counts {
        let group = groups.entry(label.trim().to_lowercase()).or_default();
        group.push((label, *count));
    }
    let mut spellings = BTreeMap::new();
    for (lower, group) in groups {
        let of_model: Vec<&String> = known
            .iter()
            .filter(|it| it.to_lowercase() == lower)
            .collect();
        let most = group.iter().rev().max_by_key(|(_, count)| *count);
        let spelling = match of_model[..] {
            [] => most.map_or("", |(label, _)| label.trim()),
            [name] => name.as_str(),
            // A model that has several of them tells them apart.
            _ => {
                spellings.extend(group.into_iter().map(|(label, _)| (label, label.trim())));
                continue;
            }
        };
        if group.len() > 1 {
            let all = group
                .iter()
                .map(|(label, count)| format!("`{label}` ({count})"));
            warnings.push(format!(
                "the labels {} differ in their case or in blanks alone, and are taken as one, \
                 `{spelling}`",
                all.collect::<Vec<_>>().join(", ")
            ));
        }
        spellings.extend(group.into_iter().map(|(label, _)| (label, spelling)));
    }
    spellings
}

/// In the order of numbers, where all are numbers; else in that of names.
fn sorted(names: &BTreeSet<&str>) -> Vec<String> {
    let number = |name: &String| name.parse::<f64>().ok().filter(|it| it.is_finite());
    let mut sorted: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    if sorted.iter().all(|name| number(name).is_some()) {
        sorted.sort_by(|left, right| {
            let order = number(left).partial_cmp(&number(right));
            order.expect("finite numbers have an order")
        });
    }
    sorted
}

/// Whether labels can be names in answers.
///
/// # Errors
/// One is empty, or the name of something else there.
pub fn check_label_names(labels: &[String]) -> Result<(), String> {
    for label in labels {
        if label.trim().is_empty() {
            return Err("a label is empty".to_owned());
        }
        if RESERVED_LABELS.contains(&label.as_str()) {
            return Err(format!(
                "a label is called {label:?}, as a field of the answers is; rename it"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The labels' names, in the order of their numbers, and what the file's labels became.
    fn of(given: &[&str], model: ModelLabels<'_>) -> Result<(String, Vec<usize>, usize), String> {
        let records: Vec<Record> = given
            .iter()
            .map(|label| Record {
                row: 0,
                line: 0,
                text: String::new(),
                label: Some((*label).to_owned()),
            })
            .collect();
        let mut warnings = Vec::new();
        let labels = Labels::of(&records, model, &mut warnings)?;
        let ids = given.iter().map(|label| labels.id(label)).collect();
        Ok((labels.names.join(" "), ids, warnings.len()))
    }

    fn names(given: &[&str]) -> String {
        of(given, ModelLabels::Base(&[])).unwrap().0
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_two_that_mean_sentiments_are_called_so() {
        assert_eq!(names(&["1", "0"]), "negative positive");
        assert_eq!(names(&["pos", "neg"]), "negative positive");
        for kept in [
            "1 2",
            "0 1 2",
            "-1 1",
            "1 2 3 4 5",
            "0 2",
            "neg neutral pos",
            "1 pos",
        ] {
            let given: Vec<&str> = kept.split(' ').collect();
            assert_eq!(names(&given), kept);
        }
    }

    #[test]
    fn numbers_have_the_order_of_numbers_and_names_that_of_names() {
        assert_eq!(names(&["10", "9", "-1", "2.5"]), "-1 2.5 9 10");
        assert_eq!(names(&["10", "9", "b", "a"]), "10 9 a b");
        // Such aren't numbers that can be compared.
        assert_eq!(names(&["inf", "2", "10"]), "10 2 inf");
    }

    #[test]
    fn spellings_that_differ_in_case_are_one_label() {
        let given = ["Positive", "positive", "positive", "NEGATIVE"];
        let (names, ids, warnings) = of(&given, ModelLabels::Base(&[])).unwrap();
        assert_eq!(names, "NEGATIVE positive");
        assert_eq!((ids, warnings), (vec![1, 1, 1, 0], 1));
        // Of as many of both, the same every time.
        assert_eq!(
            of(&["b", "B", "a"], ModelLabels::Base(&[])).unwrap().0,
            "B a"
        );
    }

    #[test]
    fn a_models_names_and_order_count() {
        let model = owned(&["positive", "Negative"]);
        let base = ModelLabels::Base(&model);
        let (names, ids, _) = of(&["negative", "positive"], base).unwrap();
        assert_eq!((names.as_str(), ids), ("positive Negative", vec![1, 0]));
        let model = owned(&["positive", "negative"]);
        let (names, ids, _) = of(&["0", "1"], ModelLabels::Base(&model)).unwrap();
        assert_eq!((names.as_str(), ids), ("positive negative", vec![1, 0]));
        let model = owned(&["1", "0"]);
        let (names, ids, _) = of(&["0", "1"], ModelLabels::Base(&model)).unwrap();
        assert_eq!((names.as_str(), ids), ("1 0", vec![1, 0]));
        // Others, or more, are another classifier's.
        let model = owned(&["c", "b", "a"]);
        assert_eq!(of(&["a", "b"], ModelLabels::Base(&model)).unwrap().0, "a b");
    }

    #[test]
    fn a_model_that_is_tested_has_to_know_the_labels() {
        let model = owned(&["negative", "positive"]);
        let tested = ModelLabels::Tested(&model);
        assert_eq!(of(&["1", "1"], tested).unwrap().1, [1, 1]);
        assert_eq!(of(&["pos"], tested).unwrap().1, [1]);
        assert_eq!(
            of(&["good", "positive"], tested).unwrap_err(),
            "has labels that the model doesn't have: [\"good\"]; it has [\"negative\", \"positive\"]"
        );
        let cased = owned(&["a", "A"]);
        assert_eq!(
            of(&["A", "a"], ModelLabels::Tested(&cased)).unwrap().1,
            [1, 0]
        );
    }

    #[test]
    fn too_few_and_too_many_are_refused() {
        let base = ModelLabels::Base(&[]);
        let few = of(&["a"], base).unwrap_err();
        assert_eq!(
            few,
            "has the label `a` alone; at least 2 different labels are needed"
        );
        let many: Vec<String> = (0..101).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(
            of(&many, base).unwrap_err(),
            "has 101 different labels (`0`, `1`, `10`, …); at most 100 are allowed. Are the columns swapped?"
        );
    }

    #[test]
    fn fields_of_answers_are_no_labels() {
        let check = |label: &str| check_label_names(&["fine".to_owned(), label.to_owned()]);
        assert_eq!(check("good"), Ok(()));
        assert!(check("truncated").unwrap_err().contains("rename it"));
        assert!(check(" ").is_err());
    }
}
