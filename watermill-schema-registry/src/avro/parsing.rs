//! Schemas from texts, with those of the registry that they refer to.

use std::collections::HashSet;

use apache_avro::Schema as Avro;
use watermill_core::cqrs::{Schema, SchemaKind, SchemaReference};

use super::parsed::Parsed;
use crate::{RegistryError, RegistryErrorKind, SchemaRegistryClient};

/// A schema that refers to more is nobody's.
const REFERENCES_MAX: usize = 1_000;

/// Parses a schema, and fetches what it refers to.
pub(super) async fn parse(
    registry: &SchemaRegistryClient,
    what: &str,
    schema: &Schema,
) -> Result<Parsed, RegistryError> {
    if schema.kind() != SchemaKind::Avro {
        let detail = format!("it is of {:?} and not of Avro", schema.kind());
        return Err(RegistryError::new(RegistryErrorKind::Invalid, what, detail));
    }
    let texts = referred_to(registry, what, schema).await?;
    let parsed = Avro::parse_str_with_list(schema.text(), &texts);
    let (schema, others) = parsed.map_err(|error| {
        RegistryError::new(RegistryErrorKind::Invalid, what, "it is no schema of Avro").with_source(error)
    })?;
    Ok(Parsed { schema, others })
}

/// What a schema refers to, directly or not: the text of each behind those of what it refers to itself.
async fn referred_to(
    registry: &SchemaRegistryClient,
    what: &str,
    schema: &Schema,
) -> Result<Vec<String>, RegistryError> {
    let mut steps: Vec<Step> = Step::all(schema);
    let (mut seen, mut texts) = (HashSet::new(), Vec::new());
    while let Some(step) = steps.pop() {
        match step {
            Step::Keep(text) => texts.push(text),
            Step::Fetch(SchemaReference { subject, version, .. }) => {
                if !seen.insert((subject.clone(), version)) {
                    continue;
                }
                if seen.len() > REFERENCES_MAX {
                    let detail = format!("it refers to more than {REFERENCES_MAX} schemas");
                    return Err(RegistryError::new(RegistryErrorKind::Invalid, what, detail));
                }
                let found = registry.version(&subject, version).await?.schema;
                steps.push(Step::Keep(found.text().to_owned()));
                steps.extend(Step::all(&found));
            }
        }
    }
    Ok(texts)
}

/// What is still to be done, the last first.
enum Step {
    Fetch(SchemaReference),
    Keep(String),
}

impl Step {
    fn all(schema: &Schema) -> Vec<Self> {
        schema.references().iter().cloned().map(Self::Fetch).collect()
    }
}
