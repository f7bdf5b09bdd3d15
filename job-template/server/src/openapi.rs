//! The document that describes the routes, by the `OpenAPI` specification 3.1.

use serde_json::json;
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, Object, ObjectBuilder, OneOfBuilder, Type,
};
use utoipa::openapi::{Info, OpenApi, OpenApiBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The document without its routes, which the router adds.
pub(crate) fn document(version: &str) -> OpenApi {
    let mut info = Info::new("Text classifier", version);
    info.description = Some(
        "Tells how likely each label is for a text. Every error has the same form: a `code` for \
         programs, a `message` for people, and the `field` that is wrong, if it is one. A status of \
         429 or 503 comes with `Retry-After`."
            .to_owned(),
    );
    OpenApiBuilder::new().info(info).build()
}

/// The shape of what `POST /inference` takes. [`crate::request`] reads it by hand, for better
/// errors than a derived type's.
pub(crate) struct InferenceBody;

impl PartialSchema for InferenceBody {
    fn schema() -> RefOr<Schema> {
        let texts = ArrayBuilder::new().items(text()).min_items(Some(1));
        OneOfBuilder::new()
            .item(only("text", text()))
            .item(only("texts", texts))
            .examples([
                json!({"text": "What a film!"}),
                json!({"texts": ["What a film!", "I left."]}),
            ])
            .into()
    }
}

impl ToSchema for InferenceBody {}

/// A text that isn't blank.
fn text() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .pattern(Some(r"\S"))
        .build()
}

/// An object with this field and no other.
fn only(field: &str, schema: impl Into<RefOr<Schema>>) -> ObjectBuilder {
    ObjectBuilder::new()
        .property(field, schema)
        .required(field)
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
}
