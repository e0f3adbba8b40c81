//! A clock of a server's own, which can be turned while it runs: libfaketime, preloaded, reads what to add to the
//! time from a file beside the server's data.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::packages;
use crate::Result;

const LIBRARY: &str = "libfaketime.so.1";
const PACKAGE: &str = "faketime";

/// Adds seconds to the time of the server with these data, which has a clock of its own from its next start on.
pub(super) fn turn(data: &Path, seconds: &str) -> Result {
    let seconds: i64 =
        seconds.parse().map_err(|error| format!("`{seconds}` is no number of seconds: {error}"))?;
    library()?;
    let file = file(data);
    let parent = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(&file, format!("{seconds:+}s\n")))
        .map_err(|error| format!("failed to write {}: {error}", file.display()))
}

/// Has a server that is about to start go by its own clock, if it has one.
pub(super) fn apply(start: &mut Command, data: &Path) -> Result {
    if is_own(data) {
        start.env("LD_PRELOAD", library()?).env("FAKETIME_TIMESTAMP_FILE", file(data));
        // What it waits for, it waits for as long as before; and what the file says holds within a second.
        start.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("FAKETIME_CACHE_DURATION", "1");
    }
    Ok(())
}

/// Gives a standby the clock of the server that it follows, if that has one of its own.
pub(super) fn copy(from: &Path, to: &Path) -> Result {
    if !is_own(from) {
        return Ok(());
    }
    fs::copy(file(from), file(to)).map(drop).map_err(|error| format!("failed to copy a clock: {error}"))
}

/// Removes what the library has made for a process that has started; it is killed rather than stopped, and then it
/// would stay.
pub(super) fn tidy(pid: u32) {
    for name in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
        // There is none without a clock of its own.
        let _ = fs::remove_file(Path::new("/dev/shm").join(name));
    }
}

pub(super) fn forget(data: &Path) {
    let _ = fs::remove_file(file(data));
}

fn is_own(data: &Path) -> bool {
    file(data).is_file()
}

fn file(data: &Path) -> PathBuf {
    data.with_extension("clock")
}

fn library() -> Result<PathBuf> {
    let folders = || {
        let libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let mut folders: Vec<_> = libraries.map(|entry| entry.path().join("faketime")).collect();
        folders.push(PathBuf::from("/usr/lib/faketime"));
        folders
    };
    packages::find_or_install(LIBRARY, folders, PACKAGE, || packages::install(PACKAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_whose_clock_was_never_turned_starts_as_it_is() {
        let mut start = Command::new("server");
        apply(&mut start, Path::new("/nowhere/data")).unwrap();
        assert_eq!(start.get_envs().count(), 0);
    }

    #[test]
    fn a_clock_is_turned_by_seconds_and_by_nothing_else() {
        assert!(turn(Path::new("/nowhere/data"), "an hour").unwrap_err().contains("no number of seconds"));
    }
}
