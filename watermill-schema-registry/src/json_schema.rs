//! [`json_schema`]: the JSON Schema of a type.

use schemars::{JsonSchema, generate::SchemaSettings};
use watermill_core::cqrs::Schema;

/// The JSON Schema of a type, of draft 7, which all registries take: for
/// [`RegisteredCodec`](watermill_core::cqrs::RegisteredCodec) with a `JsonCodec`.
///
/// ```
/// # use watermill_schema_registry::json_schema;
/// #[derive(schemars::JsonSchema)]
/// struct RoomBooked {
///     room: u32,
/// }
///
/// assert!(json_schema::<RoomBooked>().text().contains(r#""required":["room"]"#));
/// ```
pub fn json_schema<T: JsonSchema>() -> Schema {
    let schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<T>();
    Schema::json(schema.as_value().to_string())
}
