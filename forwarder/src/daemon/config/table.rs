//! `source.table`: somebody's table, and which of its columns are a message.

use watermill_forwarder::DestinationFrom;
use watermill_sql::{AfterAck, SqlSource};

use super::reader::Reader;

/// Where messages of Debezium's outbox go when nobody says otherwise, as there.
const OF_DEBEZIUM: &str = "outbox.event.${aggregatetype}";

/// The table that is read, if it is not one of Watermill's, by the topic of the relay.
pub(super) fn read(reader: &mut Reader<'_>, topic: &str) -> Option<SqlSource> {
    if !is_given(reader) {
        return None;
    }
    let text = |reader: &Reader<'_>, name: &str| reader.text(&format!("source.table.{name}"));
    let is_debezium = is_debezium(reader);
    let mut table = match (is_debezium, text(reader, "name")) {
        (true, None) => SqlSource::debezium(),
        (true, Some(name)) => SqlSource::debezium().named(name),
        (false, Some(name)) => SqlSource::table(name),
        (false, None) => {
            reader.problem("source.table.name", "it is missing: name the table, or a preset");
            return None;
        }
    };
    type Set = fn(SqlSource, String) -> SqlSource;
    let columns: [(&str, Set); 7] = [
        ("schema", SqlSource::schema),
        ("id", SqlSource::id),
        ("offset", SqlSource::offset),
        ("payload", SqlSource::payload),
        ("key", SqlSource::key),
        ("order_by", SqlSource::order_by),
        ("metadata_json", SqlSource::metadata_json),
    ];
    for (name, set) in columns {
        if let Some(column) = text(reader, name) {
            table = set(table, column);
        }
    }
    for (entry, column) in reader.below("source.table.metadata.") {
        table = table.metadata(entry, column);
    }
    let mark = text(reader, "mark");
    let after_ack = match (text(reader, "after_ack").as_deref(), mark) {
        (Some("mark"), Some(column)) => AfterAck::mark(column),
        (Some("mark"), None) => {
            reader.problem("source.table.mark", "it is missing: name the column that is marked");
            AfterAck::Keep
        }
        (after_ack, Some(_)) => {
            reader.problem("source.table.mark", "it is for after_ack = \"mark\" alone");
            if after_ack == Some("delete") { AfterAck::Delete } else { AfterAck::Keep }
        }
        (Some("delete"), None) => AfterAck::Delete,
        (_, None) => AfterAck::Keep,
    };
    Some(table.topic(topic).after_ack(after_ack))
}

/// Where messages go that are no envelopes.
pub(super) fn destination_from(reader: &mut Reader<'_>) -> Option<DestinationFrom> {
    let given = reader.text("destination_from");
    let by_preset = || is_debezium(reader).then(|| OF_DEBEZIUM.to_owned());
    let template = given.or_else(by_preset);
    if template.is_none() && is_given(reader) {
        reader.problem("destination_from", "it is missing: rows of your table do not say where they go");
    }
    template.map(DestinationFrom::template)
}

fn is_debezium(reader: &Reader<'_>) -> bool {
    reader.text("source.table.preset").as_deref() == Some("debezium")
}

fn is_given(reader: &Reader<'_>) -> bool {
    is_debezium(reader) || !reader.below("source.table.").is_empty()
}
