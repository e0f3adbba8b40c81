//! What the manifests and the Markdown files say.

use std::{collections::BTreeSet, fs, path::Path};

use crate::sources::{read, root};

/// The folders in the workspace's list of members.
pub(crate) fn members() -> BTreeSet<String> {
    folders("\nmembers")
}

/// Those of them that cargo takes where none is named.
pub(crate) fn default_members() -> BTreeSet<String> {
    folders("\ndefault-members")
}

fn folders(key: &str) -> BTreeSet<String> {
    let manifest = read(&root().join("Cargo.toml"));
    let list = manifest
        .split_once(&format!("{key} = ["))
        .and_then(|(_, rest)| rest.split_once(']'))
        .expect("the workspace lists its members")
        .0;
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether a member is for others than this workspace.
pub(crate) fn is_published(member: &str) -> bool {
    !read(&root().join(member).join("Cargo.toml")).contains("publish = false")
}

/// A member's name as a package, and the oldest compiler that its manifest names.
pub(crate) fn package(member: &str) -> (String, String) {
    let manifest = read(&root().join(member).join("Cargo.toml"));
    let value = |key: &str| {
        let line = manifest.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")));
        line.and_then(|rest| rest.strip_suffix('"')).map(str::to_owned)
    };
    let named = value("name").zip(value("rust-version"));
    named.unwrap_or_else(|| panic!("{member}/Cargo.toml has no name or no rust-version"))
}

/// The version of a dependency as one speaks of it: `1` for 1.54, `0.9` for 0.9.2.
pub(crate) fn version_of(manifest: &str, dependency: &str) -> String {
    let line = manifest.lines().find_map(|line| line.strip_prefix(&format!("{dependency} = ")));
    let line = line.unwrap_or_else(|| panic!("the workspace has no dependency {dependency}"));
    let rest = line.split_once("version = ").map_or(line, |(_, rest)| rest);
    let version = rest.split('"').nth(1).expect("a version stands in quotes");
    let numbers: Vec<&str> = version.split('.').collect();
    if numbers[0] == "0" { numbers[..2].join(".") } else { numbers[0].to_owned() }
}

/// The folders in the first code block after `## Crate map`.
pub(crate) fn crate_map(architecture: &str) -> BTreeSet<String> {
    let block = architecture
        .split_once("## Crate map")
        .and_then(|(_, rest)| rest.split("```").nth(1))
        .expect("ARCHITECTURE.md has a code block after `## Crate map`");
    block.lines().filter_map(|line| line.split_once('/')).map(|(name, _)| name.trim().to_owned()).collect()
}

/// The Markdown files of the workspace, its guide, its crates and the backend in core, from the root.
pub(crate) fn documents() -> Vec<String> {
    let crates = members().into_iter().map(|name| name + "/");
    let others = ["", "docs/", "watermill-core/src/memory/"].map(str::to_owned);
    let folders = others.into_iter().chain(crates);
    let mut paths = Vec::new();
    for folder in folders {
        let entries = fs::read_dir(root().join(&folder))
            .unwrap_or_else(|error| panic!("failed to list {folder:?} of the workspace: {error}"));
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
                paths.push(format!("{folder}{name}"));
            }
        }
    }
    assert!(paths.contains(&"README.md".to_owned()), "no README.md among {paths:?}");
    paths
}

#[test]
fn versions_are_read_as_one_speaks_of_them() {
    let manifest = "a = \"1.54.2\"\na-b = { path = \"x\", version = \"0.9.1\", features = [\"c\"] }\n";
    assert_eq!((version_of(manifest, "a"), version_of(manifest, "a-b")), ("1".to_owned(), "0.9".to_owned()));
}

#[test]
fn the_crate_map_is_read_from_its_block() {
    let text = "## Crate map\n\n```text\na/   x/y\nb-c/ z\n```\n```text\nd/\n```\n";
    assert_eq!(crate_map(text), BTreeSet::from(["a".to_owned(), "b-c".to_owned()]));
}
