//! What needs no server because it is compiled in.

use std::fs;

use crate::{Result, workspace};

/// Prints each embedded engine with its version.
pub(super) fn print() -> Result {
    println!("  memory   part of watermill-core");
    println!("  SQLite   {}, compiled from source into watermill-sql", sqlite_version()?);
    Ok(())
}

/// The version in the header of the bundled sources. Asking a `sqlite3` on the path would tell about
/// another one.
fn sqlite_version() -> Result<String> {
    const CRATE: &str = "libsqlite3-sys";
    let dir = workspace::package_dir(&workspace::metadata()?, CRATE)
        .ok_or_else(|| format!("{CRATE} is not among the dependencies"))?;
    let path = dir.join("sqlite3").join("sqlite3.h");
    let header =
        fs::read_to_string(&path).map_err(|error| format!("failed to read {}: {error}", path.display()))?;
    version_in(&header).ok_or_else(|| format!("{} names no version", path.display()))
}

fn version_in(header: &str) -> Option<String> {
    let line = header.lines().find(|line| line.starts_with("#define SQLITE_VERSION "))?;
    Some(line.split('"').nth(1)?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_bundled_header() {
        let header = "/* SQLITE_VERSION */\n#define SQLITE_VERSION        \"3.51.3\"\n#define SQLITE_VERSION_NUMBER 3051003\n";
        assert_eq!(version_in(header).as_deref(), Some("3.51.3"));
        assert_eq!(version_in("nothing"), None);
    }
}
