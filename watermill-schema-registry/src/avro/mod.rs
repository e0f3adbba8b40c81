//! [`AvroCodec`]: payloads in Apache Avro.

mod parsed;
mod parsing;

use std::{any::TypeId, collections::HashMap, fmt, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::RwLock;
use serde::{Serialize, de::DeserializeOwned};
use watermill_core::{
    cqrs::{Codec, Decode, Describe, Encode, Named, Schema, schema_header, schema_id},
    error::{BoxError, Nack},
    router::topology::Payloads,
};

use self::parsed::Parsed;
use crate::{RegistryError, SchemaRegistryClient, bounded::Bounded};

/// Avro, by serde, with the number of the schema in front of each payload, as Confluent's clients write and read it.
///
/// A payload is written with the schema that was [registered](Self::register) for its type. It is read with the schema it was written
/// with, which is fetched from the registry when its number is first seen, and resolved to the one of its type: fields that
/// were added have their defaults, fields that were removed are passed over, and numbers are widened, as Avro's specification has it.
///
/// ```
/// use watermill_core::{cqrs::{Marshaler, Named, Schema}, error::BoxError};
/// use watermill_schema_registry::{AvroCodec, SchemaRegistryClient};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct RoomBooked {
///     room: i32,
/// }
/// # impl Named for RoomBooked { const NAME: &'static str = "RoomBooked"; }
///
/// const ROOM_BOOKED: &str = r#"{
///     "type": "record", "name": "RoomBooked", "namespace": "hotel",
///     "fields": [{ "name": "room", "type": "int" }]
/// }"#;
///
/// async fn marshaler(registry: SchemaRegistryClient) -> Result<Marshaler<AvroCodec>, BoxError> {
///     let codec = AvroCodec::new(registry)
///         .register::<RoomBooked>("hotel.events-hotel.RoomBooked", Schema::avro(ROOM_BOOKED))
///         .await?;
///     Ok(Marshaler::new(codec))
/// }
/// ```
///
/// # When the registry is away
///
/// Publishing asks it nothing: the numbers are known from the start. A message whose schema is not known yet is given back
/// ([`Nack`]), and comes again; see [`RegistryErrorKind`](crate::RegistryErrorKind) for each case.
///
/// # Bounds
///
/// As many parsed schemas are kept as the client [keeps](crate::SchemaRegistryConfig::cached_schemas), beside those of the types
/// here. What a faulty payload can have allocated is bounded by `apache_avro::util::max_allocation_bytes`, 512 MiB unless that was
/// called at the start.
#[derive(Clone)]
pub struct AvroCodec {
    types: Arc<HashMap<TypeId, Type>>,
    written: Arc<Written>,
}

#[derive(Clone)]
struct Type {
    /// The number of its schema, if values are written too.
    id: Option<u32>,
    schema: Arc<Parsed>,
}

/// The schemas that messages were written with.
struct Written {
    registry: SchemaRegistryClient,
    parsed: RwLock<Bounded<Arc<Parsed>>>,
}

impl AvroCodec {
    /// A codec that knows no type yet.
    pub fn new(registry: SchemaRegistryClient) -> Self {
        let parsed = RwLock::new(Bounded::new(registry.config().cached_schemas));
        Self { types: Arc::default(), written: Arc::new(Written { registry, parsed }) }
    }

    /// Writes and reads values of `T` with this schema, once the registry has said its number under a subject.
    ///
    /// # Errors
    ///
    /// As [`SchemaRegistryClient::number`], and [`Invalid`](crate::RegistryErrorKind::Invalid) where the schema is no Avro.
    pub async fn register<T: Named>(self, subject: &str, schema: Schema) -> Result<Self, RegistryError> {
        // Looked at before the registry keeps it.
        let parsed = self.parse(T::NAME, &schema).await?;
        let id = self.written.registry.number(subject, &schema).await?;
        Ok(self.with::<T>(Type { id: Some(id), schema: parsed }))
    }

    /// Reads values of `T`, resolved to this schema. The registry is asked only for what the schema refers to, so that a service
    /// which reads alone may start while the registry is away.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::RegistryErrorKind::Invalid) where the schema is no Avro, and what keeps the registry from answering.
    pub async fn read<T: Named>(self, schema: Schema) -> Result<Self, RegistryError> {
        let parsed = self.parse(T::NAME, &schema).await?;
        Ok(self.with::<T>(Type { id: None, schema: parsed }))
    }

    async fn parse(&self, of: &str, schema: &Schema) -> Result<Arc<Parsed>, RegistryError> {
        let what = format!("parse the schema of {of}");
        parsing::parse(&self.written.registry, &what, schema).await.map(Arc::new)
    }

    fn with<T: 'static>(mut self, known: Type) -> Self {
        Arc::make_mut(&mut self.types).insert(TypeId::of::<T>(), known);
        self
    }

    fn known<T: Named>(&self) -> Result<&Type, String> {
        let known = self.types.get(&TypeId::of::<T>());
        known.ok_or_else(|| format!("find the schema of {}: register it at the start", T::NAME))
    }
}

impl Written {
    fn get(&self, id: u32) -> Option<Arc<Parsed>> {
        self.parsed.read().get(id).cloned()
    }

    async fn fetch(&self, id: u32) -> Result<(), RegistryError> {
        let schema = self.registry.schema(id).await?;
        let parsed = parsing::parse(&self.registry, &format!("parse the schema {id}"), &schema).await?;
        self.parsed.write().insert(id, Arc::new(parsed));
        Ok(())
    }
}

impl Codec for AvroCodec {
    fn content_type(&self) -> &'static str {
        "avro/binary"
    }
}

impl<T: Named + Serialize> Encode<T> for AvroCodec {
    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        let Type { id, schema } = self.known::<T>()?;
        let id = id.ok_or_else(|| format!("find the number of {}: it is only read here", T::NAME))?;
        let mut payload = schema_header(id).to_vec();
        schema.write(value, &mut payload)?;
        Ok(payload.into())
    }
}

impl<T: Named + DeserializeOwned> Decode<T> for AvroCodec {
    fn prepare(&self, payload: &Bytes) -> Option<BoxFuture<'static, Result<(), BoxError>>> {
        let (id, _) = schema_id(payload)?;
        let is_own = self.types.get(&TypeId::of::<T>()).is_some_and(|own| own.id == Some(id));
        if is_own || self.written.get(id).is_some() {
            return None;
        }
        let written = self.written.clone();
        Some(async move { written.fetch(id).await.map_err(RegistryError::of_message) }.boxed())
    }

    fn decode(&self, payload: &Bytes) -> Result<T, BoxError> {
        let own = self.known::<T>()?;
        let (id, begin) =
            schema_id(payload).ok_or("the payload does not begin with the number of a schema")?;
        let datum = &payload[begin..];
        if own.id == Some(id) {
            return own.schema.read(None, datum);
        }
        // It was there, unless it had to make room in this moment, or an upcaster has made the payload.
        let missing = || Nack::new(format!("the schema {id} is not there yet"));
        self.written.get(id).ok_or_else(missing)?.read(Some(&own.schema), datum)
    }
}

impl<T> Describe<T> for AvroCodec {
    fn describe(&self, name: &str, payloads: &mut Payloads) {
        payloads.named(name, self.content_type());
    }
}

impl fmt::Debug for AvroCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AvroCodec")
            .field("types", &self.types.len())
            .field("registry", &self.written.registry)
            .finish_non_exhaustive()
    }
}
