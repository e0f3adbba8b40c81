//! The log: one line an event, for a person or for a program. A line that repeats is counted, not repeated.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    io::{IsTerminal, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Map, Value};
use tokio::time::Instant;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    fmt::{
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::config::Log;

/// The most lines that are remembered; at the bound all are forgotten, and each is written once more.
const REMEMBERED_MAX: usize = 1_000;

/// What may differ between two lines that say the same.
const COUNTERS: &[&str] = &["age", "attempts", "failures", "lag", "messages", "timeout", "wait", "waited"];

/// The lines that were written, for those that repeat.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Shared>);

struct Shared {
    json: bool,
    colours: bool,
    interval: Duration,
    seen: Mutex<HashMap<String, Seen>>,
}

/// A line that was written.
struct Seen {
    until: Instant,
    again: u64,
    line: Line,
}

/// An event as text.
#[derive(Clone)]
struct Line {
    level: Level,
    target: String,
    message: String,
    fields: Map<String, Value>,
}

/// Starts the log, on standard error.
pub(crate) fn start(log: &Log) -> Lines {
    let is_terminal = std::io::stderr().is_terminal();
    let json = match &*log.format {
        "json" => true,
        "human" => false,
        _ => !is_terminal,
    };
    let lines = Lines(Arc::new(Shared {
        json,
        colours: is_terminal && std::env::var_os("NO_COLOR").is_none(),
        interval: log.repeat_interval,
        seen: Mutex::default(),
    }));
    let filter: Targets = log.level.parse().unwrap_or_else(|_| Targets::new().with_default(Level::INFO));
    tracing_subscriber::registry().with(lines.clone().with_filter(filter)).init();
    lines
}

impl Lines {
    /// Says how often lines have repeated that have not been written again since.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        let mut over = Vec::new();
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, seen| {
            let is_over = seen.until <= now;
            if is_over && seen.again > 0 {
                over.push((seen.line.clone(), seen.again));
            }
            !is_over
        });
        for (line, again) in over {
            self.write(&line, again);
        }
    }

    /// Whether a line is to be written, and how often it has not been since it was last.
    fn count(&self, line: &Line) -> Option<u64> {
        let now = Instant::now();
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED_MAX {
            seen.clear();
        }
        let until = now + self.0.interval;
        match seen.get_mut(&line.identity()) {
            Some(seen) if seen.until > now => {
                seen.again += 1;
                seen.line = line.clone();
                None
            }
            Some(seen) => {
                seen.until = until;
                Some(std::mem::take(&mut seen.again))
            }
            None => {
                seen.insert(line.identity(), Seen { until, again: 0, line: line.clone() });
                Some(0)
            }
        }
    }

    fn write(&self, line: &Line, again: u64) {
        let mut text = match self.0.json {
            true => line.json(again),
            false => line.human(again, self.0.colours),
        };
        text.push('\n');
        // A log that nobody takes is no reason to stop.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Line {
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            message: String::new(),
            fields: Map::new(),
        };
        event.record(&mut line);
        if let Some(again) = self.count(&line) {
            self.write(&line, again);
        }
    }
}

impl Line {
    /// What two lines have in common that say the same.
    fn identity(&self) -> String {
        let mut text = format!("{} {} {}", self.level, self.target, self.message);
        for (name, value) in self.fields.iter().filter(|(name, _)| !COUNTERS.contains(&name.as_str())) {
            let value = match value {
                // Errors tell times and numbers.
                Value::String(value) if name == "error" || name == "reason" => {
                    value.replace(|letter: char| letter.is_ascii_digit(), "")
                }
                value => value.to_string(),
            };
            let _ = write!(text, " {name}={value}");
        }
        text
    }

    fn json(&self, again: u64) -> String {
        let mut object = Map::new();
        object.insert("time".to_owned(), now().into());
        object.insert("level".to_owned(), self.level.to_string().to_lowercase().into());
        object.insert("target".to_owned(), self.target.clone().into());
        object.insert("message".to_owned(), self.message.clone().into());
        if again > 0 {
            object.insert("repeated".to_owned(), again.into());
        }
        for (name, value) in &self.fields {
            object.entry(name.clone()).or_insert_with(|| value.clone());
        }
        Value::Object(object).to_string()
    }

    fn human(&self, again: u64, colours: bool) -> String {
        let colour = match self.level {
            Level::ERROR => "31",
            Level::WARN => "33",
            Level::INFO => "32",
            _ => "90",
        };
        let level = match colours {
            true => format!("\x1b[{colour}m{:>5}\x1b[0m", self.level),
            false => format!("{:>5}", self.level),
        };
        let mut text = format!("{} {level} {}", now(), self.message);
        for (name, value) in &self.fields {
            let _ = match value {
                Value::String(value) if !value.contains([' ', '"']) => write!(text, " {name}={value}"),
                value => write!(text, " {name}={value}"),
            };
        }
        if again > 0 {
            let _ = write!(text, " (repeated {again} times since)");
        }
        text
    }

    fn put(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            _ => self.put(field, format!("{value:?}").into()),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            _ => self.put(field, value.into()),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

/// RFC 3339, in UTC.
fn now() -> String {
    let mut text = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Lines {
        let interval = Duration::from_secs(30);
        Lines(Arc::new(Shared { json: true, colours: false, interval, seen: Mutex::default() }))
    }

    fn line(message: &str, fields: &[(&str, Value)]) -> Line {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Line { level: Level::WARN, target: "t".to_owned(), message: message.to_owned(), fields }
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_repeats_is_counted() {
        let lines = lines();
        let away = |attempt: u64| {
            line("away", &[("attempts", attempt.into()), ("error", format!("after {attempt} ms").into())])
        };
        assert_eq!(lines.count(&away(1)), Some(0));
        assert_eq!(lines.count(&away(2)), None);
        assert_eq!(lines.count(&away(3)), None);
        assert_eq!(lines.count(&line("away", &[("topic", "other".into())])), Some(0));
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(lines.count(&away(4)), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_does_not_come_again_is_told_of_once_and_forgotten() {
        let lines = lines();
        lines.count(&line("away", &[]));
        lines.count(&line("away", &[]));
        tokio::time::advance(Duration::from_secs(31)).await;
        lines.sweep();
        assert_eq!(lines.count(&line("away", &[])), Some(0));
    }

    #[test]
    fn a_program_reads_json_and_a_person_words() {
        let line = line("held", &[("topic", "orders".into()), ("error", "no such host".into())]);
        let json: Value = serde_json::from_str(&line.json(2)).unwrap();
        assert_eq!(
            (&json["message"], &json["repeated"], &json["topic"]),
            (&"held".into(), &2.into(), &"orders".into())
        );
        assert!(
            line.human(2, false)
                .ends_with(" WARN held error=\"no such host\" topic=orders (repeated 2 times since)")
        );
    }
}
