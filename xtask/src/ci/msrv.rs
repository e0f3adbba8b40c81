//! Each crate's `rust-version`, which is the lowest that it builds with: no dependency asks for more, and it is built
//! with just that.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    process::Command,
};

use serde_json::Value;

use super::Outcome;
use crate::{Result, process, workspace};

/// A minor version of Rust 1, such as 94 for 1.94. Patches do not add what programs need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rust(u32);

impl Rust {
    fn parse(version: &str) -> Option<Self> {
        let mut numbers = version.split('.');
        (numbers.next()? == "1").then_some(())?;
        numbers.next()?.parse().ok().map(Self)
    }

    /// What a package asks for, if it says so.
    fn of(package: &Value) -> Option<Self> {
        Self::parse(package["rust_version"].as_str()?)
    }
}

impl fmt::Display for Rust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

pub(super) fn check() -> Result<Outcome> {
    let metadata = workspace::metadata_of_all_features()?;
    let faults = demands(&metadata);
    if !faults.is_empty() {
        return Err(faults.join("\n"));
    }
    if !process::is_installed("rustup", &["--version"]) {
        return Ok(Outcome::Skipped("of dependencies only: to build with older compilers takes rustup"));
    }
    let mut outcome = Outcome::Passed;
    for (rust, packages) in by_version(&metadata) {
        if install(rust) {
            build(rust, &packages)?;
        } else {
            outcome = Outcome::Skipped("of dependencies only: an older compiler could not be installed");
        }
    }
    Ok(outcome)
}

/// What the dependencies of a member demand beyond its own `rust-version`. Those of its tests do not count.
fn demands(metadata: &Value) -> Vec<String> {
    let packages: BTreeMap<&str, &Value> = workspace::packages(metadata)
        .filter_map(|package| Some((package["id"].as_str()?, package)))
        .collect();
    let mut faults = Vec::new();
    for member in workspace::members(metadata) {
        let name = member["name"].as_str().unwrap_or_default();
        let Some(rust) = Rust::of(member) else {
            faults.push(format!("{name} has no rust-version"));
            continue;
        };
        let reached = reached(metadata, member["id"].as_str().unwrap_or_default());
        for dependency in reached.iter().filter_map(|id| packages.get(id)) {
            if let Some(demanded) = Rust::of(dependency).filter(|demanded| *demanded > rust) {
                faults.push(format!(
                    "{name} says that Rust {rust} will do, but {} {} needs {demanded}; \
                     `cargo tree -p {name} --all-features -e normal,build -i {0}` shows through what",
                    dependency["name"].as_str().unwrap_or_default(),
                    dependency["version"].as_str().unwrap_or_default(),
                ));
            }
        }
    }
    faults
}

/// The ids of everything that is compiled to build one package, itself included.
fn reached<'m>(metadata: &'m Value, id: &'m str) -> BTreeSet<&'m str> {
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let mut reached = BTreeSet::new();
    let mut left = vec![id];
    while let Some(id) = left.pop() {
        if reached.insert(id) {
            let dependencies = nodes.get(id).and_then(|node| node["deps"].as_array());
            let built = dependencies.into_iter().flatten().filter(|dependency| !is_for_tests(dependency));
            left.extend(built.filter_map(|dependency| dependency["pkg"].as_str()));
        }
    }
    reached
}

fn is_for_tests(dependency: &Value) -> bool {
    dependency["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind["kind"] == "dev"))
}

/// The members by the version that they are built with.
fn by_version(metadata: &Value) -> BTreeMap<Rust, Vec<&str>> {
    let mut versions: BTreeMap<Rust, Vec<&str>> = BTreeMap::new();
    for member in workspace::members(metadata) {
        if let (Some(rust), Some(name)) = (Rust::of(member), member["name"].as_str()) {
            versions.entry(rust).or_default().push(name);
        }
    }
    versions
}

/// Whether a toolchain is there, or can be had.
fn install(rust: Rust) -> bool {
    let toolchain = rust.to_string();
    process::is_installed("rustup", &["run", &toolchain, "cargo", "--version"]) || {
        let mut rustup = Command::new("rustup");
        rustup.args(["toolchain", "install", &toolchain, "--profile", "minimal", "--no-self-update"]);
        process::run(&mut rustup).is_ok()
    }
}

fn build(rust: Rust, packages: &[&str]) -> Result {
    let toolchain = rust.to_string();
    let mut rustup = Command::new("rustup");
    rustup.current_dir(workspace::root()).args([
        "run",
        &toolchain,
        "cargo",
        "check",
        "--locked",
        "--all-features",
    ]);
    for package in packages {
        rustup.args(["-p", package]);
    }
    process::run(rustup.args(workspace::without_librdkafka()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `app` builds with `old` and tests with `new`; `tool` builds with `new`.
    fn metadata(app: &str) -> Value {
        let package = |name: &str, rust: Value| serde_json::json!({ "id": name, "name": name, "version": "1.0.0", "rust_version": rust });
        let dependency =
            |name: &str, kind: Value| serde_json::json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        serde_json::json!({
            "workspace_members": ["app", "tool"],
            "packages": [
                package("app", app.into()), package("tool", "1.94.1".into()),
                package("old", "1.85".into()), package("new", "1.94.0".into()), package("silent", Value::Null),
            ],
            "resolve": { "nodes": [
                { "id": "app", "deps": [dependency("old", Value::Null), dependency("new", "dev".into())] },
                { "id": "tool", "deps": [dependency("new", Value::Null)] },
                { "id": "old", "deps": [dependency("silent", "build".into())] },
                { "id": "new", "deps": [] },
                { "id": "silent", "deps": [] },
            ] },
        })
    }

    #[test]
    fn what_a_crate_is_built_of_may_not_demand_more_than_it_says_itself() {
        let faults = demands(&metadata("1.84"));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("app says that Rust 1.84 will do, but old 1.0.0 needs 1.85"));
    }

    #[test]
    fn what_a_crate_is_tested_with_may_demand_more() {
        assert_eq!(demands(&metadata("1.85")), [""; 0]);
        assert_eq!(reached(&metadata("1.85"), "app"), BTreeSet::from(["app", "old", "silent"]));
    }

    #[test]
    fn each_crate_is_built_with_its_own_version() {
        let metadata = metadata("1.85.0");
        let versions = by_version(&metadata);
        assert_eq!(versions, BTreeMap::from([(Rust(85), vec!["app"]), (Rust(94), vec!["tool"])]));
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(Rust::parse("1.100") > Rust::parse("1.94.1"));
        assert_eq!(Rust::parse("1.94.0"), Rust::parse("1.94"));
        assert_eq!(Rust::parse("nightly"), None);
    }
}
