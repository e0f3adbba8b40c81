//! Kafka's jars, fetched by Maven and kept.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    super::{daemon, packages},
    VARIABLE,
};
use crate::{Result, workspace};

/// What is fetched: Kafka and a logger that writes to standard error.
const POM: &str = include_str!("pom.xml");

/// The folder of the jars. It lies below cargo's target directory and is filled once for each content of
/// the pom.
pub(super) fn find_or_fetch() -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    POM.hash(&mut hasher);
    let folder = workspace::target_dir()?.join("kafka").join(format!("{:016x}", hasher.finish()));
    if !folder.is_dir() {
        fetch(&folder)?;
    }
    Ok(folder)
}

fn fetch(folder: &Path) -> Result {
    let maven = packages::find_or_install("mvn", Vec::new, "maven", || packages::install("maven"))?;
    // Whole or not at all, and not in the way of another process that fetches them too.
    let draft = folder.with_extension(std::process::id().to_string());
    let failed = |error: io::Error| format!("failed to write {}: {error}", draft.display());
    fs::create_dir_all(&draft).and_then(|()| fs::write(draft.join("pom.xml"), POM)).map_err(failed)?;
    eprintln!("fetching Apache Kafka with Maven");
    let mut copy = Command::new(maven);
    copy.current_dir(&draft).args(["--batch-mode", "--quiet", "dependency:copy-dependencies"]);
    let fetched =
        daemon::quietly(copy.args(["-DincludeScope=runtime", "-DoutputDirectory=."])).map_err(|error| {
            format!("{error}; where Maven Central cannot be reached, name a broker in {VARIABLE}")
        });
    let kept = fetched.and_then(|()| match fs::rename(&draft, folder) {
        Err(error) if !folder.is_dir() => Err(failed(error)),
        _ => Ok(()),
    });
    // Nothing is left of it when it has become the folder.
    let _ = fs::remove_dir_all(&draft);
    kept
}
