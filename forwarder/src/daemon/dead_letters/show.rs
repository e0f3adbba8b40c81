//! Dead letters as a person reads them, and as a program does.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use comfy_table::{Table, TableStyle};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use watermill_forwarder::dead_letters::{Group, Groups, Letter};

/// The most of a reason in a table, in characters.
const REASON_MAX: usize = 100;

pub(super) fn groups(found: &Groups) -> String {
    if found.groups.is_empty() {
        return "there are no dead letters\n".to_owned();
    }
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_header([
        "GROUP",
        "DESTINATION",
        "KIND",
        "COUNT",
        "AGAIN",
        "FIRST",
        "LAST",
        "EXAMPLE",
        "REASON",
    ]);
    for group in &found.groups {
        table.add_row([
            group.fingerprint.clone(),
            destination(group.destination.as_deref()),
            group.kind.to_owned(),
            group.count.to_string(),
            group.failed_again.to_string(),
            ago(group.first_seen),
            ago(group.last_seen),
            group.example.id.clone(),
            short(&group.reason),
        ]);
    }
    let mut text = format!("{table}\n");
    if found.others > 0 {
        let _ = writeln!(text, "and {} more, in groups that are not told apart any more", found.others);
    }
    text
}

pub(super) fn groups_json(found: &Groups) -> Value {
    let group = |group: &Group| {
        json!({
            "group": group.fingerprint,
            "destination": group.destination,
            "kind": group.kind,
            "count": group.count,
            "failed_again": group.failed_again,
            "first_seen_ms": milliseconds(group.first_seen),
            "last_seen_ms": milliseconds(group.last_seen),
            "reason": group.reason,
            "example": letter_json(&group.example),
        })
    };
    json!({ "groups": found.groups.iter().map(group).collect::<Vec<_>>(), "others": found.others })
}

pub(super) fn letters(found: &[Letter]) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_header(["ID", "DESTINATION", "KIND", "ATTEMPTS", "AGAIN", "FAILED", "REASON"]);
    for letter in found {
        table.add_row([
            letter.id.clone(),
            destination(letter.destination.as_deref()),
            letter.kind.to_owned(),
            letter.attempts.map(|attempts| attempts.to_string()).unwrap_or_default(),
            letter.redriven.to_string(),
            ago(letter.failed_at),
            short(&letter.reason),
        ]);
    }
    format!("{table}\n")
}

pub(super) fn letter_json(letter: &Letter) -> Value {
    json!({
        "id": letter.id,
        "place": letter.place,
        "destination": letter.destination,
        "key": letter.message.key().map(|key| String::from_utf8_lossy(key).into_owned()),
        "kind": letter.kind,
        "reason": letter.reason,
        "group": letter.fingerprint(),
        "attempts": letter.attempts,
        "redriven": letter.redriven,
        "first_failed_at_ms": milliseconds(letter.first_failed_at),
        "failed_at_ms": milliseconds(letter.failed_at),
    })
}

/// With what is in it.
pub(super) fn whole_json(letter: &Letter) -> Value {
    let message = letter.original().unwrap_or_else(|| letter.message.clone());
    let metadata: serde_json::Map<String, Value> =
        message.metadata().iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let mut json = letter_json(letter);
    json["metadata"] = metadata.into();
    json["payload"] = String::from_utf8_lossy(message.payload()).into();
    json
}

pub(super) fn whole(letter: &Letter) -> String {
    let message = letter.original().unwrap_or_else(|| letter.message.clone());
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<14}{value}");
    };
    line("id", &letter.id);
    line("destination", &destination(letter.destination.as_deref()));
    if let Some(key) = letter.message.key() {
        line("key", &String::from_utf8_lossy(key));
    }
    line("kind", letter.kind);
    line("reason", &letter.reason);
    line("group", &letter.fingerprint());
    line("attempts", &letter.attempts.map(|attempts| attempts.to_string()).unwrap_or_default());
    line("sent again", &letter.redriven.to_string());
    line("first failed", &moment(letter.first_failed_at));
    line("last failed", &moment(letter.failed_at));
    for (name, value) in message.metadata().iter() {
        line("metadata", &format!("{name} = {value}"));
    }
    let _ = writeln!(text, "\n{}", String::from_utf8_lossy(message.payload()));
    text
}

fn destination(destination: Option<&str>) -> String {
    destination.unwrap_or("(no envelope)").to_owned()
}

fn short(reason: &str) -> String {
    match reason.char_indices().nth(REASON_MAX) {
        Some((at, _)) => format!("{}...", &reason[..at]),
        None => reason.to_owned(),
    }
}

fn milliseconds(at: Option<SystemTime>) -> Option<u64> {
    at.and_then(|at| at.duration_since(UNIX_EPOCH).ok())
        .and_then(|since| u64::try_from(since.as_millis()).ok())
}

/// How long ago, for a table.
fn ago(at: Option<SystemTime>) -> String {
    let Some(at) = at else { return "-".to_owned() };
    let seconds = SystemTime::now().duration_since(at).unwrap_or(Duration::ZERO).as_secs();
    match seconds {
        0..=99 => format!("{seconds} s ago"),
        100..=5_999 => format!("{} min ago", seconds / 60),
        6_000..=172_799 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// When it was, in UTC, and how long ago that is.
fn moment(at: Option<SystemTime>) -> String {
    let written = at.and_then(|at| OffsetDateTime::from(at).format(&Rfc3339).ok());
    written.map_or_else(|| "-".to_owned(), |written| format!("{written}, {}", ago(at)))
}
