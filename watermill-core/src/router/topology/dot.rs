//! A topology in the language of Graphviz.

use std::collections::BTreeSet;

use super::{Destination, HandlerDescription, Place, Topology};

/// Topics are boxes, handlers are ellipses.
pub(super) fn write(topology: &Topology) -> String {
    let mut text = String::from("digraph watermill {\n  rankdir=LR;\n");
    let topics: BTreeSet<_> = topology.handlers.iter().flat_map(topics).collect();
    for topic in topics {
        text.push_str(&format!("  {} [shape=box];\n", topic_node(&topic)));
    }
    for handler in &topology.handlers {
        handler_lines(handler, &mut text);
    }
    text.push_str("}\n");
    text
}

fn handler_lines(handler: &HandlerDescription, text: &mut String) {
    let node = quoted(&format!("handler {}", handler.name));
    text.push_str(&format!("  {node} [label={}];\n", quoted(&label(handler))));
    text.push_str(&format!("  {} -> {node};\n", topic_node(&handler.source.to_string())));
    match &handler.destination {
        Destination::Nowhere => {}
        Destination::Topic(place) => {
            text.push_str(&format!("  {node} -> {};\n", topic_node(&place.to_string())));
        }
        Destination::NamedByMessages { backend } => {
            text.push_str(&format!("  {node} -> {};\n", topic_node(&any_topic(backend))));
        }
    }
    if let Some(place) = handler.on_failure.then.place() {
        text.push_str(&format!("  {node} -> {} [style=dashed];\n", topic_node(&place.to_string())));
    }
}

/// The handler with its layers above it.
fn label(handler: &HandlerDescription) -> String {
    let layers = handler.layers.iter().copied();
    layers.chain([handler.name.as_str()]).collect::<Vec<_>>().join("\n")
}

fn topics(handler: &HandlerDescription) -> Vec<String> {
    let named = |place: &Place| place.to_string();
    let mut topics = vec![named(&handler.source)];
    match &handler.destination {
        Destination::Nowhere => {}
        Destination::Topic(place) => topics.push(named(place)),
        Destination::NamedByMessages { backend } => topics.push(any_topic(backend)),
    }
    if let Some(place) = handler.on_failure.then.place() {
        topics.push(named(place));
    }
    topics
}

fn any_topic(backend: &str) -> String {
    format!("{backend}:*")
}

fn topic_node(topic: &str) -> String {
    quoted(topic)
}

/// A string of the language: only quotes, backslashes and the ends of lines mean something in it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_in_a_string_is_escaped() {
        assert_eq!(quoted("a \"b\"\\\nc"), r#""a \"b\"\\\nc""#);
    }
}
