//! [`State`]: `services.json`, what is up and where.

use std::{fs, io::ErrorKind, path::Path};

use serde_json::{Map, Value};

use crate::Result;

/// The name and URL of every private server that is up.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct State(Map<String, Value>);

impl State {
    /// Reads the file of a services folder; one that is missing is an empty state.
    pub(super) fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(format!("failed to read {}: {error}", path.display())),
        };
        match serde_json::from_str(&text) {
            Ok(Value::Object(entries)) => Ok(Self(entries)),
            _ => Err(format!("{} is not a JSON object; remove it and start again", path.display())),
        }
    }

    /// Writes the file as a whole or not at all: a test that starts meanwhile must not read half of it.
    pub(super) fn save(&self, dir: &Path) -> Result {
        let (path, draft) = (dir.join(FILE), dir.join(format!("{FILE}.{}", std::process::id())));
        let text = format!("{:#}\n", Value::Object(self.0.clone()));
        fs::create_dir_all(dir)
            .and_then(|()| fs::write(&draft, text))
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(|error| format!("failed to write {}: {error}", path.display()))
    }

    pub(super) fn url(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    pub(super) fn insert(&mut self, name: &str, url: &str) {
        self.0.insert(name.to_owned(), url.into());
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}

const FILE: &str = "services.json";
