//! Where things are in this workspace, and what cargo knows about it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use serde_json::Value;

use crate::{Result, process};

/// The folder of the workspace's `Cargo.toml`.
///
/// Cargo says where it is when it runs this program. Where it was compiled is asked second: clones that share a target folder
/// share the program too, and cargo does not compile it again for the folder's sake.
pub(crate) fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let mut folder = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        assert!(folder.pop(), "xtask lies in the workspace's root");
        folder
    });
    &ROOT
}

/// Where private servers keep their data, whatever folder cargo builds into: the test kit looks here.
pub(crate) fn services_dir() -> PathBuf {
    root().join("target").join("services")
}

/// The folder that cargo builds into. On a build server it outlives the clone.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let args = ["metadata", "--format-version", "1", "--no-deps"];
    let metadata: Value = serde_json::from_str(&process::output(&mut process::cargo(&args))?)
        .map_err(|error| format!("failed to read cargo metadata: {error}"))?;
    let folder = metadata["target_directory"].as_str();
    folder.map(PathBuf::from).ok_or_else(|| "cargo metadata names no target directory".to_owned())
}

/// `cargo metadata`, with dependencies.
pub(crate) fn metadata() -> Result<Value> {
    read_metadata(&["metadata", "--format-version", "1"])
}

/// The same, with the dependencies that features switch on.
pub(crate) fn metadata_of_all_features() -> Result<Value> {
    read_metadata(&["metadata", "--format-version", "1", "--all-features"])
}

fn read_metadata(args: &[&str]) -> Result<Value> {
    serde_json::from_str(&process::read(&mut process::cargo(args))?)
        .map_err(|error| format!("failed to read cargo metadata: {error}"))
}

/// The packages of the workspace itself.
pub(crate) fn members(metadata: &Value) -> impl Iterator<Item = &Value> {
    let ids: Vec<&str> =
        metadata["workspace_members"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    packages(metadata).filter(move |package| package["id"].as_str().is_some_and(|id| ids.contains(&id)))
}

/// The members of the workspace with the names of their features, `default` left out.
pub(crate) fn features(metadata: &Value) -> Vec<(String, Vec<String>)> {
    members(metadata)
        .filter_map(|package| {
            let features = package["features"].as_object()?;
            let names: Vec<String> = features.keys().filter(|name| *name != "default").cloned().collect();
            Some((package["name"].as_str()?.to_owned(), names))
        })
        .collect()
}

/// The folder a package's sources lie in.
pub(crate) fn package_dir(metadata: &Value, name: &str) -> Option<PathBuf> {
    let package = packages(metadata).find(|package| package["name"] == name)?;
    Some(Path::new(package["manifest_path"].as_str()?).parent()?.to_owned())
}

/// Every package that cargo knows of here.
pub(crate) fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

/// Arguments that let cargo check Rust code without the minutes that librdkafka takes to compile: nothing is linked, so
/// that its build script need not run.
pub(crate) fn without_librdkafka() -> Result<[String; 2]> {
    let version = process::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or_else(|| "rustc names no host".to_owned())?;
    Ok(["--config".to_owned(), format!("target.{host}.rdkafka.rustc-link-lib=['rdkafka']")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_members_are_listed_with_their_features() {
        let metadata = serde_json::json!({
            "workspace_members": ["a 0.1.0"],
            "packages": [
                { "id": "a 0.1.0", "name": "a", "features": { "default": ["x"], "x": [], "y": [] } },
                { "id": "b 1.0.0", "name": "b", "features": { "z": [] }, "manifest_path": "/src/b/Cargo.toml" },
            ],
        });
        assert_eq!(features(&metadata), [("a".to_owned(), vec!["x".to_owned(), "y".to_owned()])]);
        assert_eq!(package_dir(&metadata, "b"), Some(PathBuf::from("/src/b")));
        assert_eq!(package_dir(&metadata, "c"), None);
    }
}
