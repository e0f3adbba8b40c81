//! Extractors: what a handler's arguments may be.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    ops::{Deref, DerefMut},
};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::{HandlerInfo, Required};
use crate::{
    DeliveryInfo, Message, MessageId, Metadata,
    error::{BoxError, Permanent},
};

/// A handler argument that is read from the message or the router's state.
///
/// Implement it for your own types, to say once how a tenant or a trace id is found:
///
/// ```
/// use watermill_core::{Message, error::Permanent, router::Extract};
///
/// struct Tenant(String);
///
/// impl<S> Extract<S> for Tenant {
///     type Rejection = Permanent;
///
///     fn extract(message: &Message, _state: &S) -> Result<Self, Permanent> {
///         let tenant = message.metadata().get("tenant");
///         tenant.map(|name| Self(name.to_owned())).ok_or_else(|| Permanent::new("no tenant in the metadata"))
///     }
/// }
///
/// async fn greet(Tenant(tenant): Tenant) {
///     println!("hello, {tenant}");
/// }
/// # let broker = watermill_core::MemoryBroker::new();
/// # let _ = watermill_core::Router::new()
/// #     .add(watermill_core::Handler::new("greet", greet).from(broker.subscriber(), "guests"));
/// ```
///
/// # Why it does not await
///
/// An extractor reads what is there already. What has to be waited for, a connection, a row or a check of a
/// token, is the work of a layer, which has what an extractor could not have: a place in an order, so that a
/// timeout limits it, a retry repeats it and a circuit breaker hears of its failures; the end of the handler,
/// so that it can commit, roll back or release what it has taken; and the intake valve, so that messages stay
/// in the backend while it is not ready. It also keeps the way from a message to its handler free of futures
/// that only pass a value on.
///
/// So a layer awaits and puts an extension on the message, and an extractor takes it. Where only a lookup is
/// waited for, tower's `AsyncFilterLayer` is that layer:
///
/// ```
/// use tower::filter::AsyncFilterLayer;
/// use watermill_core::{
///     Handler, MemoryBroker, Message, Router, error::{BoxError, Permanent}, router::Extract,
/// };
///
/// #[derive(Clone)]
/// struct Customer(String);
///
/// impl<S> Extract<S> for Customer {
///     type Rejection = Permanent;
///
///     fn extract(message: &Message, _state: &S) -> Result<Self, Permanent> {
///         message.extensions().get().cloned().ok_or_else(|| Permanent::new("find the customer of the message"))
///     }
/// }
///
/// async fn look_up(message: Message) -> Result<Message, BoxError> {
///     # async fn name_of(_id: &str) -> Result<String, BoxError> { Ok("Ann".to_owned()) }
///     let name = name_of(message.metadata().get("customer").unwrap_or_default()).await?;
///     Ok(message.with_extension(Customer(name)))
/// }
///
/// async fn greet(Customer(name): Customer) {
///     println!("hello, {name}");
/// }
///
/// let broker = MemoryBroker::new();
/// let greet = Handler::new("greet", greet)
///     .from(broker.subscriber(), "guests")
///     .layer(AsyncFilterLayer::new(look_up));
/// # let _ =
/// Router::new().add(greet);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler argument",
    label = "does not implement `Extract`",
    note = "a handler's arguments implement `Extract`; what the router's state holds is taken with `State<T>`",
    note = "`Message` takes the whole message, and only the last argument may do so"
)]
pub trait Extract<S>: Sized {
    /// Why it could not be read. Wrap it in [`Permanent`] unless trying again can help.
    type Rejection: Into<BoxError>;

    /// Reads the argument.
    ///
    /// # Errors
    ///
    /// The rejection fails the message, as an error of the handler would.
    fn extract(message: &Message, state: &S) -> Result<Self, Self::Rejection>;

    /// What a layer has to [promise](super::Promise::provides) for this argument. A handler without such a layer is
    /// refused when the router is built. By default nothing.
    fn required() -> Option<Required> {
        None
    }
}

/// The last argument of a handler: anything that implements [`Extract`], or the [`Message`] itself.
///
/// `Via` only tells the two apart; it is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the last argument of a handler",
    label = "neither `Message` nor `Extract`",
    note = "a handler's arguments implement `Extract`, and the last may be `Message`; what the router's state holds is taken with `State<T>`"
)]
pub trait ExtractOwned<S, Via = ByValue>: Sized {
    /// Why it could not be read.
    type Rejection: Into<BoxError>;

    /// Reads the argument, consuming the message.
    ///
    /// # Errors
    ///
    /// The rejection fails the message, as an error of the handler would.
    fn extract_owned(message: Message, state: &S) -> Result<Self, Self::Rejection>;

    /// As [`Extract::required`].
    fn required() -> Option<Required> {
        None
    }
}

/// Marks last arguments that take the message.
#[derive(Debug)]
pub enum ByValue {}

