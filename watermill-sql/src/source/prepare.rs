//! Looking up what a source says of a table, and refusing what cannot work, with the reason.

use super::{
    AfterAck, SqlSource,
    dialect::{Kind, SourceColumn, SourceDialect},
    mapping::{Mapping, Pass, Use},
};
use crate::{
    error::{Failure, Trouble, classify},
    schema::{is_there, may_create},
    topic::{Tables, check_characters},
};

const CLAIMS_COLUMNS: &[&str] = &["offset", "uuid", "acked", "owner", "due_ms", "attempts"];

/// What is wrong with a source, as far as can be seen without the database.
pub(crate) fn problems(source: &SqlSource) -> Vec<String> {
    let mut problems = source.problems();
    if let Err(problem) = check_characters(source.topic_name()) {
        problems.push(format!("source: {problem}; name it with `topic`"));
    }
    problems
}

/// Refuses a topic that the source does not have.
pub(crate) fn check_topic(source: Option<&SqlSource>, topic: &str) -> Result<(), Failure> {
    match source {
        Some(source) if source.topic_name() != topic => Err(Failure::because(
            Trouble::Topic,
            format!("the subscriber's source has one topic, {:?}", source.topic_name()),
        )),
        _ => Ok(()),
    }
}

/// Looks somebody's table up that has the messages of a topic. What is ours is named after the topic, so that it must
/// not be one of ours.
pub(crate) async fn tables_over<D: SourceDialect>(
    connection: &mut D::Connection,
    tables: Tables,
    source: &SqlSource,
    used_as: Use,
) -> Result<Tables, Failure> {
    let ours = tables.messages_name();
    if !D::columns(connection, &ours).await.map_err(classify::<D>)?.is_empty() {
        let why = format!(
            "the topic {:?} has messages of its own, in {ours:?}: give the source another one with SqlSource::topic",
            tables.topic()
        );
        return Err(Failure::because(Trouble::Topic, why));
    }
    let mapping = find::<D>(connection, source, used_as).await?;
    Ok(tables.over(used_as, mapping))
}

/// Sees to our table of the claims of a queue over somebody's table.
pub(crate) async fn ensure_claims<D: SourceDialect>(
    connection: &mut D::Connection,
    tables: &Tables,
    create: bool,
) -> Result<(), Failure> {
    if !has_claims::<D>(connection, tables).await? {
        may_create(&tables.messages_name(), create)?;
    }
    match create {
        true => D::create_claims(connection, tables).await.map_err(classify::<D>),
        false => Ok(()),
    }
}

/// Whether anybody has worked on a queue over somebody's table.
pub(crate) async fn has_claims<D: SourceDialect>(
    connection: &mut D::Connection,
    tables: &Tables,
) -> Result<bool, Failure> {
    is_there::<D>(connection, &tables.messages_name(), CLAIMS_COLUMNS).await
}

async fn find<D: SourceDialect>(
    connection: &mut D::Connection,
    source: &SqlSource,
    used_as: Use,
) -> Result<Mapping, Failure> {
    let columns = D::source_columns(connection, source).await.map_err(classify::<D>)?;
    let mapping =
        mapping_of::<D>(source, &columns, used_as).map_err(|why| Failure::because(Trouble::Topic, why))?;
    if used_as == Use::Log {
        D::check_order(connection, &mapping).await?;
    }
    Ok(mapping)
}

