//! Programs of servers: where they are, and the system's packages that bring them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Result, process};

/// Finds a program on the path or in one of the folders, and installs a package when it is nowhere.
pub(super) fn find_or_install(
    program: &str,
    folders: impl Fn() -> Vec<PathBuf>,
    package: &str,
    install: impl FnOnce() -> Result,
) -> Result<PathBuf> {
    if let Some(found) = find(program, &folders()) {
        return Ok(found);
    }
    if !process::is_installed("apt-get", &["--version"]) {
        return Err(format!("{program} is not installed, and there is no apt-get to install it with"));
    }
    println!("{program} is missing: installing {package} from the system's packages");
    install()?;
    find(program, &folders()).ok_or_else(|| format!("{package} was installed and has brought no {program}"))
}

/// Installs a package, as root or with sudo.
pub(super) fn install(package: &str) -> Result {
    as_root(&["apt-get", "update", "-qq"])?;
    as_root(&[
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "install",
        "-y",
        "-qq",
        "--no-install-recommends",
        package,
    ])
    .map_err(|error| format!("{error}; install {package} by hand, or name a server in the environment"))
}

/// Runs a command as root.
pub(super) fn as_root(words: &[&str]) -> Result {
    let is_root = process::output(Command::new("id").arg("-u"))?.trim() == "0";
    let mut command = if is_root {
        Command::new(words[0])
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", words[0]]);
        sudo
    };
    process::run(command.args(&words[1..]))
}

/// Finds a program on the path or in one of the folders.
pub(super) fn find(program: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let candidates = env::split_paths(&path).chain(folders.iter().cloned()).map(|dir| dir.join(program));
    candidates.into_iter().find(|path| path.is_file())
}

/// The folders `base/<version>/bin`, the newest version first.
pub(super) fn versions(base: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(base)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_installed() {
        let found = find_or_install("sh", Vec::new, "dash", || panic!("it is there")).unwrap();
        assert!(found.ends_with("sh"));
    }

    #[test]
    fn the_newest_version_comes_first() {
        let base = env::temp_dir().join(format!("watermill-xtask-{}-versions", std::process::id()));
        for version in ["9", "15", "common"] {
            fs::create_dir_all(base.join(version)).unwrap();
        }
        assert_eq!(versions(&base), [base.join("15/bin"), base.join("9/bin")]);
        assert!(versions(Path::new("/nowhere")).is_empty());
        fs::remove_dir_all(base).unwrap();
    }
}
