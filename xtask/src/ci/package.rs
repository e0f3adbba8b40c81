//! Each published crate packs: with its licences, its README and what a registry wants to know, without ballast; and the
//! packages compile with each other and nothing else of this repository.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use serde_json::Value;

use crate::{Result, process, workspace};

/// What comes close to it is not source code. All of ours are below 150 KiB.
const PACKAGE_KIB_MAX: u64 = 512;
const LICENCES: [&str; 2] = ["LICENSE-MIT", "LICENSE-APACHE"];

pub(super) fn check() -> Result {
    let metadata = workspace::metadata()?;
    let published: Vec<&Value> =
        workspace::members(&metadata).filter(|package| is_published(package)).collect();
    let mut command = process::cargo(&["package", "--no-verify", "--allow-dirty"]);
    for package in &published {
        command.args(["-p", name(package)]);
    }
    process::run(&mut command)?;

    let packed = workspace::target_dir()?.join("package");
    let unpacked = packed.join("unpacked");
    // What an earlier run has left may hold files that are gone.
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked).map_err(|error| cannot("remove", &unpacked, &error))?;
    }
    fs::create_dir_all(&unpacked).map_err(|error| cannot("create", &unpacked, &error))?;
    let mut faults = Vec::new();
    for package in &published {
        let folder = format!("{}-{}", name(package), text(package, "version"));
        let archive = packed.join(format!("{folder}.crate"));
        let kib = fs::metadata(&archive).map_err(|error| cannot("find", &archive, &error))?.len() / 1024;
        println!("{folder}: {kib} KiB");
        if kib > PACKAGE_KIB_MAX {
            faults.push(format!("{folder} takes {kib} KiB; `include` in its manifest says what is shipped"));
        }
        // With the time of now: all archives have the same times, and cargo would take what it has compiled of the last one.
        process::run(Command::new("tar").arg("-xzmf").arg(&archive).arg("-C").arg(&unpacked))?;
        faults.extend(missing_in_manifest(package));
        faults.extend(wrong_files(&unpacked.join(&folder), package));
    }
    if !faults.is_empty() {
        return Err(faults.join("\n"));
    }
    compile(&unpacked, &published)
}

fn is_published(package: &Value) -> bool {
    // An empty list of registries is `publish = false`.
    package["publish"].as_array().is_none_or(|registries| !registries.is_empty())
}

/// What a registry shows or demands and the manifest does not say.
fn missing_in_manifest(package: &Value) -> Vec<String> {
    let name = name(package);
    let mut faults: Vec<String> = ["description", "license", "repository", "readme", "rust_version"]
        .into_iter()
        .filter(|key| text(package, key).is_empty())
        .map(|key| format!("{name}: the manifest has no `{}`", key.replace('_', "-")))
        .collect();
    for key in ["keywords", "categories"] {
        let words = package[key].as_array().map_or(0, Vec::len);
        if !(1..=5).contains(&words) {
            faults.push(format!(
                "{name}: the manifest has {words} {key}; crates.io takes five, and none find nobody"
            ));
        }
    }
    for keyword in package["keywords"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "_-+".contains(letter);
        if keyword.len() > 20 || !keyword.chars().all(allowed) {
            faults.push(format!("{name}: crates.io refuses the keyword `{keyword}`"));
        }
    }
    if package["metadata"]["docs"]["rs"]["all-features"] != true {
        faults.push(format!("{name}: [package.metadata.docs.rs] does not ask for all features"));
    }
    faults
}

/// What a package's own files lack.
fn wrong_files(folder: &Path, package: &Value) -> Vec<String> {
    let name = name(package);
    let mut faults = Vec::new();
    for licence in LICENCES {
        let wanted = fs::read(workspace::root().join(licence)).ok();
        if wanted.is_none() || fs::read(folder.join(licence)).ok() != wanted {
            faults.push(format!("{name}: the package's {licence} is not that of the workspace"));
        }
    }
    if fs::read_to_string(folder.join("README.md")).is_ok_and(|readme| !readme.trim().is_empty()) {
        return faults;
    }
    faults.push(format!("{name}: the package has no README.md"));
    faults
}