fn mapping_of<D: SourceDialect>(
    source: &SqlSource,
    columns: &[SourceColumn],
    used_as: Use,
) -> Result<Mapping, String> {
    let name = &source.table;
    if columns.is_empty() {
        return Err(format!(
            "the table {name:?} of the source does not exist, or the account does not see it"
        ));
    }
    let find = |wanted: &str| {
        let found = columns.iter().find(|column| column.name == wanted);
        found.ok_or_else(|| {
            let names: Vec<_> = columns.iter().map(|column| &*column.name).collect();
            format!("the table {name:?} has no column {wanted:?}, but {}", names.join(", "))
        })
    };
    let quoted = |name: &str| quote(D::QUOTE, name);
    let bytes = |wanted: &str| Ok::<_, String>(D::bytes_of(find(wanted)?, &quoted(wanted)));
    let optional = |wanted: &Option<String>| match wanted {
        Some(wanted) => bytes(wanted),
        None => Ok("null".to_owned()),
    };
    let id = find(&source.id)?;
    if used_as == Use::Queue {
        check_id::<D>(id)?;
    }
    let id_text = D::text_of(id, &quoted(&source.id));
    let mut selected = vec![
        id_text.clone(),
        bytes(&source.payload)?,
        optional(&source.key)?,
        optional(&source.metadata_json)?,
    ];
    let published_ms = match &source.published_at {
        Some(column) => D::ms_of(find(column)?, &quoted(column)).ok_or_else(|| {
            format!(
                "the column {column:?} of the table {name:?} holds no time: SqlSource::published_at needs one"
            )
        })?,
        None => D::NO_MS.to_owned(),
    };
    selected.push(published_ms.clone());
    let mut bytes_in_all = D::size_of(find(&source.payload)?, &quoted(&source.payload));
    if let Some(column) = &source.metadata_json {
        bytes_in_all = format!("{bytes_in_all} + {}", D::size_of(find(column)?, &quoted(column)));
    }
    for (_, column) in &source.metadata {
        selected.push(bytes(column)?);
    }
    let offset = match (&source.offset, used_as) {
        (Some(offset), _) => quoted(&find(offset)?.name),
        (None, Use::Queue) => String::new(),
        (None, Use::Log) => {
            return Err(format!(
                "a log needs a column that the database counts up: name that of the table {name:?} with \
                 SqlSource::offset, or work on it as a queue, with SqlQueueSubscriberConfig::source"
            ));
        }
    };
    let order_by = source.order_by.as_ref().unwrap_or(&source.id);
    let pass = match &source.after_ack {
        AfterAck::Keep => None,
        AfterAck::Delete => Some(Pass::Delete),
        AfterAck::Mark { column } => Some(mark_of::<D>(find(column)?, quoted(column))),
    };
    Ok(Mapping {
        source: source.clone(),
        table: match &source.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(name)),
            None => quoted(name),
        },
        offset,
        id: quoted(&source.id),
        id_text,
        id_type: id.type_name.clone(),
        id_is_bytes: id.kind == Kind::Bytes,
        order_by: quoted(&find(order_by)?.name),
        columns: selected.join(", "),
        published_ms,
        bytes: bytes_in_all,
        pass,
    })
}

/// Refuses an id that a claim may not hold.
fn check_id<D: SourceDialect>(column: &SourceColumn) -> Result<(), String> {
    let Some(chars) = D::ID_CHARS_MAX else { return Ok(()) };
    let max = if column.kind == Kind::Bytes { chars / 2 } else { chars };
    match column.length_max.filter(|length| *length > max) {
        None => Ok(()),
        Some(_) => Err(format!(
            "the id {:?} is {}, and a claim holds ids of up to {chars} characters, or {} bytes: narrow the column \
             (alter table ... modify), name another unique one with SqlSource::id, or read the table as a log, with \
             SqlSubscriberConfig::source",
            column.name,
            column.type_name,
            chars / 2,
        )),
    }
}

fn mark_of<D: SourceDialect>(column: &SourceColumn, quoted: String) -> Pass {
    let is_unmarked = match column.kind {
        Kind::Boolean => format!("coalesce({quoted}, false) = false"),
        Kind::Integer => format!("coalesce({quoted}, 0) = 0"),
        _ => format!("{quoted} is null"),
    };
    Pass::Mark { value: D::mark_of(column.kind), is_unmarked, column: quoted }
}

/// A name in quotes, whatever is in it.
pub(crate) fn quote(quote: char, name: &str) -> String {
    format!("{quote}{}{quote}", name.replace(quote, &format!("{quote}{quote}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_whatever_is_in_them() {
        assert_eq!(quote('"', r#"a"b"#), r#""a""b""#);
    }

    #[test]
    fn a_table_whose_name_makes_no_topic_needs_one() {
        let problems = problems(&SqlSource::table("out box"));
        assert!(problems.iter().any(|problem| problem.contains("`topic`")), "{problems:?}");
        assert!(super::problems(&SqlSource::table("out box").topic("outbox")).is_empty());
    }
}
