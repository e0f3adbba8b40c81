//! Every public item has one path, beside those that the crate's root repeats.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Different things that have one name in two modules.
const NAMESAKES: [&str; 2] = ["Source", "State"];

/// Collects what a public module re-exports, and what its public submodules do.
fn collect(module: &str, file: &Path, found: &mut BTreeMap<String, Vec<String>>) {
    let text = fs::read_to_string(file).expect("a source");
    for statement in text.split("\npub use ").skip(1) {
        let statement = statement.split(';').next().unwrap_or_default();
        for name in statement.split(|c: char| !c.is_alphanumeric() && c != '_') {
            if name.starts_with(char::is_uppercase) {
                found.entry(name.to_owned()).or_default().push(module.to_owned());
            }
        }
    }
    for submodule in text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')) {
        collect(&format!("{module}::{submodule}"), &file_of(file, submodule), found);
    }
}

fn file_of(parent: &Path, module: &str) -> PathBuf {
    let folder = match parent.file_name().and_then(|name| name.to_str()) {
        Some("lib.rs" | "mod.rs") => parent.with_file_name(""),
        _ => parent.with_extension(""),
    };
    let file = folder.join(format!("{module}.rs"));
    if file.exists() { file } else { folder.join(module).join("mod.rs") }
}

#[test]
fn every_public_item_has_one_path_beside_the_crates_root() {
    let mut found = BTreeMap::new();
    collect("crate", &Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"), &mut found);
    assert!(found.get("Router").is_some_and(|paths| paths.len() == 2), "{found:#?}");
    for paths in found.values_mut() {
        paths.retain(|path| path != "crate");
        // A trait and the macro that derives it are one name in one place.
        paths.dedup();
    }
    found.retain(|name, paths| paths.len() > 1 && !NAMESAKES.contains(&&**name));
    assert!(found.is_empty(), "re-exported by more than one module: {found:#?}");
}
