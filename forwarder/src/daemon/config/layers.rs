//! [`Layers`]: the command line over the environment over the file over the defaults.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use super::{
    file,
    options::{self, Spec},
    secret,
    value::{Kind, Value},
};

/// What variables begin with. Parts are joined by two underscores: `WATERMILL_FORWARDER__RELAY__SHOP__SOURCE__URL`.
pub(crate) const PREFIX: &str = "WATERMILL_FORWARDER__";

/// Everything that was said about options, by path.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    pub(crate) given: BTreeMap<String, Given>,
    pub(crate) problems: Vec<Problem>,
    /// Relays that were named, by whatever is said about them.
    pub(crate) relays: BTreeSet<String>,
    /// The file, for problems without a line.
    pub(crate) file: String,
}

/// A value and who has set it.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// Where a value comes from; the later ones win.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File { path: String, line: usize },
    Environment(String),
    Flag,
}

/// Something that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) at: String,
    pub(crate) text: String,
}

impl Layers {
    /// Reads all of them. `set` are the `path=value` of the command line.
    pub(crate) fn read(
        config: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        set: &[String],
    ) -> Self {
        let mut layers = Self::default();
        if let Some(path) = config {
            layers.file = path.display().to_string();
            file::read(path, &mut layers);
        }
        let mut variables: Vec<_> =
            environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort();
        for (name, value) in variables {
            layers.variable(&name, &value);
        }
        for assignment in set {
            layers.flag(assignment);
        }
        layers
    }

    /// What a path is set to, by whoever has the last word.
    pub(crate) fn get(&self, path: &str) -> Option<Given> {
        let by_default = || {
            let spec = options::find(path)?;
            let value = spec.kind.read(spec.default?).ok()?;
            Some(Given { value, origin: Origin::Default })
        };
        self.given.get(path).cloned().or_else(by_default)
    }

    /// Takes note of a problem with an option, wherever that was set.
    pub(crate) fn problem(&mut self, path: &str, text: impl fmt::Display) {
        let at = match self.given.get(path) {
            Some(given) => format!("{}: {path}", given.origin),
            None if self.file.is_empty() => path.to_owned(),
            None => format!("{}: {path}", self.file),
        };
        self.problems.push(Problem { at, text: text.to_string() });
    }

    pub(crate) fn set(&mut self, path: &str, value: Value, origin: Origin) {
        if let Some(relay) = options::relay_of(path) {
            self.relays.insert(relay.to_owned());
        }
        self.given.insert(path.to_owned(), Given { value, origin });
    }

    /// Takes note of a path that is no option.
    pub(crate) fn unknown(&mut self, at: impl fmt::Display, path: &str) {
        let meant = options::nearest(path).map(|meant| format!("; did you mean {meant}?"));
        let text = format!("there is no such option{}", meant.unwrap_or_default());
        self.problems.push(Problem { at: format!("{at}: {path}"), text });
    }

    fn variable(&mut self, name: &str, text: &str) {
        let parts: Vec<String> = name[PREFIX.len()..].split("__").map(str::to_lowercase).collect();
        let path = self.path_of(&parts);
        match options::find(&path) {
            Some(spec) => self.read_text(&path, spec, text, Origin::Environment(name.to_owned())),
            None => self.unknown(name, &path),
        }
    }

    /// Variables have no dashes, which names of relays may have, and no dots, which those of a client's options have.
    fn path_of(&self, parts: &[String]) -> String {
        let mut parts = parts.to_vec();
        if parts.first().is_some_and(|part| part == "relay") {
            if let Some(name) = parts.get_mut(1) {
                let named = self.relays.iter().find(|relay| relay.replace('-', "_").to_lowercase() == *name);
                *name = named.unwrap_or(name).clone();
            }
            if parts.get(3).is_some_and(|part| part.starts_with("options")) {
                parts.iter_mut().skip(4).for_each(|part| *part = part.replace('_', "."));
            }
        }
        parts.join(".")
    }

