//! The emulator's jar, a class that it lacks, and the Java that runs both.

use std::{
    collections::hash_map::DefaultHasher,
    env,
    ffi::OsString,
    fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use super::super::{daemon, packages};
use crate::{Result, workspace};

pub(super) const MAIN: &str = "com.google.cloud.pubsub.testing.v1.Main";

/// See the comment in it.
const SOURCE: &str = include_str!("InternalStatus.java");
const SOURCE_FILE: &str = "InternalStatus.java";

/// Where gcloud keeps the jar, below its root.
const JARS: &str = "platform/pubsub-emulator/lib";

/// Where Debian's package puts gcloud's root.
const ROOT: &str = "/usr/lib/google-cloud-sdk";

/// The package that has `java` and `javac`.
const JDK: &str = "default-jdk-headless";

/// What is needed to start it.
pub(super) struct Emulator {
    pub(super) java: PathBuf,
    pub(super) class_path: OsString,
}

impl Emulator {
    pub(super) fn prepare() -> Result<Self> {
        let jar = find_jar()?;
        let program = |name| packages::find_or_install(name, Vec::new, JDK, || packages::install(JDK));
        let (java, javac) = (program("java")?, program("javac")?);
        let classes = compile(&javac, &jar)?;
        let class_path = env::join_paths([classes, jar])
            .map_err(|error| format!("failed to name the emulator's class path: {error}"))?;
        Ok(Self { java, class_path })
    }
}

/// The newest jar of the emulator in this machine's gcloud.
pub(super) fn find_jar() -> Result<PathBuf> {
    let folders = [Some(PathBuf::from(ROOT)), gcloud_root()];
    let jars = folders.into_iter().flatten().flat_map(|root| jars_in(&root.join(JARS)));
    jars.max().ok_or_else(|| {
        "gcloud has no Pub/Sub emulator here; `gcloud components install pubsub-emulator` or Google's package \
         google-cloud-cli-pubsub-emulator brings it"
            .to_owned()
    })
}

/// Two levels above the program that the path finds, through links.
fn gcloud_root() -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    let program =
        env::split_paths(&folders).map(|folder| folder.join("gcloud")).find(|path| path.is_file())?;
    Some(program.canonicalize().ok()?.parent()?.parent()?.to_owned())
}

fn jars_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_emulator = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("cloud-pubsub-emulator-") && name.ends_with(".jar")
    };
    entries.map(|entry| entry.path()).filter(is_emulator).collect()
}

/// Compiles the missing class, once for each content of its source and each jar, and returns its folder.
fn compile(javac: &Path, jar: &Path) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    (SOURCE, jar).hash(&mut hasher);
    let folder = workspace::target_dir()?.join("pubsub").join(format!("{:016x}", hasher.finish()));
    if folder.is_dir() {
        return Ok(folder);
    }
    // Whole or not at all, and not in the way of another process that compiles it too.
    let draft = folder.with_extension(std::process::id().to_string());
    let failed = |error| format!("failed to write {}: {error}", draft.display());
    fs::create_dir_all(&draft).and_then(|()| fs::write(draft.join(SOURCE_FILE), SOURCE)).map_err(failed)?;
    let mut command = Command::new(javac);
    command.current_dir(&draft).arg("-cp").arg(jar).args(["-d", ".", SOURCE_FILE]);
    let compiled = daemon::quietly(&mut command);
    let kept = compiled.and_then(|()| match fs::rename(&draft, &folder) {
        Err(error) if !folder.is_dir() => Err(failed(error)),
        _ => Ok(()),
    });
    // Nothing is left of it when it has become the folder.
    let _ = fs::remove_dir_all(&draft);
    kept.map(|()| folder)
}
