//! Jars that Maven fetches once for each content of a pom, and where they are kept.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use super::{daemon, packages};
use crate::{Result, workspace};

/// A folder of jars below cargo's target directory.
pub(crate) struct Jars {
    /// Names the folder.
    pub(crate) name: &'static str,
    /// What it is, for whoever waits.
    pub(crate) what: &'static str,
    pub(crate) pom: &'static str,
    /// Classes of ours that are compiled against them, by the names of their files, and lie beside them.
    pub(crate) classes: &'static [(&'static str, &'static str)],
}

impl Jars {
    /// The folder, which is filled once for each content of the pom and the classes.
    pub(crate) fn find_or_fetch(&self) -> Result<PathBuf> {
        let mut hasher = DefaultHasher::new();
        self.pom.hash(&mut hasher);
        // The folders of poms alone are those of earlier versions of this program.
        if !self.classes.is_empty() {
            self.classes.hash(&mut hasher);
        }
        let folder = workspace::target_dir()?.join(self.name).join(format!("{:016x}", hasher.finish()));
        if !folder.is_dir() {
            self.fetch(&folder)?;
        }
        Ok(folder)
    }

    fn fetch(&self, folder: &Path) -> Result {
        // Whole or not at all, and not in the way of another process that fetches them too.
        let draft = folder.with_extension(std::process::id().to_string());
        let fetched = self.fetch_into(&draft);
        let kept = fetched.and_then(|()| match fs::rename(&draft, folder) {
            Err(error) if !folder.is_dir() => Err(cannot_write(&draft, &error)),
            _ => Ok(()),
        });
        // Nothing is left of it when it has become the folder.
        let _ = fs::remove_dir_all(&draft);
        kept
    }

    fn fetch_into(&self, draft: &Path) -> Result {
        let maven = packages::find_or_install("mvn", Vec::new, "maven", || packages::install("maven"))?;
        fs::create_dir_all(draft).map_err(|error| cannot_write(draft, &error))?;
        write(&draft.join("pom.xml"), self.pom)?;
        eprintln!("fetching {} with Maven", self.what);
        let mut copy = Command::new(maven);
        copy.current_dir(draft).args(["--batch-mode", "--quiet", "dependency:copy-dependencies"]);
        daemon::quietly(copy.args(["-DincludeScope=runtime", "-DoutputDirectory=."]))?;
        if self.classes.is_empty() {
            return Ok(());
        }
        let package = "default-jdk-headless";
        let javac = packages::find_or_install("javac", Vec::new, package, || packages::install(package))?;
        let mut compile = Command::new(javac);
        compile.current_dir(draft).args(["-cp", "*"]);
        for (name, source) in self.classes {
            write(&draft.join(name), source)?;
            compile.arg(name);
        }
        daemon::quietly(&mut compile)
    }
}

fn write(path: &Path, text: &str) -> Result {
    fs::write(path, text).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &io::Error) -> String {
    format!("failed to write {}: {error}", path.display())
}
