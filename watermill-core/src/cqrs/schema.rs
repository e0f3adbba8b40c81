//! [`Schema`] and [`SchemaRegistry`]: what payloads look like, and where that has a number.

use async_trait::async_trait;

use crate::error::BoxError;

/// Where schemas have numbers: a schema registry, by whatever client.
///
/// One call of Confluent's registry is enough for it: `POST /subjects/{subject}/versions` answers with the number.
#[async_trait]
pub trait SchemaRegistry: Send + Sync {
    /// The number of a schema under a subject: that which it has, or a new one, if the registry finds it compatible with
    /// those before.
    ///
    /// # Errors
    ///
    /// That it is not compatible, or that the registry cannot be asked.
    async fn register(&self, subject: &str, schema: &Schema) -> Result<u32, BoxError>;
}

/// The schema of a type, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    kind: SchemaKind,
    text: String,
    /// Of Protocol Buffers: which of the messages of the file it is, from the outermost in.
    message: Vec<u32>,
    references: Vec<SchemaReference>,
}

/// Another schema of the registry that a schema needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaReference {
    /// What the schema calls it: the full name of an Avro type, the path of an import, the URI of a JSON Schema.
    pub name: String,
    /// The subject it is registered under.
    pub subject: String,
    /// Its version there.
    pub version: u32,
}

/// The language of a schema. What it is called in Confluent's registry is its name in capitals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchemaKind {
    /// Apache Avro.
    Avro,
    /// JSON Schema.
    Json,
    /// Protocol Buffers.
    Protobuf,
}

impl Schema {
    /// A schema of Apache Avro, for a codec of yours that writes it.
    pub fn avro(text: impl Into<String>) -> Self {
        Self::new(SchemaKind::Avro, text)
    }

    /// A JSON Schema.
    pub fn json(text: impl Into<String>) -> Self {
        Self::new(SchemaKind::Json, text)
    }

    /// A file of Protocol Buffers, of which the type is the first message.
    pub fn protobuf(text: impl Into<String>) -> Self {
        Self::new(SchemaKind::Protobuf, text)
    }

    /// A schema of this language.
    pub fn new(kind: SchemaKind, text: impl Into<String>) -> Self {
        let message = if kind == SchemaKind::Protobuf { vec![0] } else { Vec::new() };
        Self { kind, text: text.into(), message, references: Vec::new() }
    }

    /// Adds a schema of the registry that this one needs: an import of Protocol Buffers, or a named type of Avro that is defined
    /// elsewhere.
    #[must_use]
    pub fn reference(mut self, name: impl Into<String>, subject: impl Into<String>, version: u32) -> Self {
        self.references.push(SchemaReference { name: name.into(), subject: subject.into(), version });
        self
    }

    /// Says which message of a file of Protocol Buffers it is: `[2]` the third, `[2, 0]` the first that is declared within
    /// that.
    #[must_use]
    pub fn message(mut self, indexes: impl IntoIterator<Item = u32>) -> Self {
        self.message = indexes.into_iter().collect();
        self
    }

    /// Its language.
    pub fn kind(&self) -> SchemaKind {
        self.kind
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Of Protocol Buffers, which of the messages of the file it is.
    pub(super) fn indexes(&self) -> &[u32] {
        &self.message
    }

    /// The schemas of the registry that it needs.
    pub fn references(&self) -> &[SchemaReference] {
        &self.references
    }
}
