//! Servers that outlive the command that started them: accounts, folders, ports, processes.

use std::{
    collections::hash_map::DefaultHasher,
    fs::{self, File},
    hash::{Hash, Hasher},
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::{Result, process};

/// Looks at a starting server, 50 ms apart: a minute in all.
const LOOKS_MAX: u32 = 1_200;
/// The end of a log that an error shows, in lines.
const LOG_LINES: usize = 20;
/// The file in a server's folder that has its port.
const PORT: &str = "port";

/// The account that a server runs under.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account `name` when this process is root, because servers refuse to run as root; otherwise
    /// `None`, for one's own.
    pub(super) fn for_server(name: &str) -> Result<Option<Self>> {
        if own_uid()? != 0 {
            return Ok(None);
        }
        Ok(Some(Self { uid: id(&["-u", name])?, gid: id(&["-g", name])? }))
    }
}

/// A command that runs under an account, in a folder that every account can be in.
pub(super) fn command(program: &Path, account: Option<Account>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
    command
}

/// The folder for a server's data: `dir`, or where another account could not get there (a clone in
/// root's home, for one) or a server's own scripts would not (they split at a blank), a folder for temporary files
/// that is always the same for `dir`.
pub(super) fn data_dir(dir: &Path, account: Option<Account>) -> PathBuf {
    let reachable = |folder: &Path| {
        // What does not exist yet will be made by us.
        folder.metadata().map_or(true, |metadata| metadata.mode() & 0o001 != 0)
    };
    let is_split = dir.to_string_lossy().contains(char::is_whitespace);
    if !is_split && (account.is_none() || dir.ancestors().all(reachable)) {
        return dir.join("data");
    }
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    std::env::temp_dir().join(format!("watermill-services-{:016x}", hasher.finish()))
}

/// Makes a folder that belongs to the account.
pub(super) fn create_dir(dir: &Path, account: Option<Account>) -> Result {
    let failed = |error| format!("failed to create {}: {error}", dir.display());
    fs::create_dir_all(dir).map_err(failed)?;
    match account {
        Some(Account { uid, gid }) => chown(dir, Some(uid), Some(gid)).map_err(failed),
        None => Ok(()),
    }
}

/// The port that this folder's server had before, if it is free, so that clients find it again after a
/// restart; otherwise a free one.
pub(super) fn port(dir: &Path) -> Result<u16> {
    let file = dir.join(PORT);
    let listener = known_port(dir)
        .ok()
        .and_then(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .map_or_else(|| TcpListener::bind(("127.0.0.1", 0)), Ok)
        .map_err(|error| format!("failed to find a free port: {error}"))?;
    let port = listener.local_addr().map_err(|error| format!("failed to find a free port: {error}"))?.port();
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(&file, port.to_string()))
        .map_err(|error| format!("failed to write {}: {error}", file.display()))?;
    Ok(port)
}

/// The port of this folder's server.
pub(super) fn known_port(dir: &Path) -> Result<u16> {
    let file = dir.join(PORT);
    let failed = |error: &dyn std::fmt::Display| format!("failed to read {}: {error}", file.display());
    let text = fs::read_to_string(&file).map_err(|error| failed(&error))?;
    text.trim().parse().map_err(|error| failed(&error))
}

