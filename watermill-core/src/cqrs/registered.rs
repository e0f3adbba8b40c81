//! [`RegisteredCodec`]: payloads that say by which schema of a registry they were written.

use std::{any::TypeId, collections::HashMap, fmt, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};

use super::{Codec, Decode, Encode, Named, Schema, SchemaRegistry};
use crate::error::BoxError;

/// The number of the schema that a payload was written with, and where what was written begins, of a payload in Confluent's wire
/// format. Of Protocol Buffers it begins with which message of the file it is.
pub fn schema_id(payload: &[u8]) -> Option<(u32, usize)> {
    let id = payload.strip_prefix(&[MAGIC])?.first_chunk()?;
    Some((u32::from_be_bytes(*id), HEADER_BYTES))
}

/// What stands in front of a payload that was written with the schema of this number, in Confluent's wire format.
pub fn schema_header(id: u32) -> [u8; 5] {
    let [a, b, c, d] = id.to_be_bytes();
    [MAGIC, a, b, c, d]
}

/// Any codec, with the number of the schema in front of each payload, in Confluent's wire format: a zero byte, the number in four
/// bytes, for Protocol Buffers which message of the file it is, and then what the codec writes.
///
/// Numbers are asked for once, at the start, so that the registry may be away later on:
///
/// ```
/// use watermill_core::cqrs::{JsonCodec, Marshaler, Named, RegisteredCodec, Schema, SchemaRegistry};
/// # use watermill_core::error::BoxError;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct RoomBooked { room: u32 }
/// # impl Named for RoomBooked { const NAME: &'static str = "RoomBooked"; }
///
/// # struct Fixed;
/// # #[async_trait::async_trait]
/// # impl SchemaRegistry for Fixed {
/// #     async fn register(&self, _: &str, _: &Schema) -> Result<u32, BoxError> { Ok(258) }
/// # }
/// async fn marshaler(registry: &dyn SchemaRegistry) -> Result<Marshaler<RegisteredCodec<JsonCodec>>, BoxError> {
///     let schema = Schema::json(r#"{"type": "object", "properties": {"room": {"type": "integer"}}}"#);
///     let codec = RegisteredCodec::new(JsonCodec::new())
///         .register::<RoomBooked>(registry, "events-value", schema)
///         .await?;
///     Ok(Marshaler::new(codec))
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let message = marshaler(&Fixed).await?.marshal(&RoomBooked { room: 7 })?;
/// # assert_eq!(&message.payload()[..], b"\x00\x00\x00\x01\x02{\"room\":7}");
/// # Ok(())
/// # }
/// ```
///
/// What is read may be of any number: that readers bear what writers write is what the registry sees to when it gives numbers
/// out. A codec that needs the writer's schema, as Avro's does, finds its number with [`schema_id`], fetches it
/// in [`Decode::prepare`], and implements [`Decode`] itself. The crate `watermill-schema-registry` has one, and a client of registries.
#[derive(Clone)]
pub struct RegisteredCodec<C> {
    codec: C,
    /// What stands before the payloads of each type.
    headers: Arc<HashMap<TypeId, Bytes>>,
}

/// The first byte of every payload.
const MAGIC: u8 = 0;

/// That byte, and the number.
const HEADER_BYTES: usize = 5;

/// No type lies deeper in its file.
const INDEXES_MAX: u64 = 64;

impl<C: Codec> RegisteredCodec<C> {
    /// A codec that knows no schema yet.
    pub fn new(codec: C) -> Self {
        Self { codec, headers: Arc::default() }
    }

    /// Asks for the number of the schema of `T`. Values of that type are neither written nor read without: from the schema it is
    /// known what stands in front of them.
    ///
    /// # Errors
    ///
    /// What the registry says.
    pub async fn register<T: Named>(
        mut self,
        registry: &(impl SchemaRegistry + ?Sized),
        subject: &str,
        schema: Schema,
    ) -> Result<Self, BoxError> {
        let id = registry.register(subject, &schema).await?;
        let mut header = BytesMut::with_capacity(HEADER_BYTES + 1);
        header.put_slice(&schema_header(id));
        put_indexes(&mut header, schema.indexes());
        Arc::make_mut(&mut self.headers).insert(TypeId::of::<T>(), header.freeze());
        Ok(self)
    }

    /// What writes and reads what stands behind the number.
    pub(super) fn inner(&self) -> &C {
        &self.codec
    }

    fn header<T: Named>(&self) -> Result<&Bytes, String> {
        let header = self.headers.get(&TypeId::of::<T>());
        header.ok_or_else(|| format!("find the schema of {}: register it at the start", T::NAME))
    }
}

impl<C: Codec> Codec for RegisteredCodec<C> {
    fn content_type(&self) -> &'static str {
        self.codec.content_type()
    }
}

impl<T: Named, C: Encode<T>> Encode<T> for RegisteredCodec<C> {
    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        let (header, payload) = (self.header::<T>()?, self.codec.encode(value)?);
        let mut framed = BytesMut::with_capacity(header.len() + payload.len());
        framed.put_slice(header);
        framed.put_slice(&payload);
        Ok(framed.freeze())
    }
}

