//! The JSON of Confluent's API.

use serde::{Deserialize, Serialize};
use watermill_core::cqrs::{Schema, SchemaKind};

/// A schema as the registry has it under a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegisteredSchema {
    /// Its number, which payloads begin with.
    pub id: u32,
    /// The subject.
    pub subject: String,
    /// Which version of the subject it is, from 1.
    pub version: u32,
    /// The schema.
    pub schema: Schema,
}

/// Whether a schema could be registered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Compatibility {
    /// Whether the registry would take it.
    pub is_compatible: bool,
    /// Why not, in the registry's words; some say nothing.
    #[serde(default)]
    pub messages: Vec<String>,
}

/// A schema as it is sent.
#[derive(Serialize)]
pub(crate) struct Sent<'s> {
    schema: &'s str,
    /// Left out for Avro, which is all that old registries know.
    #[serde(rename = "schemaType", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    references: Vec<SentReference<'s>>,
}

#[derive(Serialize)]
struct SentReference<'s> {
    name: &'s str,
    subject: &'s str,
    version: u32,
}

impl<'s> Sent<'s> {
    /// `None` for a schema of a language that has no name here.
    pub(crate) fn of(schema: &'s Schema) -> Option<Self> {
        let kind = match schema.kind() {
            SchemaKind::Avro => None,
            SchemaKind::Json => Some("JSON"),
            SchemaKind::Protobuf => Some("PROTOBUF"),
            _ => return None,
        };
        let references = schema.references().iter().map(|reference| SentReference {
            name: &reference.name,
            subject: &reference.subject,
            version: reference.version,
        });
        Some(Self { schema: schema.text(), kind, references: references.collect() })
    }
}

/// A number that was given to a schema.
#[derive(Deserialize)]
pub(crate) struct Numbered {
    pub(crate) id: u32,
}

/// A schema as it is received.
#[derive(Deserialize)]
pub(crate) struct Received {
    schema: String,
    #[serde(default, rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Option<Vec<ReceivedReference>>,
}

#[derive(Deserialize)]
struct ReceivedReference {
    name: String,
    subject: String,
    version: u32,
}

impl Received {
    /// The schema, or the name of its language, if that is not known here.
    pub(crate) fn schema(self) -> Result<Schema, String> {
        let kind = match self.kind.as_deref() {
            None | Some("AVRO") => SchemaKind::Avro,
            Some("JSON") => SchemaKind::Json,
            Some("PROTOBUF") => SchemaKind::Protobuf,
            Some(other) => return Err(other.to_owned()),
        };
        let schema = Schema::new(kind, self.schema);
        let references = self.references.into_iter().flatten();
        Ok(references.fold(schema, |schema, it| schema.reference(it.name, it.subject, it.version)))
    }
}

/// A schema as it is received of a subject.
#[derive(Deserialize)]
pub(crate) struct ReceivedVersion {
    pub(crate) id: u32,
    pub(crate) subject: String,
    pub(crate) version: u32,
    #[serde(flatten)]
    pub(crate) schema: Received,
}

/// What a registry says when it does not do something.
#[derive(Deserialize)]
pub(crate) struct Fault {
    pub(crate) error_code: u32,
    #[serde(default)]
    pub(crate) message: String,
}