/// Marks last arguments that only look at the message.
#[derive(Debug)]
pub enum ByRef {}

impl<S, T: Extract<S>> ExtractOwned<S, ByRef> for T {
    type Rejection = T::Rejection;

    fn extract_owned(message: Message, state: &S) -> Result<Self, Self::Rejection> {
        T::extract(&message, state)
    }

    fn required() -> Option<Required> {
        T::required()
    }
}

impl<S> ExtractOwned<S> for Message {
    type Rejection = Infallible;

    fn extract_owned(message: Message, _state: &S) -> Result<Self, Infallible> {
        Ok(message)
    }
}

/// A JSON payload: as an argument it is decoded, returned it is encoded.
///
/// A payload that does not decode fails the message with a [`Permanent`] error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// The payload is not the JSON the handler asked for. Trying again does not help.
#[derive(Debug)]
pub struct JsonRejection {
    wanted: &'static str,
    source: serde_json::Error,
}

impl<S, T: DeserializeOwned> Extract<S> for Json<T> {
    type Rejection = Permanent;

    fn extract(message: &Message, _state: &S) -> Result<Self, Permanent> {
        message
            .decode_json()
            .map(Self)
            .map_err(|source| Permanent::new(JsonRejection { wanted: std::any::type_name::<T>(), source }))
    }
}

impl fmt::Display for JsonRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "decode the payload as JSON of {}", self.wanted)
    }
}

impl Error for JsonRejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Json<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// A clone of the router's state, or of a part of it (see [`FromRef`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<T>(pub T);

/// How a handler's [`State`] is taken from the router's. Implement it to let a handler ask for a part.
#[diagnostic::on_unimplemented(
    message = "the handler takes the state `{Self}`, and the router's state is `{S}`",
    note = "give the router its state before handlers are added: `Router::new().with_state(..)`",
    note = "for a handler that takes a part of the state, implement `FromRef<{S}>` for `{Self}`"
)]
pub trait FromRef<S> {
    /// Takes the part.
    fn from_ref(state: &S) -> Self;
}

impl<S: Clone> FromRef<S> for S {
    fn from_ref(state: &S) -> Self {
        state.clone()
    }
}

impl<S, T: FromRef<S>> Extract<S> for State<T> {
    type Rejection = Infallible;

    fn extract(_message: &Message, state: &S) -> Result<Self, Infallible> {
        Ok(Self(T::from_ref(state)))
    }
}

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A typed extension that middleware attached to the message. Missing, it fails the message for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extension<T>(pub T);

impl<S, T: Clone + Send + Sync + 'static> Extract<S> for Extension<T> {
    type Rejection = Permanent;

    fn extract(message: &Message, _state: &S) -> Result<Self, Permanent> {
        message.extensions().get::<T>().cloned().map(Self).ok_or_else(|| {
            let wanted = std::any::type_name::<T>();
            Permanent::new(format!(
                "find an extension of type {wanted}; is the layer that sets it installed?"
            ))
        })
    }
}

impl<S> Extract<S> for MessageId {
    type Rejection = Infallible;

    fn extract(message: &Message, _state: &S) -> Result<Self, Infallible> {
        Ok(message.id().clone())
    }
}

impl<S> Extract<S> for Metadata {
    type Rejection = Infallible;

    fn extract(message: &Message, _state: &S) -> Result<Self, Infallible> {
        Ok(message.metadata().clone())
    }
}

impl<S> Extract<S> for Bytes {
    type Rejection = Infallible;

    /// The raw payload.
    fn extract(message: &Message, _state: &S) -> Result<Self, Infallible> {
        Ok(message.payload().clone())
    }
}

impl<S> Extract<S> for DeliveryInfo {
    type Rejection = NotDelivered;

    fn extract(message: &Message, _state: &S) -> Result<Self, NotDelivered> {
        message.delivery().cloned().ok_or(NotDelivered(()))
    }
}

impl<S> Extract<S> for HandlerInfo {
    type Rejection = NotDelivered;

    fn extract(message: &Message, _state: &S) -> Result<Self, NotDelivered> {
        message.handler().cloned().ok_or(NotDelivered(()))
    }
}

impl<S> Extract<S> for CancellationToken {
    type Rejection = NotDelivered;

    /// Cancelled when the delivery is settled or lost; see [`DeliveryInfo::cancellation`].
    fn extract(message: &Message, _state: &S) -> Result<Self, NotDelivered> {
        message.delivery().map(DeliveryInfo::cancellation).ok_or(NotDelivered(()))
    }
}

/// The message did not come from a subscription, so there is nothing to say about its delivery.
#[derive(Debug)]
pub struct NotDelivered(());

impl fmt::Display for NotDelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("find out how the message was delivered: it did not come through a router")
    }
}

impl Error for NotDelivered {}
