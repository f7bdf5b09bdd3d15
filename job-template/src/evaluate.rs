//! How good a model is.

use serde::Serialize;
use text_server::{sigmoid, softmax};

use crate::model::Problem;

/// Sequences of token ids, and the numbers of their labels.
#[derive(Debug, Default)]
pub struct Labelled {
    /// Token ids.
    pub sequences: Vec<Vec<u32>>,
    /// Numbers of labels.
    pub labels: Vec<usize>,
}

/// How good a model is on examples that it wasn't trained on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Share of the examples that are labelled right.
    pub accuracy: f64,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Examples.
    pub examples: usize,
    /// Share of the examples that have the most frequent label: the accuracy of always answering it.
    pub majority_baseline: f64,
    /// Mean of the labels' F1, of those labels that occur or are predicted, as scikit-learn's.
    pub macro_f1: f64,
    /// For each label.
    pub classes: Vec<Class>,
    /// How many examples of each label (row) are predicted to have each (column).
    pub confusion_matrix: Vec<Vec<usize>>,
}

/// How good a model is at one label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Class {
    /// The label.
    pub label: String,
    /// Share of those that the model labels so that are so; 0 where there are none.
    pub precision: f64,
    /// Share of those that are so that the model labels so; 0 where there are none.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
    /// Examples of the label.
    pub examples: usize,
}

/// The probability of each label, by what the logits mean; of a regression, they are the values themselves.
#[must_use]
pub fn scores(problem: Problem, logits: &[f32]) -> Vec<f32> {
    match problem {
        Problem::SingleLabel => softmax(logits),
        Problem::MultiLabel => logits.iter().copied().map(sigmoid).collect(),
        Problem::Regression => logits.to_vec(),
    }
}

/// Compares logits with what the labels are.
///
/// # Panics
/// Where there are no examples.
#[must_use]
pub fn report(logits: &[Vec<f32>], labels: &[usize], names: &[String]) -> Report {
    let examples = labels.len();
    assert!(examples > 0, "a report is of examples");
    let mut counts = vec![vec![0_usize; names.len()]; names.len()];
    let mut loss = 0.0;
    for (row, &label) in logits.iter().zip(labels) {
        let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let predicted = row.iter().position(|logit| *logit >= highest);
        counts[label][predicted.unwrap_or_default()] += 1;
        let powers = row.iter().map(|logit| f64::from(logit - highest).exp());
        loss += powers.sum::<f64>().ln() - f64::from(row[label] - highest);
    }
    // 0 where there are none.
    let share = |part: usize, all: usize| part as f64 / all.max(1) as f64;
    let classes: Vec<Class> = names
        .iter()
        .enumerate()
        .map(|(label, name)| {
            let right = counts[label][label];
            let examples = counts[label].iter().sum();
            let predicted = counts.iter().map(|row| row[label]).sum();
            Class {
                label: name.clone(),
                precision: share(right, predicted),
                recall: share(right, examples),
                // The harmonic mean, without a division by 0.
                f1: share(2 * right, examples + predicted),
                examples,
            }
        })
        .collect();
    let is_used =
        |label: &usize| counts.iter().any(|row| row[*label] > 0) || classes[*label].examples > 0;
    let used: Vec<usize> = (0..names.len()).filter(is_used).collect();
    let most = classes.iter().map(|class| class.examples).max();
    let right = (0..names.len()).map(|label| counts[label][label]).sum();
    Report {
        accuracy: share(right, examples),
        loss: loss / examples as f64,
        examples,
        majority_baseline: share(most.unwrap_or_default(), examples),
        macro_f1: used.iter().map(|label| classes[*label].f1).sum::<f64>() / used.len() as f64,
        classes,
        confusion_matrix: counts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_what_was_right() {
        let names = ["negative".to_owned(), "positive".to_owned()];
        let logits = [
            vec![2.0, 0.0],
            vec![0.0, 1.0],
            vec![3.0, 0.0],
            vec![0.0, 0.0],
        ];
        let report = report(&logits, &[0, 1, 1, 0], &names);
        assert!((report.accuracy - 0.75).abs() < 1e-12);
        let of = |power: f64| (1.0 + power.exp()).ln();
        let loss = (of(-2.0) + of(-1.0) + of(3.0) + of(0.0)) / 4.0;
        assert!((report.loss - loss).abs() < 1e-7, "{} {loss}", report.loss);
        let [negative, positive] = &report.classes[..] else {
            panic!("two labels")
        };
        assert!((negative.precision - 2.0 / 3.0).abs() < 1e-12);
        assert!((negative.recall - 1.0).abs() < 1e-12);
        assert!((positive.precision - 1.0).abs() < 1e-12);
        assert!((positive.recall - 0.5).abs() < 1e-12);
        assert_eq!((negative.examples, positive.examples), (2, 2));
        assert_eq!(report.confusion_matrix, [[2, 0], [1, 1]]);
        assert!((report.majority_baseline - 0.5).abs() < 1e-12);
        // 2 * (2/3) * 1 / (5/3) and 2 * 1 * (1/2) / (3/2).
        assert!((report.macro_f1 - f64::midpoint(0.8, 2.0 / 3.0)).abs() < 1e-12);
    }

    /// As `sklearn.metrics.f1_score(..., average="macro")`.
    #[test]
    fn a_label_that_neither_occurs_nor_is_predicted_does_not_count() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let logits = [
            vec![1.0, 0.0, 0.0],
            vec![1.0, 0.0, 0.0],
            vec![0.0, 1.0, 0.0],
        ];
        let report = report(&logits, &[0, 0, 0], &names);
        // Of `a` 0.8, of `b`, which is predicted, 0.
        assert!((report.macro_f1 - 0.4).abs() < 1e-12, "{}", report.macro_f1);
        assert!((report.majority_baseline - 1.0).abs() < 1e-12);
        assert_eq!(report.confusion_matrix, [[2, 1, 0], [0, 0, 0], [0, 0, 0]]);
    }
}
