//! [`Documented`]: what the types of a handler tell of its payloads.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::{
    DeliveryInfo, HandlerInfo, Message, MessageId, Metadata,
    router::{Extension, State, To},
};

/// What a type that is an argument of a handler, or returned by one, tells of payloads: a [`Json<T>`](crate::Json) tells the
/// schema of `T`, the router's state tells nothing.
///
/// `Handler::documented`, which the feature `asyncapi` adds, asks it of all arguments of a function and of what that
/// returns. An extractor of your own that looks at no payload says so with an empty implementation:
///
/// ```
/// struct Tenant(String);
///
/// impl watermill_core::router::topology::Documented for Tenant {}
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not tell what payloads it takes or gives",
    label = "does not implement `Documented`",
    note = "for an extractor that looks at no payload: `impl Documented for {Self} {{}}`",
    note = "for `Json<T>`, derive `schemars::JsonSchema` for `T`"
)]
pub trait Documented {
    /// Adds the payloads to those of the handler; by default none.
    fn document(payloads: &mut Payloads) {
        let _ = payloads;
    }
}

/// The payloads that a handler takes, or those that it returns: filled by [`Documented`].
#[derive(Debug, Default)]
pub struct Payloads {
    pub(super) found: Vec<Payload>,
    /// The schemas so far.
    #[cfg(feature = "asyncapi")]
    pub(super) schemas: super::asyncapi::Schemas,
}

/// A payload: its name in documents, what it is, and how it looks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Payload {
    pub(super) name: String,
    pub(super) content_type: String,
    pub(super) schema: Option<serde_json::Value>,
}

impl Payloads {
    /// A payload without a schema, by the name of its type and its content type, `application/x-protobuf` for instance.
    pub fn named(&mut self, name: impl Into<String>, content_type: impl Into<String>) {
        self.add(Payload { name: name.into(), content_type: content_type.into(), schema: None });
    }

    pub(super) fn add(&mut self, payload: Payload) {
        if !self.found.contains(&payload) {
            self.found.push(payload);
        }
    }
}

/// What the types of a handler tell, when they are asked.
#[derive(Clone, Default)]
pub(in crate::router) struct Documents {
    pub(in crate::router) consumes: Option<Arc<Document>>,
    pub(in crate::router) produces: Option<Arc<Document>>,
}

/// Adds payloads to those of a handler.
pub(crate) type Document = dyn Fn(&mut Payloads) + Send + Sync;

impl Documents {
    pub(super) fn consumed(&self) -> Vec<String> {
        Self::names(self.consumes.as_deref())
    }

    pub(super) fn produced(&self) -> Vec<String> {
        Self::names(self.produces.as_deref())
    }

    fn names(document: Option<&Document>) -> Vec<String> {
        let mut payloads = Payloads::default();
        document.into_iter().for_each(|document| document(&mut payloads));
        payloads.found.into_iter().map(|payload| payload.name).collect()
    }
}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Documents")
            .field("consumes", &self.consumed())
            .field("produces", &self.produced())
            .finish()
    }
}

macro_rules! tell_nothing {
    ($($type:ty),* $(,)?) => {
        $(impl Documented for $type {})*
    };
}

tell_nothing!(Bytes, CancellationToken, DeliveryInfo, HandlerInfo, Message, MessageId, Metadata);

impl<T> Documented for State<T> {}

impl<T> Documented for Extension<T> {}

macro_rules! as_what_is_inside {
    ($([$($generics:tt)*] $type:ty => $inside:ty),* $(,)?) => {
        $(impl<$($generics)*> Documented for $type {
            fn document(payloads: &mut Payloads) {
                <$inside>::document(payloads);
            }
        })*
    };
}

as_what_is_inside!(
    [T, O: Documented] To<T, O> => O,
    [O: Documented] Option<O> => O,
    [O: Documented] Vec<O> => O,
    [O: Documented, const N: usize] [O; N] => O,
    [O: Documented, E] Result<O, E> => O,
);

/// All arguments of a function, or a pair that it returns.
macro_rules! all {
    ($($part:ident)*) => {
        impl<$($part: Documented),*> Documented for ($($part,)*) {
            fn document(payloads: &mut Payloads) {
                $($part::document(payloads);)*
            }
        }
    };
}

impl Documented for () {}

all!(A);
all!(A B);
all!(A B C);
all!(A B C D);
all!(A B C D E);
all!(A B C D E F);
all!(A B C D E F G);
all!(A B C D E F G H);
