//! The attributes of [CloudEvents](https://cloudevents.io) 1.0, as entries of a message's metadata: each by the name that it has
//! in HTTP's binary mode.

/// The version of the specification.
pub const SPEC_VERSION: &str = "ce-specversion";
/// The id of the event: the message's.
pub const ID: &str = "ce-id";
/// Where it happened: a URI reference.
pub const SOURCE: &str = "ce-source";
/// What happened: the name of the event's type.
pub const TYPE: &str = "ce-type";
/// The message's key, of the extension for partitioning.
pub const PARTITION_KEY: &str = "ce-partitionkey";

/// The attributes of an event.
pub fn attributes<'a>(
    id: &'a str,
    source: &'a str,
    event_type: &'a str,
    partition_key: Option<&'a str>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let required = [(SPEC_VERSION, "1.0"), (ID, id), (SOURCE, source), (TYPE, event_type)];
    required.into_iter().chain(partition_key.map(|key| (PARTITION_KEY, key)))
}