impl<T: Named, C: Decode<T>> Decode<T> for RegisteredCodec<C> {
    fn decode(&self, payload: &Bytes) -> Result<T, BoxError> {
        let (_, begin) =
            schema_id(payload).ok_or("the payload does not begin with the number of a schema")?;
        let has_indexes = self.header::<T>()?.len() > HEADER_BYTES;
        let indexes = if has_indexes { indexes_bytes(&payload[begin..])? } else { 0 };
        self.codec.decode(&payload.slice(begin + indexes..))
    }
}

/// How many there are and then each, as zigzag varints; `[0]`, which nearly all have, is one zero.
fn put_indexes(header: &mut BytesMut, indexes: &[u32]) {
    match indexes {
        [] => {}
        [0] => header.put_u8(0),
        indexes => {
            put_varint(header, indexes.len() as u64 * 2);
            indexes.iter().for_each(|index| put_varint(header, u64::from(*index) * 2));
        }
    }
}

fn put_varint(header: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        header.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    header.put_u8(value as u8);
}

/// How many bytes the indexes take.
fn indexes_bytes(bytes: &[u8]) -> Result<usize, &'static str> {
    const FAULTY: &str = "the payload does not say which message of its schema it is";
    let (count, mut length) = varint(bytes).ok_or(FAULTY)?;
    if count / 2 > INDEXES_MAX {
        return Err(FAULTY);
    }
    for _ in 0..count / 2 {
        length += varint(&bytes[length..]).ok_or(FAULTY)?.1;
    }
    Ok(length)
}

/// A varint and how many bytes it takes.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

impl<C: fmt::Debug> fmt::Debug for RegisteredCodec<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredCodec")
            .field("codec", &self.codec)
            .field("schemas", &self.headers.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::cqrs::JsonCodec;

    struct Numbered(u32);

    #[async_trait]
    impl SchemaRegistry for Numbered {
        async fn register(&self, subject: &str, schema: &Schema) -> Result<u32, BoxError> {
            if subject.is_empty() {
                Err("no subject".into())
            } else {
                Ok(self.0 + schema.text().len() as u32)
            }
        }
    }

    struct Room;

    impl Named for Room {
        const NAME: &'static str = "Room";
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Guest(String);

    impl Named for Guest {
        const NAME: &'static str = "Guest";
    }

    async fn codec(schema: Schema) -> RegisteredCodec<JsonCodec> {
        RegisteredCodec::new(JsonCodec::new())
            .register::<Guest>(&Numbered(0x0102_0300), "s", schema)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn payloads_begin_with_the_number_and_the_message_of_their_schema() {
        let guest = Guest("Ada".to_owned());
        for (schema, header) in [
            (Schema::json("{}"), &b"\x00\x01\x02\x03\x02"[..]),
            (Schema::avro("{}"), b"\x00\x01\x02\x03\x02"),
            (Schema::protobuf("{}"), b"\x00\x01\x02\x03\x02\x00"),
            (Schema::protobuf("{}").message([1]), b"\x00\x01\x02\x03\x02\x02\x02"),
            (Schema::protobuf("{}").message([2, 0]), b"\x00\x01\x02\x03\x02\x04\x04\x00"),
            (Schema::protobuf("{}").message([64]), b"\x00\x01\x02\x03\x02\x02\x80\x01"),
        ] {
            let codec = codec(schema).await;
            let payload = codec.encode(&guest).unwrap();
            assert_eq!(payload, [header, b"\"Ada\""].concat());
            assert_eq!(Decode::<Guest>::decode(&codec, &payload).unwrap(), guest);
        }
    }

    #[tokio::test]
    async fn a_payload_of_another_number_is_read_and_one_without_a_number_is_not() {
        let codec = codec(Schema::protobuf("{}")).await;
        let read = |payload: &'static [u8]| Decode::<Guest>::decode(&codec, &Bytes::from_static(payload));
        assert_eq!(read(b"\x00\x00\x00\x00\x09\x00\"Ada\"").unwrap(), Guest("Ada".to_owned()));
        for faulty in [
            &b""[..],
            b"\"Ada\"",
            b"\x00\x00\x00\x00",
            b"\x00\x00\x00\x00\x09",
            b"\x00\x00\x00\x00\x09\x02",
            b"\x00\x00\x00\x00\x09\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x00\x00\x00\x00\x09\xfe\xff\xff\xff\x0f",
        ] {
            assert!(read(faulty).is_err(), "{faulty:?}");
        }
    }

    #[tokio::test]
    async fn what_has_no_number_is_not_written() {
        let codec = codec(Schema::json("{}")).await;
        let error = codec.header::<Room>().unwrap_err();
        assert!(error.contains("the schema of Room"), "{error}");
        assert!(codec.register::<Room>(&Numbered(0), "", Schema::json("{}")).await.is_err());
    }
}
