//! What the examples pull in: what they must not, and a count of the rest.

use std::collections::BTreeSet;

use crate::{Result, process};

/// Whoever runs the lottery for the first time does not wait for the client of a broker to compile.
const FORBIDDEN: &[&str] = &[
    "async-nats",
    "google-cloud-pubsub",
    "lapin",
    "librdkafka-sys",
    "openssl-sys",
    "rdkafka",
    "rdkafka-sys",
    "redis",
    "sqlx-mysql",
    "sqlx-postgres",
    "tonic",
];

pub(super) fn check() -> Result {
    let lottery = crates(&["-p", "watermill-examples", "-e", "normal,build"])?;
    let everything = crates(&["--workspace", "-e", "normal,build,dev"])?;
    println!("cargo run --bin lottery compiles {} crates", lottery.len());
    println!("cargo xtask test compiles {} crates", everything.len());
    let found: Vec<&str> = forbidden(&lottery).collect();
    if found.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the examples depend on {}; `cargo tree -p watermill-examples -i <crate>` shows through what",
        found.join(", ")
    ))
}

/// The packages of a dependency tree, each as `name version`.
fn crates(selection: &[&str]) -> Result<BTreeSet<String>> {
    let mut command = process::cargo(&["tree", "--prefix", "none", "--format", "{p}"]);
    let tree = process::read(command.args(selection))?;
    Ok(packages(&tree))
}

fn packages(tree: &str) -> BTreeSet<String> {
    tree.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(format!("{} {}", words.next()?, words.next()?))
        })
        .collect()
}

fn forbidden(packages: &BTreeSet<String>) -> impl Iterator<Item = &str> {
    packages
        .iter()
        .filter_map(|package| package.split_once(' '))
        .map(|(name, _)| name)
        .filter(|name| FORBIDDEN.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_counted_once_and_found_by_its_whole_name() {
        let tree = "lottery v0.1.0 (/src)\ntonic v0.14.0\ntonic v0.14.0 (*)\ntonic-like v1.0.0\n\nserde_derive v1.0.0 (proc-macro)\n";
        let packages = packages(tree);
        assert_eq!(packages.len(), 4);
        assert_eq!(forbidden(&packages).collect::<Vec<_>>(), ["tonic"]);
    }
}
