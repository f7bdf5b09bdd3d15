//! The JSON Schema of `jobs.yaml`, made from the types that read it.
//!
//! Draft 7, which is what editors' YAML servers read.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::decode::{Entry, Located};
use super::schema::{
    Build, CaBundle, Command, EnvFile, EnvFiles, FormatVersion, GpusKey, HealthTest, ImageSource,
    LogMetrics, Need, Needs, Network, Output, Root, User, Variables, VersionSource,
};
use crate::model::{
    ByteSize, ContainerPath, Cpus, Duration, EnvName, Gate, Gpus, HostPath, ImageRef, MetricName,
    MetricPattern, Mount, Name, Port, Restart, Scalar, Version, WorkingDir,
};

/// A text that has a variable in it may be anything once the variable is put in.
const VARIABLE: &str = r"\$\{";

/// The JSON Schema of `jobs.yaml`.
#[must_use]
pub fn json_schema() -> Value {
    let mut settings = SchemaSettings::draft07();
    settings.transforms.push(Box::new(Allowances));
    let schema = settings.into_generator().into_root_schema_for::<Root>();
    schema.to_value()
}

/// What the types do not say of themselves.
#[derive(Debug, Clone)]
struct Allowances;

impl Transform for Allowances {
    /// The innermost first, as [`allow_variables`] puts a schema within another.
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        refuse_nothing(schema);
        allow_variables(schema);
        allow_extensions(schema);
    }
}

/// A key that may be left out may not be left empty.
fn refuse_nothing(schema: &mut Schema) {
    let Some(Value::Object(properties)) = schema.get_mut("properties") else {
        return;
    };
    for property in properties.values_mut() {
        if let Some(Value::Array(types)) = property.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                property["type"] = only.clone();
            }
        }
        if let Some(Value::Array(alternatives)) = property.get_mut("anyOf") {
            alternatives.retain(|schema| schema.get("type") != Some(&json!("null")));
        }
        // What was not a boolean or number before is one now.
        if let Ok(schema) = property.try_into() {
            allow_variables(schema);
        }
    }
}

/// Numbers, booleans and words may be written as `${VARIABLE}` too.
fn allow_variables(schema: &mut Schema) {
    let is_typed = matches!(
        schema.get("type").and_then(Value::as_str),
        Some("integer" | "boolean")
    );
    let is_word = schema.get("enum").is_some() || schema.get("oneOf").is_some_and(are_constants);
    if !(is_typed || is_word) {
        return;
    }
    let mut inner = schema.clone();
    let object = inner.ensure_object();
    let description = object.remove("description");
    let mut outer = json!({
        "anyOf": [inner.to_value(), { "type": "string", "pattern": VARIABLE }],
    });
    if let Some(description) = description {
        outer["description"] = description;
    }
    if let Ok(outer) = Schema::try_from(outer) {
        *schema = outer;
    }
}

/// Whether all alternatives are constant words.
fn are_constants(alternatives: &Value) -> bool {
    alternatives
        .as_array()
        .is_some_and(|schemas| schemas.iter().all(|schema| schema.get("const").is_some()))
}

/// Any mapping of ours may have `x-…` keys.
fn allow_extensions(schema: &mut Schema) {
    if schema.get("additionalProperties").is_some() {
        let patterns = schema.ensure_object().entry("patternProperties");
        patterns.or_insert_with(|| json!({}))["^x-"] = json!(true);
    }
}

impl<T: JsonSchema> JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<K, V: JsonSchema> JsonSchema for Entry<K, V> {
    fn inline_schema() -> bool {
        V::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        V::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        V::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        V::json_schema(generator)
    }
}

/// Schemas of types that are written as one scalar.
macro_rules! scalars {
    ($($type:ty),+ $(,)?) => {
        $(impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                <$type as Scalar>::NAME.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                scalar::<$type>()
            }
        })+
    };
}

