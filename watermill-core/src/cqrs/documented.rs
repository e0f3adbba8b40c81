//! What handlers of commands and events tell documents of AsyncAPI.

use std::sync::Arc;

use super::{Codec, Decode, Describe, Group, Kind, Named, PayloadFn, handling::MakePayload};
use crate::{
    Handler,
    router::{
        Asynchronous, Function,
        topology::{Documented, Payloads},
    },
};

impl<F, Via, Args, S, T, C, In, Out, L> Handler<MakePayload<F, (Via, Args), S, T, C>, In, Out, L>
where
    F: Function<Args, Returned: Asynchronous<Returned: Documented>>,
    C: Describe<T>,
{
    /// As of other handlers: [descriptions](crate::Router::describe) name the command or the event and what the function returns, and
    /// documents have their schemas. A command is called there as on the wire.
    pub fn documented(self) -> Self {
        let (codec, known) = (self.make_ref().reader.codec.clone(), self.make_ref().known.clone());
        let consumes = move |payloads: &mut Payloads| codec.describe(&known.names[0], payloads);
        let produces: fn(&mut Payloads) = <F::Returned as Asynchronous>::Returned::document;
        self.with_documents(consumes, produces)
    }
}

impl<K: Kind, C: Codec, S: Clone + Send + 'static, Out: 'static> Group<'_, K, C, S, Out> {
    /// As [`on`](Self::on), and [descriptions](crate::Router::describe) of the group name the type and what the function
    /// returns, and documents have their schemas.
    pub fn on_documented<F, Via, Args>(mut self, function: F) -> Self
    where
        F: PayloadFn<(Via, Args), S, Payload: Named, Kind = Out>
            + Function<Args, Returned: Asynchronous<Returned: Documented>>,
        C: Decode<F::Payload> + Describe<F::Payload>,
        Via: 'static,
        Args: 'static,
    {
        let marshaler = &self.processor.marshaler;
        let (codec, name) = (marshaler.codec.clone(), marshaler.shared.names.of::<F::Payload>().into_owned());
        let consumes = move |payloads: &mut Payloads| codec.describe(&name, payloads);
        self.documents.consumes.push(Arc::new(consumes));
        let produces: fn(&mut Payloads) = <F::Returned as Asynchronous>::Returned::document;
        self.documents.produces.push(Arc::new(produces));
        self.on(function)
    }
}
