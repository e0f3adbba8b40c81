//! [`Reader`]: typed values of the options of one relay, or of none.

use std::time::Duration;

use watermill_core::error::ConfigError;

use super::{layers::Layers, secret::Secret, value::Value};

/// Reads the options whose paths begin alike.
pub(super) struct Reader<'l> {
    layers: &'l mut Layers,
    prefix: String,
}

impl<'l> Reader<'l> {
    pub(super) fn new(layers: &'l mut Layers, prefix: &str) -> Self {
        Self { layers, prefix: prefix.to_owned() }
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn duration(&self, name: &str) -> Duration {
        match self.value(name) {
            Some(Value::Duration(duration)) => duration,
            _ => Duration::ZERO,
        }
    }

    pub(super) fn count(&self, name: &str) -> usize {
        self.some_count(name).unwrap_or(0)
    }

    pub(super) fn some_count(&self, name: &str) -> Option<usize> {
        match self.value(name)? {
            Value::Count(count) => Some(usize::try_from(count).unwrap_or(usize::MAX)),
            _ => None,
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.value(name) == Some(Value::Flag(true))
    }

    pub(super) fn attempts(&self, name: &str) -> Option<u32> {
        match self.value(name) {
            Some(Value::Attempts(attempts)) => attempts,
            _ => None,
        }
    }

    /// A URL, which stands here or in a file.
    pub(super) fn url(&mut self, part: &str) -> Option<String> {
        let (plain, file) = (format!("{part}.url"), format!("{part}.url_file"));
        match (self.text(&plain), self.text(&file)) {
            (Some(url), None) => Some(url),
            (None, Some(path)) => self.file(&file, &path),
            (None, None) => {
                self.problem(&plain, "it is missing");
                None
            }
            (Some(_), Some(_)) => {
                self.problem(&file, "the URL is given, too: one of them will do");
                None
            }
        }
    }

    /// A password, which stands here or in a file, or is none.
    pub(super) fn password(&mut self, part: &str) -> Option<Secret> {
        let (plain, file) = (format!("{part}.password"), format!("{part}.password_file"));
        match (self.value(&plain), self.text(&file)) {
            (Some(Value::Secret(password)), None) => Some(Secret(password)),
            (Some(_), Some(_)) => {
                self.problem(&file, "the password is given, too: one of them will do");
                None
            }
            (_, Some(path)) => self.file(&file, &path).map(Secret),
            _ => None,
        }
    }

    /// What a client is told by names of its own: `part.options.*`, and from files `part.options_file.*`.
    #[cfg(feature = "kafka")]
    pub(super) fn options(&mut self, part: &str) -> Vec<(String, Secret)> {
        let mut options = Vec::new();
        for (name, value) in self.below(&format!("{part}.options.")) {
            options.push((name, Secret(value)));
        }
        for (name, path) in self.below(&format!("{part}.options_file.")) {
            let content = self.file(&format!("{part}.options_file.{name}"), &path);
            options.extend(content.map(|content| (name, Secret(content))));
        }
        options
    }

    pub(super) fn problem(&mut self, name: &str, text: impl std::fmt::Display) {
        let path = format!("{}{name}", self.prefix);
        self.layers.problem(&path, text);
    }

    /// Takes the problems that a part has with its options. They begin with the option's name.
    pub(super) fn check(&mut self, part: &str, checked: Result<(), ConfigError>) {
        for problem in checked.err().iter().flat_map(ConfigError::problems) {
            let word = problem.split([':', ' ']).next().unwrap_or_default();
            let name = match word {
                "option" => {
                    problem[word.len()..].trim_start().split(':').next().map(|name| format!("options.{name}"))
                }
                "call_timeout" | "key_from" | "" => None,
                "visibility_timeout" => Some("lease".to_owned()),
                word => Some(word.to_owned()),
            };
            let path = match (part, name) {
                ("", Some(name)) => name,
                ("", None) => word.to_owned(),
                (part, Some(name)) => format!("{part}.{name}"),
                (part, None) => part.to_owned(),
            };
            self.problem(&path, problem);
        }
    }

    /// Options that are set and mean nothing to what they are set for.
    pub(super) fn no_use(&mut self, part: &str, names: &[&str], what: &str) {
        let given = |name: &&&str| {
            let path = format!("{}{part}.{name}", self.prefix);
            let below = format!("{path}.");
            self.layers.given.keys().any(|key| *key == path || key.starts_with(&below))
        };
        for name in names.iter().filter(given).copied().collect::<Vec<_>>() {
            let of_clients = self.below(&format!("{part}.{name}."));
            if of_clients.is_empty() {
                self.problem(&format!("{part}.{name}"), format!("it means nothing to {what}"));
            }
            for (client, _) in of_clients {
                self.problem(&format!("{part}.{name}.{client}"), format!("it means nothing to {what}"));
            }
        }
    }

    /// What is given below a path, as text.
    pub(super) fn below(&self, name: &str) -> Vec<(String, String)> {
        let path = format!("{}{name}", self.prefix);
        let below = self.layers.given.iter().filter_map(|(key, given)| match &given.value {
            Value::Text(text) => Some((key.strip_prefix(&path)?.to_owned(), text.clone())),
            _ => None,
        });
        below.collect()
    }

    fn value(&self, name: &str) -> Option<Value> {
        self.layers.get(&format!("{}{name}", self.prefix)).map(|given| given.value)
    }

    /// What a file holds, without the line break at its end.
    fn file(&mut self, name: &str, path: &str) -> Option<String> {
        match std::fs::read_to_string(path) {
            Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => {
                self.problem(name, format!("{path} cannot be read: {error}"));
                None
            }
        }
    }
}
