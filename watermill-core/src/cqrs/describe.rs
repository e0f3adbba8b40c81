//! [`Describe`]: what documents say of payloads.

use std::{fmt, sync::Arc};

use super::{Codec, RegisteredCodec};
use crate::{
    Handler,
    router::topology::{Document, Payloads},
};

/// Tells documents of AsyncAPI what its payloads of a type look like. `Handler::documented` and `Group::on_documented`, which the feature
/// `asyncapi` adds, ask it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not tell how `{T}` looks",
    note = "for `JsonCodec`, derive `schemars::JsonSchema` for `{T}`"
)]
pub trait Describe<T>: Codec {
    /// Adds the payload of a `T` that is called so on the wire.
    fn describe(&self, name: &str, payloads: &mut Payloads);
}

#[cfg(feature = "asyncapi")]
impl<T: schemars::JsonSchema> Describe<T> for super::JsonCodec {
    fn describe(&self, name: &str, payloads: &mut Payloads) {
        payloads.json_named::<T>(name);
    }
}

#[cfg(feature = "protobuf")]
impl<T: prost::Message> Describe<T> for super::ProtobufCodec {
    fn describe(&self, name: &str, payloads: &mut Payloads) {
        payloads.named(name, self.content_type());
    }
}

/// What stands behind the number of the schema.
impl<T, C: Describe<T>> Describe<T> for RegisteredCodec<C> {
    fn describe(&self, name: &str, payloads: &mut Payloads) {
        self.inner().describe(name, payloads);
    }
}

/// What the functions of a group tell.
#[derive(Default)]
pub(super) struct Documents {
    pub(super) consumes: Vec<Arc<Document>>,
    pub(super) produces: Vec<Arc<Document>>,
}

impl Documents {
    /// The handler of the group, with what they tell; where none does, as it is.
    pub(super) fn of<M, In, Out, L>(self, handler: Handler<M, In, Out, L>) -> Handler<M, In, Out, L> {
        if self.consumes.is_empty() {
            return handler;
        }
        handler.with_documents(all(self.consumes), all(self.produces))
    }
}

fn all(documents: Vec<Arc<Document>>) -> impl Fn(&mut Payloads) + Send + Sync {
    move |payloads| documents.iter().for_each(|document| document(payloads))
}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Documents").field("functions", &self.consumes.len()).finish()
    }
}