/// Starts a server that is not in our process group, so that a Ctrl-C meant for us does not end it, and
/// returns its process id.
pub(super) fn spawn(command: &mut Command, log: &Path) -> Result<u32> {
    let file = File::create(log).map_err(|error| format!("failed to create {}: {error}", log.display()))?;
    let also = file.try_clone().map_err(|error| format!("failed to open {}: {error}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file).stderr(also).process_group(0);
    let child = command.spawn();
    child
        .map(|child| child.id())
        .map_err(|error| format!("failed to start {:?}: {error}", command.get_program()))
}

/// Waits until a server answers, or has ended without having answered.
pub(super) fn wait(pid: u32, log: &Path, mut answers: impl FnMut() -> bool) -> Result {
    for _ in 0..LOOKS_MAX {
        if answers() {
            return Ok(());
        }
        if !lives(pid) {
            return Err(format!("it has ended; its log ends with\n{}", end_of(log)));
        }
        pause();
    }
    Err(format!("it does not answer; its log ends with\n{}", end_of(log)))
}

/// Looks until it is so, for a minute at most.
pub(super) fn within_a_minute(mut is_so: impl FnMut() -> bool) -> bool {
    (0..LOOKS_MAX).any(|_| {
        let so = is_so();
        if !so {
            pause();
        }
        so
    })
}

/// The process of a pid file, if it lives.
pub(super) fn living(pid_file: &Path) -> Option<u32> {
    let pid = fs::read_to_string(pid_file).ok()?.lines().next()?.trim().parse().ok()?;
    lives(pid).then_some(pid)
}

/// Sends a signal to the process of a pid file, which must live.
pub(super) fn signal(pid_file: &Path, signal: &str) -> Result {
    let pid =
        living(pid_file).ok_or_else(|| format!("{} names no process that lives", pid_file.display()))?;
    process::run(Command::new("kill").args([signal, &pid.to_string()]))
}

/// Sends a signal to the process of a pid file and waits for its end. One that has ended is not an error.
pub(super) fn end(pid_file: &Path, signal: &str) -> Result {
    let Some(pid) = living(pid_file) else { return Ok(()) };
    process::run(Command::new("kill").args([signal, &pid.to_string()]))?;
    if within_a_minute(|| living(pid_file).is_none()) {
        Ok(())
    } else {
        Err(format!("process {pid} does not end"))
    }
}

/// A child of ours that has ended stays in the table of processes until we do.
fn lives(pid: u32) -> bool {
    let state = process::output(Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]));
    state.is_ok_and(|state| !state.trim().is_empty() && !state.trim_start().starts_with('Z'))
}

#[expect(clippy::disallowed_methods, reason = "no runtime runs here")]
fn pause() {
    thread::sleep(Duration::from_millis(50));
}

pub(super) fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_else(|error| format!("(no log: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// Runs a command for its exit status, and shows what it wrote only when it fails.
pub(super) fn quietly(command: &mut Command) -> Result {
    let program = command.get_program().to_owned();
    let output =
        command.output().map_err(|error| format!("failed to start {}: {error}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{} ended with {}: {}", program.display(), output.status, String::from_utf8_lossy(&said)))
}

fn own_uid() -> Result<u32> {
    id(&["-u"])
}

fn id(args: &[&str]) -> Result<u32> {
    let text = process::output(Command::new("id").args(args))?;
    text.trim().parse().map_err(|error| format!("failed to read what id says: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_port_while_it_is_free() {
        let dir = std::env::temp_dir().join(format!("watermill-xtask-{}-port", std::process::id()));
        // Somebody else may take it in between.
        let kept = (0..10).find_map(|_| {
            let first = port(&dir).unwrap();
            let listener = (port(&dir).unwrap() == first).then(|| TcpListener::bind(("127.0.0.1", first)));
            Some((first, listener?.ok()?))
        });
        let (first, taken) = kept.expect("it is kept");
        assert_ne!(port(&dir).unwrap(), first);
        drop(taken);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_pid_file_of_a_process_that_has_ended_names_none() {
        let file = std::env::temp_dir().join(format!("watermill-xtask-{}-pid", std::process::id()));
        assert_eq!(living(&file), None);
        fs::write(&file, "4294967295\n").unwrap();
        assert_eq!(living(&file), None);
        fs::write(&file, format!("{}\nmore\n", std::process::id())).unwrap();
        assert_eq!(living(&file), Some(std::process::id()));
        fs::remove_file(file).unwrap();
    }

    #[test]
    fn a_folder_that_others_cannot_enter_is_replaced_by_a_temporary_one() {
        let account = Some(Account { uid: 1, gid: 1 });
        assert_eq!(data_dir(Path::new("/usr/x"), account), Path::new("/usr/x/data"));
        assert_eq!(data_dir(Path::new("/anything"), None), Path::new("/anything/data"));
    }

    #[test]
    fn a_server_that_ends_is_waited_for_no_longer_and_its_log_is_shown() {
        let log = std::env::temp_dir().join(format!("watermill-xtask-{}-ends.log", std::process::id()));
        let pid = spawn(Command::new("sh").args(["-c", "echo the port is taken; exit 1"]), &log).unwrap();

        let error = wait(pid, &log, || false).unwrap_err();
        let _ = fs::remove_file(&log);

        assert_eq!(error, "it has ended; its log ends with\nthe port is taken");
    }
}
