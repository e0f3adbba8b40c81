//! [`Parsed`]: a schema of Avro with those that it refers to.

use apache_avro::{Schema, from_value, reader::datum::GenericDatumReader, writer::datum::GenericDatumWriter};
use serde::{Serialize, de::DeserializeOwned};
use watermill_core::error::BoxError;

/// A schema, and those that it refers to, each behind those that it refers to itself.
pub(super) struct Parsed {
    pub(super) schema: Schema,
    pub(super) others: Vec<Schema>,
}

impl Parsed {
    pub(super) fn write<T: Serialize>(&self, value: &T, payload: &mut Vec<u8>) -> Result<(), BoxError> {
        let writer = GenericDatumWriter::builder(&self.schema).schemata(self.all())?.build()?;
        writer.write_ser(payload, value)?;
        Ok(())
    }

    /// Reads what was written with this schema; as `reader` has it, where that is another one.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        reader: Option<&Self>,
        mut datum: &[u8],
    ) -> Result<T, BoxError> {
        let builder = GenericDatumReader::builder(&self.schema).writer_schemata(self.all())?;
        let value = match reader {
            Some(reader) => {
                let builder = builder.reader_schema(&reader.schema).reader_schemata(reader.all())?;
                builder.build()?.read_value(&mut datum)?
            }
            None => builder.build()?.read_value(&mut datum)?,
        };
        // What is longer was written with another schema than it says.
        if !datum.is_empty() {
            return Err(format!("{} bytes follow what its schema describes", datum.len()).into());
        }
        Ok(from_value(&value)?)
    }

    fn all(&self) -> Vec<&Schema> {
        self.others.iter().chain([&self.schema]).collect()
    }
}
