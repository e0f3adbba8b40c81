//! The schemas of payloads, and who asks the types for them.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;

use super::{Payload, Payloads};
use crate::router::{
    Handler, Json,
    batch::MakeBatch,
    handler::MakeHandler,
    handler_fn::{Asynchronous, Function},
    topology::Documented,
};

/// Where a document has its schemas.
const PATH: &str = "/components/schemas";

/// Makes schemas of the dialect that AsyncAPI takes where none is named, draft 7, and keeps those that others refer to.
pub(in crate::router::topology) struct Schemas(SchemaGenerator);

impl Schemas {
    pub(super) fn into_definitions(mut self) -> Value {
        self.0.take_definitions(true).into()
    }
}

impl Default for Schemas {
    fn default() -> Self {
        let settings = SchemaSettings::draft07().with(|settings| settings.definitions_path = PATH.into());
        Self(settings.into_generator())
    }
}

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.definitions().keys()).finish()
    }
}

impl Payloads {
    /// A payload that is JSON of a `T`, by the name of its schema.
    pub fn json<T: JsonSchema>(&mut self) {
        let schema = self.schema_of::<T>();
        // Two types of one name are told apart by the name that the second is given.
        let given = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.rsplit('/').next());
        let name = given.map_or_else(|| T::schema_name().into_owned(), str::to_owned);
        self.add_json(name, schema);
    }

    /// A payload that is JSON of a `T`, by a name of its own.
    pub fn json_named<T: JsonSchema>(&mut self, name: impl Into<String>) {
        let schema = self.schema_of::<T>();
        self.add_json(name.into(), schema);
    }

    fn add_json(&mut self, name: String, schema: Schema) {
        self.add(Payload { name, content_type: "application/json".to_owned(), schema: Some(schema.into()) });
    }

    fn schema_of<T: JsonSchema>(&mut self) -> Schema {
        let Schemas(generator) = &mut self.schemas;
        let mut schema = generator.subschema_for::<T>();
        for transform in generator.transforms_mut() {
            transform.transform(&mut schema);
        }
        schema
    }
}

impl<T: JsonSchema> Documented for Json<T> {
    fn document(payloads: &mut Payloads) {
        payloads.json::<T>();
    }
}

impl<F, Via, Args, S, In, Out, L> Handler<MakeHandler<F, (Via, Args), S>, In, Out, L>
where
    F: Function<Args, Returned: Asynchronous<Returned: Documented>>,
    Args: Documented,
{
    /// Has [descriptions](crate::Router::describe) name the payloads that the function takes and returns, and documents have
    /// their schemas: see [`topology`](crate::router::topology). It costs nothing while messages are handled.
    pub fn documented(self) -> Self {
        let produces: fn(&mut Payloads) = <F::Returned as Asynchronous>::Returned::document;
        self.with_documents(Args::document as fn(&mut Payloads), produces)
    }
}

impl<F, Via, Args, S, In, Out, L> Handler<MakeBatch<F, (Via, Args), S>, In, Out, L>
where
    F: Function<Args, Returned: Asynchronous<Returned: Documented>>,
    Args: Documented,
{
    /// As of handlers of single messages: what each message of the batch is, and what its outcome has.
    pub fn documented(self) -> Self {
        let produces: fn(&mut Payloads) = <F::Returned as Asynchronous>::Returned::document;
        self.with_documents(Args::document as fn(&mut Payloads), produces)
    }
}