    fn flag(&mut self, assignment: &str) {
        let at = "--set";
        let Some((path, text)) = assignment.split_once('=') else {
            let text = "write it as option=value".to_owned();
            self.problems.push(Problem { at: at.to_owned(), text });
            return;
        };
        let Some(spec) = options::find(path) else { return self.unknown(at, path) };
        let is_secret = spec.kind == Kind::Secret
            || secret::has_password(text)
            || (path.contains(".options.") && secret::is_secret_option(path));
        if is_secret {
            let text = "everybody who lists processes sees a secret on the command line: give a file, or a variable \
                        of the environment";
            self.problems.push(Problem { at: format!("{at}: {path}"), text: text.to_owned() });
            return;
        }
        self.read_text(path, spec, text, Origin::Flag);
    }

    fn read_text(&mut self, path: &str, spec: &Spec, text: &str, origin: Origin) {
        match spec.kind.read(text) {
            Ok(value) => self.set(path, value, origin),
            Err(text) => self.problems.push(Problem { at: format!("{origin}: {path}"), text }),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(name) => f.write_str(name),
            Self::Flag => f.write_str("--set"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, environment: &[(&str, &str)], set: &[&str]) -> Layers {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("forwarder.toml");
        std::fs::write(&path, text).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let set: Vec<String> = set.iter().map(|text| (*text).to_owned()).collect();
        Layers::read(Some(&path), environment, &set)
    }

    #[test]
    fn the_command_line_wins_over_the_environment_over_the_file_over_the_default() {
        const FILE: &str = "[relay.my-shop]\nbatch_size = 1\nlinger = \"1s\"\nattempts = 1\n";
        let environment = [
            ("WATERMILL_FORWARDER__RELAY__MY_SHOP__BATCH_SIZE", "2"),
            ("WATERMILL_FORWARDER__RELAY__MY_SHOP__LINGER", "2s"),
            ("PATH", "x"),
        ];
        let layers = read(FILE, &environment, &["relay.my-shop.batch_size=3"]);
        assert_eq!(layers.problems, []);
        let shown = |path: &str| layers.get(path).unwrap().value.to_string();
        assert_eq!(shown("relay.my-shop.batch_size"), "3");
        assert_eq!(shown("relay.my-shop.linger"), "2s");
        assert_eq!(shown("relay.my-shop.attempts"), "1");
        assert_eq!(shown("relay.my-shop.max_blocked"), "10000");
    }

    #[test]
    fn the_environment_names_a_clients_option() {
        let name = "WATERMILL_FORWARDER__RELAY__SHOP__DESTINATION__OPTIONS__SECURITY_PROTOCOL";
        let layers = read("", &[(name, "SSL")], &[]);
        assert!(layers.given.contains_key("relay.shop.destination.options.security.protocol"));
    }

    #[test]
    fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
        let set = [
            "relay.shop.source.password=hunter2",
            "relay.shop.source.url=postgres://me:hunter2@h/d",
            "relay.shop.destination.options.sasl.password=hunter2",
        ];
        let layers = read("", &[], &set);
        assert_eq!(layers.problems.len(), 3);
        assert!(!format!("{layers:?}").contains("hunter2"));
    }

    #[test]
    fn every_problem_is_found_at_once_with_its_line() {
        const FILE: &str = "drain_timeout = 30\n[relay.shop]\nbatchsize = 1\nlinger = \"soon\"\n[relay.shop.source]\nconnections = true\n";
        let layers = read(FILE, &[("WATERMILL_FORWARDER__LOG__FORMAT", "xml")], &["nonsense"]);
        let lines: Vec<String> = layers.problems.iter().map(ToString::to_string).collect();
        let places: Vec<&str> =
            lines.iter().map(|line| line.rsplit_once('/').map_or(&**line, |(_, end)| end)).collect();
        assert_eq!(
            places,
            [
                "forwarder.toml:1: drain_timeout: 30 of what? Give a unit, as in \"30s\" or \"30ms\"",
                "forwarder.toml:3: relay.shop.batchsize: there is no such option; did you mean relay.shop.batch_size?",
                "forwarder.toml:4: relay.shop.linger: \"soon\" is no duration: write 250ms, 30s, 5m or 1h",
                "forwarder.toml:6: relay.shop.source.connections: it is boolean, and not a whole number",
                "WATERMILL_FORWARDER__LOG__FORMAT: log.format: \"xml\" is none of auto, human, json",
                "--set: write it as option=value",
            ]
        );
    }
}
