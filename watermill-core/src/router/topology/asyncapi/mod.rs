//! [`AsyncApi`]: a topology as a document of AsyncAPI.

mod channels;
mod schemas;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use self::channels::Channels;
pub(super) use self::schemas::Schemas;
use super::{Destination, FinalStep, HandlerDescription, Payloads, Place, Topology, documented::Payload};

/// What a document says that a [`Topology`] does not know: which application it is of, and where its servers are.
#[derive(Clone, Debug)]
#[must_use = "it makes a document when it is given a topology"]
pub struct AsyncApi {
    info: Map<String, Value>,
    servers: BTreeMap<String, Value>,
}

impl AsyncApi {
    /// Of an application and a version of it.
    pub fn new(title: impl Into<String>, version: impl Into<String>) -> Self {
        let info = [("title", title.into()), ("version", version.into())];
        let info = info.map(|(name, text)| (name.to_owned(), text.into()));
        Self { info: info.into_iter().collect(), servers: BTreeMap::new() }
    }

    /// Adds a description of the application.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.info.insert("description".to_owned(), description.into().into());
        self
    }

    /// Says where the server of a backend is, by the backend's short name: `kafka://kafka.internal:9092`. The protocol is the
    /// backend's name where the address names none. A user and a password in it are left out, and so are its parameters.
    pub fn server(mut self, backend: impl Into<String>, address: &str) -> Self {
        let backend = backend.into();
        let (protocol, rest) = address.split_once("://").unwrap_or((&backend, address));
        // A password that was written down unescaped may have any character, and parameters may have passwords.
        let rest = rest.rsplit('@').next().unwrap_or_default();
        let rest = rest.split(['?', '#', '&']).next().unwrap_or_default();
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut server = json!({ "host": host, "protocol": protocol });
        if !path.is_empty() {
            server["pathname"] = format!("/{path}").into();
        }
        self.servers.insert(backend, server);
        self
    }

    /// The document: channels are topics, operations are what handlers do with them. Handlers of one router come with
    /// those of others by [`Topology::merge`].
    ///
    /// A topic that messages name is a channel whose address is not known. Dead letters are sent with the payloads that the
    /// handler takes.
    pub fn document(&self, topology: &Topology) -> Value {
        let mut document = Document {
            servers: &self.servers,
            channels: Channels::new(),
            operations: Map::new(),
            messages: Map::new(),
            payloads: Payloads::default(),
        };
        topology.handlers.iter().for_each(|handler| document.add(handler));
        let Document { channels, operations, messages, payloads, .. } = document;
        let mut document = json!({
            "asyncapi": "3.1.0",
            "info": self.info,
            "defaultContentType": "application/json",
            "channels": channels,
            "operations": operations,
            "components": { "messages": messages, "schemas": payloads.schemas.into_definitions() },
        });
        if !self.servers.is_empty() {
            document["servers"] = json!(self.servers);
        }
        document
    }
}

/// A document that is being written.
struct Document<'a> {
    servers: &'a BTreeMap<String, Value>,
    channels: Channels,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
    payloads: Payloads,
}
