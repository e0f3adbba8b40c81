//! The status as a person reads it.

use std::{fmt::Write as _, io::IsTerminal};

use comfy_table::{Table, TableStyle};

use super::verb::{RelayStatus, Status};

/// A table with a line for each relay, and sentences about what is not as it should be.
pub(super) fn table(status: &Status) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_header(["RELAY", "TOPIC", "BACKLOG", "OLDEST", "READ BY", "STATE", "FORWARDED", "DEAD"]);
    for relay in &status.relays {
        table.add_row(row(relay));
    }
    let mut text = format!("{table}\n");
    if let (Some(error), address) = (&status.process.error, &status.process.address) {
        let at = address.as_deref().map(|address| format!(" at {address}")).unwrap_or_default();
        let _ = writeln!(text, "\nno process answers{at}: {error}");
    }
    for relay in &status.relays {
        for sentence in sentences(relay) {
            let _ = writeln!(text, "{} {}: {sentence}", mark(), relay.relay);
        }
    }
    text
}

/// What makes a terminal begin anew.
pub(super) fn clear() -> &'static str {
    if std::io::stdout().is_terminal() { "\x1b[2J\x1b[H" } else { "" }
}

fn mark() -> &'static str {
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if colours { "\x1b[33m!\x1b[0m" } else { "!" }
}

fn row(relay: &RelayStatus) -> [String; 8] {
    let nothing = || "-".to_owned();
    let holds = relay.holds.as_ref();
    let backlog = holds.and_then(|view| {
        view.backlog.map(|backlog| match view.backlog_is_exact {
            true => backlog.to_string(),
            false => format!("about {backlog}"),
        })
    });
    let oldest = holds.and_then(|view| view.oldest_seconds).map(seconds);
    let read_by = match holds.map(|view| view.active.as_deref()) {
        _ if holds.is_some_and(|view| view.backlog.is_none()) => nothing(),
        Some(Some(_)) if holds.is_some_and(|view| !view.shards.is_empty()) => {
            let shards = holds.map_or(&[][..], |view| &view.shards);
            let read = shards.iter().filter(|shard| shard.active.is_some()).count();
            format!("{read} of {} shards", shards.len())
        }
        Some(Some(owner)) => owner.split('-').next_back().unwrap_or(owner).to_owned(),
        Some(None) => "nobody".to_owned(),
        None => nothing(),
    };
    let process = relay.process.as_ref();
    [
        relay.relay.clone(),
        relay.topic.clone(),
        backlog.unwrap_or_else(nothing),
        oldest.unwrap_or_else(nothing),
        read_by,
        process.map_or_else(nothing, |view| view.phase.clone()),
        process.map_or_else(nothing, |view| view.forwarded.to_string()),
        process.map_or_else(nothing, |view| view.dead_lettered.to_string()),
    ]
}