/// Checks the packages in a workspace of their own, where they find each other in place of a registry's.
fn compile(unpacked: &Path, published: &[&Value]) -> Result {
    let manifest = unpacked.join("Cargo.toml");
    let ours = workspace::root().join("Cargo.toml");
    let ours = fs::read_to_string(&ours).map_err(|error| cannot("read", &ours, &error))?;
    fs::write(&manifest, manifest_of(published, &ours))
        .map_err(|error| cannot("write", &manifest, &error))?;
    // The versions that everything else is tested with.
    let lock = unpacked.join("Cargo.lock");
    fs::copy(workspace::root().join("Cargo.lock"), &lock).map_err(|error| cannot("write", &lock, &error))?;
    let mut command = process::cargo(&["check", "--workspace"]);
    command.current_dir(unpacked).arg("--target-dir").arg(workspace::target_dir()?);
    process::run(command.args(workspace::without_librdkafka()?))
}

fn manifest_of(published: &[&Value], workspace: &str) -> String {
    let mut manifest =
        "[workspace]\nresolver = \"3\"\nmembers = [\"watermill-*\"]\n\n[patch.crates-io]\n".to_owned();
    for package in published {
        let _ = writeln!(manifest, "{0} = {{ path = \"{0}-{1}\" }}", name(package), text(package, "version"));
    }
    // The workspace's, so that dependencies are compiled once for both.
    if let Some((_, profiles)) = workspace.split_once("\n[profile.") {
        manifest.push_str("\n[profile.");
        manifest.push_str(profiles);
    }
    manifest
}

fn name(package: &Value) -> &str {
    text(package, "name")
}

fn text<'p>(package: &'p Value, key: &str) -> &'p str {
    package[key].as_str().unwrap_or_default()
}

fn cannot(verb: &str, path: &Path, error: &std::io::Error) -> String {
    format!("failed to {verb} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package() -> Value {
        serde_json::json!({
            "name": "a", "version": "0.1.0", "publish": null, "description": "d", "license": "MIT", "repository": "r",
            "readme": "README.md", "rust_version": "1.91", "keywords": ["k"], "categories": ["c"],
            "metadata": { "docs": { "rs": { "all-features": true } } },
        })
    }

    #[test]
    fn a_complete_manifest_has_no_faults_and_each_gap_is_one() {
        assert_eq!(missing_in_manifest(&package()), [""; 0]);
        for key in [
            "description",
            "license",
            "repository",
            "readme",
            "rust_version",
            "keywords",
            "categories",
            "metadata",
        ] {
            let mut package = package();
            package[key] = Value::Null;
            assert_eq!(missing_in_manifest(&package).len(), 1, "{key}");
        }
    }

    #[test]
    fn keywords_that_crates_io_refuses_are_found() {
        let mut package = package();
        package["keywords"] =
            serde_json::json!(["transactional-outbox", "two words", "a-keyword-of-21-letter"]);
        let faults = missing_in_manifest(&package);
        assert_eq!(faults.len(), 2, "{faults:?}");
    }

    #[test]
    fn a_crate_with_publish_false_is_not_packed() {
        let mut package = package();
        assert!(is_published(&package));
        package["publish"] = serde_json::json!([]);
        assert!(!is_published(&package));
    }

    #[test]
    fn a_package_without_its_licences_and_readme_is_found() {
        let faults = wrong_files(Path::new("/a/folder/that/is/not/there"), &package());
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert_eq!(wrong_files(&workspace::root().join("watermill-core"), &package()), [""; 0]);
    }

    #[test]
    fn packages_find_each_other_in_place_of_a_registrys() {
        let manifest = manifest_of(&[&package()], "[workspace]\n\n[profile.dev]\ndebug = false\n");
        assert!(manifest.contains("[patch.crates-io]\na = { path = \"a-0.1.0\" }\n"), "{manifest}");
        assert!(manifest.ends_with("\n[profile.dev]\ndebug = false\n"), "{manifest}");
    }
}
