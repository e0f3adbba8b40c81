//! The test binaries: made by cargo, run here, because cargo runs one at a time whatever machine it has, and says
//! nothing of one that hangs.
//!
//! Packages run side by side where there are cores for them. The binaries of one package run one after another, for
//! they share servers.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    Result, process,
    stopwatch::{Elapsed, Stopwatch},
    workspace,
};

/// How often it is said what is still running.
const STILL_RUNNING: Duration = Duration::from_secs(60);
/// A test binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binary {
    package: String,
    /// Where its package lies, which is the folder that it runs in.
    folder: PathBuf,
    /// The test's name; `lib` or the program's name for unit tests.
    target: String,
    executable: PathBuf,
}

/// How a binary ended.
pub(super) struct Ended {
    pub(super) binary: Binary,
    pub(super) passed: bool,
    /// What it wrote to both of its outputs.
    pub(super) output: String,
    pub(super) took: Elapsed,
}

/// Builds with `cargo test --no-run` and its other arguments.
pub(super) fn build(cargo_test: &mut Command) -> Result<Vec<Binary>> {
    let mut binaries = Vec::new();
    process::read_lines(
        cargo_test.args(["--no-run", "--message-format", "json-render-diagnostics"]),
        |line| binaries.extend(serde_json::from_str(line).ok().and_then(|message| Binary::of(&message))),
    )?;
    Ok(binaries)
}

/// Runs binaries with arguments of theirs and hands over each that has ended. After one that failed no other
/// begins, unless `all`.
pub(super) fn run(binaries: Vec<Binary>, args: &[String], all: bool, ended: impl FnMut(Ended)) -> Result {
    run_packages(workers(), binaries, args, all, ended)
}

fn run_packages(
    workers: usize,
    binaries: Vec<Binary>,
    args: &[String],
    all: bool,
    mut ended: impl FnMut(Ended),
) -> Result {
    let outputs = outputs()?;
    let job = Job {
        waiting: Mutex::new(by_package(binaries)),
        running: Mutex::default(),
        stopped: AtomicBool::new(false),
        args,
        outputs: &outputs,
        all,
    };
    let (sender, receiver) = mpsc::sync_channel(workers);
    thread::scope(|scope| {
        for _ in 0..workers {
            let (job, sender) = (&job, sender.clone());
            scope.spawn(move || job.work(&sender));
        }
        drop(sender);
        loop {
            match receiver.recv_timeout(STILL_RUNNING) {
                Ok(outcome) => ended(outcome?),
                Err(mpsc::RecvTimeoutError::Timeout) => job.say_what_is_running(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    })
}

/// Runs one test again, alone; `None` where there is no such binary.
pub(super) fn run_alone(binaries: &[Binary], binary: &str, test: &str) -> Result<Option<Ended>> {
    let Some(binary) = binaries.iter().find(|one| one.to_string() == binary) else { return Ok(None) };
    let args = ["--exact", test].map(str::to_owned);
    run_one(binary.clone(), &args, &outputs()?).map(Some)
}

fn outputs() -> Result<PathBuf> {
    let outputs = workspace::target_dir()?.join("test-outputs");
    fs::create_dir_all(&outputs).map_err(|error| format!("failed to make {}: {error}", outputs.display()))?;
    Ok(outputs)
}

/// What the workers share.
struct Job<'a> {
    /// Packages, from the last one on.
    waiting: Mutex<Vec<Vec<Binary>>>,
    running: Mutex<BTreeMap<String, Stopwatch>>,
    /// A binary has failed, and no other is to begin.
    stopped: AtomicBool,
    args: &'a [String],
    outputs: &'a Path,
    all: bool,
}

impl Job<'_> {
    /// Runs one package after another.
    fn work(&self, ended: &mpsc::SyncSender<Result<Ended>>) {
        while let Some(package) = self.next() {
            for binary in package {
                if self.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let name = binary.to_string();
                lock(&self.running).insert(name.clone(), Stopwatch::start());
                let outcome = run_one(binary, self.args, self.outputs);
                lock(&self.running).remove(&name);
                if !self.all && !outcome.as_ref().is_ok_and(|ended| ended.passed) {
                    self.stopped.store(true, Ordering::Relaxed);
                }
                if ended.send(outcome).is_err() {
                    return;
                }
            }
        }
    }

    /// The next package. The lock is not held while it runs.
    fn next(&self) -> Option<Vec<Binary>> {
        lock(&self.waiting).pop()
    }

    fn say_what_is_running(&self) {
        for (binary, since) in &*lock(&self.running) {
            println!("     Running {binary}, for {}", since.elapsed());
        }
    }
}

fn run_one(binary: Binary, args: &[String], outputs: &Path) -> Result<Ended> {
    let watch = Stopwatch::start();
    let failed = |error: std::io::Error| format!("failed to run {binary}: {error}");
    // One file for both outputs keeps their lines in order.
    let path = outputs.join(format!("{}-{}.txt", binary.package, binary.target));
    let file = File::create(&path).map_err(failed)?;
    let mut command = Command::new(&binary.executable);
    command.args(args).current_dir(&binary.folder).stdin(Stdio::null());
    command.env("CARGO_MANIFEST_DIR", &binary.folder).env("CARGO_PKG_NAME", &binary.package);
    command.stdout(file.try_clone().map_err(failed)?).stderr(file);
    let status = command.status().map_err(failed)?;
    let output = fs::read(&path).map_err(failed)?;
    let output = String::from_utf8_lossy(&output).into_owned();
    Ok(Ended { binary, passed: status.success(), output, took: watch.elapsed() })
}

impl Binary {
    /// The binary that a message of cargo's tells of, if it does.
    fn of(message: &Value) -> Option<Self> {
        if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
            return None;
        }
        let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
        let kind = message["target"]["kind"][0].as_str()?;
        let name = message["target"]["name"].as_str()?;
        Some(Self {
            package: package_name(message["package_id"].as_str()?, folder)?,
            folder: folder.to_owned(),
            target: if matches!(kind, "lib" | "proc-macro") { "lib".to_owned() } else { name.to_owned() },
            executable: message["executable"].as_str()?.into(),
        })
    }
}

