//! The file: TOML, of which every value knows its line.

use std::path::Path;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    layers::{Layers, Origin, Problem},
    options,
};

/// Reads a file into the layers, with everything that is wrong with it.
pub(super) fn read(path: &Path, layers: &mut Layers) {
    let shown = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let text = format!("it cannot be read: {error}");
            return layers.problems.push(Problem { at: shown, text });
        }
    };
    let (table, errors) = DeTable::parse_recoverable(&text);
    for error in errors {
        let line = error.span().map_or(1, |span| line_of(&text, span.start));
        layers.problems.push(Problem { at: format!("{shown}:{line}"), text: error.message().to_owned() });
    }
    let mut found = Vec::new();
    walk("", table.get_ref(), &mut found);
    found.sort_by_key(|(_, value)| value.span().start);
    for (path, value) in found {
        let line = line_of(&text, value.span().start);
        let at = format!("{shown}:{line}");
        let Some(spec) = options::find(&path) else {
            layers.unknown(at, &path);
            continue;
        };
        match spec.kind.read_toml(value.get_ref()) {
            Ok(value) => layers.set(&path, value, Origin::File { path: shown.clone(), line }),
            Err(text) => layers.problems.push(Problem { at: format!("{at}: {path}"), text }),
        }
    }
}

/// Collects what is no table. An option that is one by mistake is found by what is in it.
fn walk<'t, 'i>(above: &str, table: &'t DeTable<'i>, found: &mut Vec<(String, &'t Spanned<DeValue<'i>>)>) {
    for (name, value) in table {
        let path = match above {
            "" => name.get_ref().to_string(),
            _ => format!("{above}.{}", name.get_ref()),
        };
        match value.get_ref() {
            DeValue::Table(inner) => walk(&path, inner, found),
            _ => found.push((path, value)),
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}