scalars!(
    ByteSize,
    ContainerPath,
    Cpus,
    Duration,
    EnvName,
    Gate,
    Gpus,
    HostPath,
    ImageRef,
    ImageSource,
    MetricName,
    MetricPattern,
    Mount,
    Name,
    Network,
    User,
    WorkingDir,
    Port,
    Restart,
    Version,
);

fn scalar<T: Scalar>() -> Schema {
    let types = if T::ACCEPTS_NUMBERS {
        json!(["string", "number"])
    } else {
        json!("string")
    };
    json_schema!({
        "description": T::EXPECTED,
        "type": types,
        "pattern": format!("(?:{})|{VARIABLE}", T::PATTERN),
        "examples": T::EXAMPLES,
    })
}

/// Schemas of types that can be written in several ways.
macro_rules! alternatives {
    ($($type:ident($generator:ident) => $schema:expr;)+) => {
        $(impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        })+
    };
}

/// A build as a key's value: a mapping, or its context alone.
pub(super) struct BuildForms;
/// An output as a key's value: a mapping, or its path alone.
pub(super) struct OutputForms;

alternatives! {
    BuildForms(generator) => json_schema!({
        "anyOf": [generator.subschema_for::<HostPath>(), generator.subschema_for::<Build>()],
    });
    OutputForms(generator) => json_schema!({
        "anyOf": [generator.subschema_for::<ContainerPath>(), generator.subschema_for::<Output>()],
    });
    FormatVersion(_generator) => json_schema!({ "const": 1 });
    VersionSource(generator) => json_schema!({
        "anyOf": [{ "const": "git" }, generator.subschema_for::<Version>()],
    });
    CaBundle(generator) => json_schema!({
        "anyOf": [{ "const": "host" }, generator.subschema_for::<HostPath>()],
    });
    Command(_generator) => json_schema!({
        "description": "a command: a list, or a text that is split into words as a shell does it",
        "anyOf": [{ "type": "string" }, list_of(&words())],
    });
    HealthTest(_generator) => json_schema!({
        "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ],
    });
    GpusKey(generator) => json_schema!({
        "anyOf": [
            generator.subschema_for::<Gpus>(),
            { "type": "integer", "minimum": 0 },
            {
                "type": "object",
                "properties": {
                    "count": { "type": "integer", "minimum": 0 },
                    "device_ids": list_of(&words()),
                },
                "additionalProperties": false,
                "minProperties": 1,
            },
        ],
    });
    Variables(generator) => json_schema!({
        "anyOf": [
            {
                "type": "object",
                "propertyNames": generator.subschema_for::<EnvName>(),
                "additionalProperties": { "type": ["string", "number", "boolean", "null"] },
            },
            list_of(&json!({ "type": "string" })),
        ],
    });
    EnvFiles(generator) => {
        let file = generator.subschema_for::<EnvFile>();
        let path = generator.subschema_for::<HostPath>();
        let one = json!({ "anyOf": [path, file] });
        json_schema!({ "anyOf": [path, file, list_of(&one)] })
    };
    LogMetrics(generator) => {
        let name = generator.subschema_for::<MetricName>();
        let pattern = generator.subschema_for::<MetricPattern>();
        json_schema!({
            "anyOf": [
                {
                    "type": "object",
                    "propertyNames": name,
                    "additionalProperties": { "anyOf": [pattern, { "type": "null" }] },
                },
                list_of(&name.to_value()),
            ],
        })
    };
    Needs(generator) => {
        let need = generator.subschema_for::<Need>();
        let name = generator.subschema_for::<Name>();
        json_schema!({
            "anyOf": [
                { "type": "object", "additionalProperties": { "anyOf": [need, { "type": "null" }] } },
                list_of(&name.to_value()),
            ],
        })
    };
}

/// Texts; numbers and booleans are taken as they are written.
fn words() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

fn list_of(items: &Value) -> Value {
    json!({ "type": "array", "items": items })
}