impl std::fmt::Display for Binary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.target, self.package)
    }
}

/// `path+file:///src/app#0.1.0` names the folder, `path+file:///src/app#tool@0.1.0` the package.
fn package_name(id: &str, folder: &Path) -> Option<String> {
    match id.rsplit_once('#')?.1.split_once('@') {
        Some((name, _)) => Some(name.to_owned()),
        None => Some(folder.file_name()?.to_str()?.to_owned()),
    }
}

/// The packages, the one with the most binaries last, from where they are taken.
fn by_package(binaries: Vec<Binary>) -> Vec<Vec<Binary>> {
    let mut packages: BTreeMap<String, Vec<Binary>> = BTreeMap::new();
    for binary in binaries {
        packages.entry(binary.package.clone()).or_default().push(binary);
    }
    let mut packages: Vec<Vec<Binary>> = packages.into_values().collect();
    packages.sort_by_key(Vec::len);
    packages
}

/// How many packages run at once: one for every two cores, for the tests of a binary run four at a time.
fn workers() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get()).div_ceil(2)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    fn binary(package: &str, target: &str) -> Binary {
        Binary {
            package: package.to_owned(),
            folder: "/".into(),
            target: target.to_owned(),
            executable: "/bin/sh".into(),
        }
    }

    fn run_script(binaries: Vec<Binary>, script: &str, all: bool) -> Vec<(String, bool, String)> {
        let mut outcomes = Vec::new();
        let args = ["-c".to_owned(), script.to_owned()];
        run_packages(2, binaries, &args, all, |ended| {
            outcomes.push((ended.binary.to_string(), ended.passed, ended.output));
        })
        .unwrap();
        outcomes
    }

    #[test]
    fn messages_of_cargo_name_the_binaries() {
        let message = |kind: &str, test: bool| {
            serde_json::json!({
                "reason": "compiler-artifact", "package_id": "path+file:///src/app#tool@0.1.0",
                "manifest_path": "/src/app/Cargo.toml", "executable": "/target/debug/deps/x-1",
                "target": { "kind": [kind], "name": "x" }, "profile": { "test": test },
            })
        };
        let test = Binary::of(&message("test", true)).unwrap();
        assert_eq!((&*test.package, &*test.target), ("tool", "x"));
        assert_eq!(test.folder, Path::new("/src/app"));
        assert_eq!(Binary::of(&message("lib", true)).unwrap().target, "lib");
        assert_eq!(Binary::of(&message("bin", false)), None);
        assert_eq!(package_name("path+file:///src/app#0.1.0", Path::new("/src/app")).unwrap(), "app");
    }

    #[test]
    fn both_outputs_of_a_binary_are_kept_in_order() {
        let script = "echo one; echo two >&2; echo three; exit 3";
        let outcomes = run_script(vec![binary("outputs", "x")], script, true);
        assert_eq!(outcomes, [("x of outputs".to_owned(), false, "one\ntwo\nthree\n".to_owned())]);
    }

    #[test]
    fn packages_run_side_by_side_and_the_binaries_of_one_after_another() {
        let folder = env::temp_dir().join(format!("watermill-side-by-side-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // Each waits for the other, and fails if one of its own package is at work.
        let script = format!(
            "cd {}; mkdir $CARGO_PKG_NAME || exit 1; touch $CARGO_PKG_NAME.here
             for _ in $(seq 200); do test -e a.here && test -e b.here && break; sleep 0.05; done
             test -e a.here && test -e b.here && rmdir $CARGO_PKG_NAME",
            folder.display()
        );
        let binaries = vec![binary("a", "x"), binary("a", "y"), binary("b", "x")];
        let outcomes = run_script(binaries, &script, true);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(outcomes.len(), 3);
        assert!(outcomes.iter().all(|(_, passed, _)| *passed), "{outcomes:?}");
    }

    #[test]
    fn after_a_failure_the_others_begin_only_when_all_are_wanted() {
        let both = || vec![binary("failing", "first"), binary("failing", "second")];
        assert_eq!(run_script(both(), "exit 1", false).len(), 1);
        assert_eq!(run_script(both(), "exit 1", true).len(), 2);
    }

    #[test]
    fn the_package_with_the_most_binaries_is_taken_first() {
        let mut packages =
            by_package(vec![binary("a", "x"), binary("b", "x"), binary("b", "y"), binary("c", "x")]);
        assert_eq!(packages.pop().unwrap().len(), 2);
    }
}