/// What one should know.
fn sentences(relay: &RelayStatus) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(error) = &relay.error {
        sentences.push(format!("the source {} does not answer: {error}", relay.source));
    }
    if let Some(holds) = &relay.holds {
        let nobody: Vec<String> = holds
            .shards
            .iter()
            .filter(|shard| shard.active.is_none())
            .map(|shard| shard.number.to_string())
            .collect();
        if !nobody.is_empty() && holds.active.is_some() {
            sentences.push(format!("nobody reads shard {}", nobody.join(", ")));
        }
        if let Some(wanted) = holds.shards_wanted {
            sentences.push(format!("the number of shards changes from {} to {wanted}", holds.shards.len()));
        }
        if holds.backlog.is_some_and(|backlog| backlog > 0) && holds.active.is_none() {
            sentences.push("messages wait, and nobody reads them".to_owned());
        }
        for writer in holds.writers.iter().filter(|writer| writer.age_seconds.is_some_and(|age| age >= 1.0)) {
            let application = writer.application.as_deref().unwrap_or("unknown");
            let age = writer.age_seconds.map(seconds).unwrap_or_default();
            sentences.push(format!(
                "process {} of the database ({application}) has had a transaction open for {age} that writes to the topic",
                writer.pid
            ));
        }
        if holds.has_dead_letters {
            sentences.push("there are dead letters: see `watermill-forwarder dead-letters list`".to_owned());
        }
    }
    let Some(process) = &relay.process else { return sentences };
    if process.health != "healthy" {
        sentences.push(process.health.clone());
    }
    for held in &process.held_back {
        let pid = held.pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
        sentences.push(format!("held back for {} by {}{pid}", seconds(held.waited_seconds), held.holder));
    }
    for held in &process.held {
        let destination = held.destination.as_deref().unwrap_or("the destination");
        let key = held.key.as_deref().map(|key| format!(", key {key}")).unwrap_or_default();
        let why = match held.paused && held.error.is_empty() {
            true => "paused".to_owned(),
            false => format!("{} attempts in {}: {}", held.attempts, seconds(held.since_seconds), held.error),
        };
        sentences.push(format!("{} messages for {destination}{key} are held: {why}", held.messages));
    }
    for paused in &process.paused {
        let key = paused.key.as_deref().map(|key| format!(", key {key}")).unwrap_or_default();
        sentences.push(format!("{}{key} is paused", paused.destination));
    }
    sentences
}

fn seconds(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 90.0 => format!("{seconds:.1} s"),
        seconds if seconds < 5_400.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{
        HeldBackView, HeldView, ProcessView, ShardView, SourceView, Writer, verb::ProcessAnswer,
    };

    #[test]
    fn the_table_says_who_is_waited_for_and_what_is_in_trouble() {
        let holds = SourceView {
            backlog: Some(12),
            backlog_is_exact: true,
            oldest_seconds: Some(75.0),
            active: Some("0192-ab12".to_owned()),
            writers: vec![Writer {
                pid: 4711,
                application: Some("psql".to_owned()),
                age_seconds: Some(70.0),
            }],
            has_dead_letters: true,
            shards: vec![
                ShardView { number: 0, position: 7, active: Some("0192-ab12/0".to_owned()) },
                ShardView { number: 1, position: 9, active: None },
            ],
            shards_wanted: Some(4),
        };
        let process = ProcessView {
            held_back: vec![HeldBackView {
                holder: "backend 4711".to_owned(),
                pid: Some(4711),
                age_seconds: 70.0,
                waited_seconds: 60.0,
            }],
            held: vec![HeldView {
                destination: Some("invoices".to_owned()),
                key: None,
                messages: 3,
                attempts: 7,
                error: "no such topic".to_owned(),
                since_seconds: 20.0,
                paused: false,
            }],
            ..ProcessView::starting()
        };
        let relay = RelayStatus {
            relay: "shop".to_owned(),
            topic: "outbox".to_owned(),
            source: "postgres://h/d".to_owned(),
            destination: "kafka://b".to_owned(),
            delivery: "at-least-once".to_owned(),
            holds: Some(holds),
            error: None,
            process: Some(process),
        };
        let process = ProcessAnswer { address: Some("127.0.0.1:1".to_owned()), error: None };
        let text = table(&Status { process, relays: vec![relay] });
        for part in [
            "shop",
            "1 of 2 shards",
            "nobody reads shard 1",
            "the number of shards changes from 2 to 4",
            "75.0 s",
            "process 4711 of the database (psql) has had a transaction open for 70.0 s",
            "held back for 60.0 s by backend 4711 (process 4711)",
            "3 messages for invoices are held: 7 attempts in 20.0 s: no such topic",
            "there are dead letters",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn an_age_is_told_in_the_unit_that_one_thinks_in() {
        assert_eq!([0.04, 75.0, 600.0, 7_200.0].map(seconds), ["0.0 s", "75.0 s", "10 min", "2.0 h"]);
    }
}
