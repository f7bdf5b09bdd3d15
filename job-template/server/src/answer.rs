//! What a client gets for its texts.

use serde::ser::{Serialize, SerializeMap, Serializer};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, ObjectBuilder, OneOfBuilder, Type,
};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// How likely each label is, for one text: `{"positive": 0.98, "negative": 0.02}`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// The labels, in the model's order.
    pub(crate) labels: Vec<(String, f32)>,
    /// Whether the model read only the beginning of the text.
    pub(crate) is_truncated: bool,
}

impl Answer {
    fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        for (label, probability) in &self.labels {
            map.serialize_entry(label, probability)?;
        }
        if self.is_truncated {
            map.serialize_entry("truncated", &true)?;
        }
        Ok(())
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.entries(&mut map)?;
        map.end()
    }
}

impl PartialSchema for Answer {
    fn schema() -> RefOr<Schema> {
        labels("How likely each label is. The labels are the model's.")
            .examples([serde_json::json!({"positive": 0.98, "negative": 0.02})])
            .into()
    }
}

impl ToSchema for Answer {}

/// One answer for a text, a list of answers for texts.
#[derive(Debug)]
pub(crate) enum Answers {
    One(Answer),
    Many(Vec<Answer>),
}

impl Serialize for Answers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(answer) => answer.serialize(serializer),
            Self::Many(answers) => answers.serialize(serializer),
        }
    }
}

impl PartialSchema for Answers {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .item(Answer::schema())
            .item(ArrayBuilder::new().items(Answer::schema()))
            .into()
    }
}

impl ToSchema for Answers {}

/// What `GET /predict` answers.
#[derive(Debug, serde::Serialize, ToSchema)]
pub(crate) struct Prediction {
    pub(crate) response: Predicted,
}

/// An answer, with the sentence and the seconds that it took.
#[derive(Debug)]
pub(crate) struct Predicted {
    pub(crate) answer: Answer,
    pub(crate) sentence: String,
    pub(crate) time_taken: f64,
}

impl Serialize for Predicted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.answer.entries(&mut map)?;
        map.serialize_entry("sentence", &self.sentence)?;
        map.serialize_entry("time_taken", &self.time_taken)?;
        map.end()
    }
}

impl PartialSchema for Predicted {
    fn schema() -> RefOr<Schema> {
        let seconds = ObjectBuilder::new()
            .schema_type(Type::Number)
            .description(Some("Seconds."));
        labels("How likely each label is, for the sentence.")
            .property("sentence", ObjectBuilder::new().schema_type(Type::String))
            .property("time_taken", seconds)
            .required("sentence")
            .required("time_taken")
            .examples([serde_json::json!({
                "positive": 0.98, "negative": 0.02, "sentence": "What a film!", "time_taken": 0.04
            })])
            .into()
    }
}

impl ToSchema for Predicted {}

/// An object of labels, whatever these are.
fn labels(description: &str) -> ObjectBuilder {
    let probability = ObjectBuilder::new()
        .schema_type(Type::Number)
        .minimum(Some(0.0))
        .maximum(Some(1.0))
        .build();
    let truncated = ObjectBuilder::new()
        .schema_type(Type::Boolean)
        .description(Some(
            "There, and true, if only the beginning of the text was read.",
        ));
    ObjectBuilder::new()
        .description(Some(description))
        .property("truncated", truncated)
        .additional_properties(Some(AdditionalProperties::from(RefOr::T(Schema::from(
            probability,
        )))))
}
