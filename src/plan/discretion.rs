//! What may be kept and shown: all but secrets.

use serde_json::Value;

use crate::model::{STARS, Secret, Sensitive, without_users};
use crate::records::mask::Masker;

/// Objects of the container and of the job, besides a build's arguments, whose keys are names that users give.
const NAMED: [&str; 2] = ["environment", "labels"];

/// Stars secrets out: those that are known, and those that say so themselves.
#[derive(Debug, Clone)]
pub struct Discretion {
    sensitive: Sensitive,
    masker: Masker,
}

impl Discretion {
    /// Of what is declared and known in a project.
    #[must_use]
    pub fn new(sensitive: Sensitive, secrets: &[Secret]) -> Self {
        Self {
            sensitive,
            masker: Masker::new(secrets),
        }
    }

    /// A text.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        self.masker.masked(&self.sensitive.masked(text))
    }

    /// The words of a command.
    #[must_use]
    pub fn words(&self, words: &[String]) -> Vec<String> {
        let words = self.sensitive.masked_words(words);
        words.iter().map(|word| self.masker.masked(word)).collect()
    }

    /// A document; a list of texts is the words of a command.
    #[must_use]
    pub fn document(&self, document: &Value) -> Value {
        match document {
            Value::String(text) => self.text(text).into(),
            Value::Array(items) => {
                let words = items.iter().map(|item| item.as_str().map(str::to_owned));
                match words.collect::<Option<Vec<_>>>() {
                    Some(words) => self.words(&words).into(),
                    None => items.iter().map(|item| self.document(item)).collect(),
                }
            }
            Value::Object(fields) => {
                let field = |(name, value): (&String, &Value)| {
                    let shown = match value {
                        Value::Object(named) if name == "args" => (named.iter())
                            .map(|(name, value)| (name.clone(), self.argument(name, value)))
                            .collect(),
                        Value::Object(named) if NAMED.contains(&name.as_str()) => named
                            .iter()
                            .map(|(name, value)| (name.clone(), self.named(name, value)))
                            .collect(),
                        value => self.document(value),
                    };
                    (name.clone(), shown)
                };
                fields.iter().map(field).collect()
            }
            other => other.clone(),
        }
    }

    /// A build argument: a user in an address may be a token.
    fn argument(&self, name: &str, value: &Value) -> Value {
        match self.named(name, value) {
            Value::String(shown) => without_users(&shown).into(),
            shown => shown,
        }
    }

    fn named(&self, name: &str, value: &Value) -> Value {
        match value {
            Value::String(value) if self.sensitive.names_secret(name, value) => STARS.into(),
            value => self.document(value),
        }
    }
}
