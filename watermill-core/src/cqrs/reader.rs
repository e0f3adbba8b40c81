//! [`Reader`]: reads the values of one type from messages.

use std::marker::PhantomData;

use futures::future::BoxFuture;

use super::{Decode, Marshaler, Named, ReadError, ReadErrorKind, upcast::Steps};
use crate::{
    Message, cloud_events,
    error::{BoxError, Nack},
    metadata_keys,
};

/// What a message is called: its entry `name`, else the type of a cloud event.
pub(super) fn name_of(message: &Message) -> Option<&str> {
    let metadata = message.metadata();
    let name = metadata.get(metadata_keys::NAME).filter(|name| !name.is_empty());
    name.or_else(|| metadata.get(cloud_events::TYPE))
}

/// Reads messages that are known to be called like a `T`.
pub(super) struct Reader<T, C> {
    pub(super) codec: C,
    steps: Steps,
    value: PhantomData<fn() -> T>,
}

impl<T: Named, C: Decode<T>> Reader<T, C> {
    pub(super) fn new(marshaler: &Marshaler<C>) -> Self {
        let steps = marshaler.shared.upcasters.of::<T>();
        Self { codec: marshaler.codec.clone(), steps, value: PhantomData }
    }

    /// What has to be fetched before the message can be read.
    pub(super) fn prepare(&self, message: &Message) -> Option<BoxFuture<'static, Result<(), BoxError>>> {
        self.codec.prepare(message.payload())
    }

    pub(super) fn read(&self, message: &Message) -> Result<T, BoxError> {
        self.check_content_type(message)?;
        let version = version_of(message)?;
        if version == T::VERSION {
            return self.decode(message);
        }
        self.upcast(message, version).and_then(|upcasted| self.decode(&upcasted))
    }

    fn decode(&self, message: &Message) -> Result<T, BoxError> {
        self.codec.decode(message.payload()).map_err(|source| {
            if Nack::is(&*source) {
                return source;
            }
            let text = format!("decode the payload as {} of {}", self.codec.content_type(), T::NAME);
            ReadError::new(ReadErrorKind::Payload, text).with_source(source).permanent()
        })
    }

    fn check_content_type(&self, message: &Message) -> Result<(), BoxError> {
        let Some(found) = message.metadata().get(metadata_keys::CONTENT_TYPE) else { return Ok(()) };
        let wanted = self.codec.content_type();
        // Without parameters: `application/json; charset=utf-8`.
        let media_type = found.split(';').next().unwrap_or_default().trim();
        if media_type.is_empty() || media_type.eq_ignore_ascii_case(wanted) {
            return Ok(());
        }
        let text = format!("read {} of {found:?}: the handler reads {wanted}", T::NAME);
        Err(ReadError::new(ReadErrorKind::ContentType, text).permanent())
    }

    #[cold]
    fn upcast(&self, message: &Message, from: u32) -> Result<Message, BoxError> {
        let refused = |reason: String| {
            let text = format!("read {} of version {from} as version {}: {reason}", T::NAME, T::VERSION);
            ReadError::new(ReadErrorKind::Version, text)
        };
        if from > T::VERSION {
            return Err(refused("it is newer than this program".to_owned()).permanent());
        }
        let mut upcasted = message.clone();
        for version in from..T::VERSION {
            let Some(upcast) = self.steps.from(version) else {
                return Err(refused(format!("nothing upcasts version {version}")).permanent());
            };
            let failed = |source| refused(format!("upcast version {version}")).with_source(source);
            upcasted = upcast(upcasted).map_err(|source| failed(source).permanent())?;
        }
        Ok(upcasted)
    }
}

impl<T, C: Clone> Clone for Reader<T, C> {
    fn clone(&self) -> Self {
        Self { codec: self.codec.clone(), steps: self.steps.clone(), value: PhantomData }
    }
}

fn version_of(message: &Message) -> Result<u32, BoxError> {
    let Some(text) = message.metadata().get(metadata_keys::SCHEMA_VERSION) else { return Ok(1) };
    text.parse().map_err(|source| {
        let text = format!("read the schema version {text:?}");
        ReadError::new(ReadErrorKind::Version, text).with_source(Box::new(source) as BoxError).permanent()
    })
}
