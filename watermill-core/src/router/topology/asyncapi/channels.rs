//! The channels of a document, and the operations on them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    super::Document as DocumentPayloads, Destination, Document, FinalStep, HandlerDescription, Payload, Place,
};

/// Topics by the names that they have in text: `kafka:orders.placed`.
pub(super) type Channels = BTreeMap<String, Channel>;

#[derive(Serialize)]
pub(super) struct Channel {
    address: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    messages: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    servers: Option<Value>,
}

impl Document<'_> {
    pub(super) fn add(&mut self, handler: &HandlerDescription) {
        let taken = self.messages(handler.documents.consumes.as_deref());
        let returned = self.messages(handler.documents.produces.as_deref());
        let name = &handler.name;

        let channel = self.channel(&handler.source);
        self.operation(name.clone(), "receive", &channel, &taken, handler);
        match &handler.destination {
            Destination::Nowhere => {}
            Destination::Topic(place) => {
                let channel = self.channel(place);
                self.operation(format!("{name}.outputs"), "send", &channel, &returned, handler);
            }
            Destination::NamedByMessages { backend } => {
                let channel = format!("{backend}:*");
                self.open(channel.clone(), None, Some(backend));
                self.operation(format!("{name}.outputs"), "send", &channel, &returned, handler);
            }
        }
        let then = match &handler.on_failure.then {
            FinalStep::RetryFrom(_) => "retries",
            _ => "dead_letters",
        };
        if let Some(place) = handler.on_failure.then.place() {
            let channel = self.channel(place);
            self.operation(format!("{name}.{then}"), "send", &channel, &taken, handler);
        }
    }

    /// Asks for payloads, and makes them messages of the document. Returns their names.
    fn messages(&mut self, write: Option<&DocumentPayloads>) -> Vec<String> {
        write.into_iter().for_each(|write| write(&mut self.payloads));
        let payloads = std::mem::take(&mut self.payloads.found);
        payloads.into_iter().map(|payload| self.message(payload)).collect()
    }

    /// Payloads of one name that differ are told apart by a number.
    fn message(&mut self, Payload { name, content_type, schema }: Payload) -> String {
        let mut message = json!({ "name": name, "contentType": content_type });
        if let Some(schema) = schema {
            message["payload"] = schema;
        }
        let base: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        let mut key = base.clone();
        for number in 2.. {
            match self.messages.get(&key) {
                Some(known) if *known != message => key = format!("{base}{number}"),
                _ => break,
            }
        }
        self.messages.insert(key.clone(), message);
        key
    }

    fn channel(&mut self, place: &Place) -> String {
        let id = place.to_string();
        self.open(id.clone(), Some(place.topic.clone()), place.backend);
        id
    }

    fn open(&mut self, id: String, address: Option<String>, backend: Option<&str>) {
        let server = backend.filter(|backend| self.servers.contains_key(*backend));
        let servers = server.map(|backend| json!([reference(&["servers", backend])]));
        self.channels.entry(id).or_insert(Channel { address, messages: BTreeMap::new(), servers });
    }

    fn operation(
        &mut self,
        name: String,
        action: &str,
        channel: &str,
        messages: &[String],
        handler: &HandlerDescription,
    ) {
        let mut operation = json!({ "action": action, "channel": reference(&["channels", channel]) });
        // Without any, it is whatever the channel has.
        if !messages.is_empty() {
            let of_channel =
                messages.iter().map(|message| reference(&["channels", channel, "messages", message]));
            operation["messages"] = of_channel.collect();
        }
        if let (Some(group), "receive") = (&handler.group, action) {
            operation["x-consumer-group"] = group.clone().into();
        }
        self.operations.insert(name, operation);
        let channel = self.channels.get_mut(channel).expect("it was opened");
        for message in messages {
            channel.messages.insert(message.clone(), reference(&["components", "messages", message]));
        }
    }
}

/// What the names of components are made of.
fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_')
}

/// A reference to a place in the document: a JSON pointer in the fragment of a URI (RFC 6901, section 6).
fn reference(path: &[&str]) -> Value {
    let mut pointer = String::from("#");
    for segment in path {
        pointer.push('/');
        for byte in segment.bytes() {
            match byte {
                b'~' => pointer.push_str("~0"),
                b'/' => pointer.push_str("~1"),
                byte if is_plain(char::from(byte)) || matches!(byte, b':' | b'*') => {
                    pointer.push(char::from(byte))
                }
                byte => pointer.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    json!({ "$ref": pointer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_any_characters_can_be_referred_to() {
        assert_eq!(reference(&["channels", "http:/a~b c"])["$ref"], "#/channels/http:~1a~0b%20c");
    }
}
