//! Instructions per message, counted by callgrind.
//!
//! A workload runs twice, with n and with 2n messages; the difference over n is what one message
//! costs, without start-up and shutdown. Such a count hardly varies between runs, so it has limits.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::Figure;
use crate::{Result, process};

/// Something that a benchmark binary runs for `--count-workload <name> --messages <n>`.
pub(super) struct Workload {
    pub(super) name: &'static str,
    /// The workload it is compared with.
    pub(super) baseline: Option<&'static str>,
    /// The most instructions per message it may take, given its baseline's.
    pub(super) limit: Option<fn(f64) -> f64>,
}

/// Enough for the count to settle: what happens once in a while (a buffer that grows) weighs little.
const MESSAGES: u64 = 20_000;

/// Counts the workloads whose figures' names contain `filter`, and what they are compared with, with the benchmark that
/// `cargo_bench` compiles. Says so and returns nothing where valgrind is not installed.
pub(super) fn count(
    cargo_bench: Command,
    bench: &str,
    workloads: &[Workload],
    filter: Option<&str>,
) -> Result<Vec<Figure>> {
    let wanted = |workload: &Workload| filter.is_none_or(|filter| figure_name(workload).contains(filter));
    if !workloads.iter().any(wanted) {
        return Ok(Vec::new());
    }
    if !process::is_installed("valgrind", &["--version"]) {
        eprintln!(
            "instructions are not counted: valgrind is not installed (Debian: apt-get install valgrind)"
        );
        return Ok(Vec::new());
    }
    let binary = build(cargo_bench, bench)?;
    let needed = |workload: &Workload| {
        wanted(workload)
            || workloads.iter().any(|other| wanted(other) && other.baseline == Some(workload.name))
    };
    let mut counts = HashMap::new();
    let mut figures = Vec::new();
    for workload in workloads.iter().filter(|workload| needed(workload)) {
        let value = per_message(
            callgrind(&binary, workload.name, MESSAGES)?,
            callgrind(&binary, workload.name, 2 * MESSAGES)?,
        );
        counts.insert(workload.name, value);
        if wanted(workload) {
            let baseline = workload.baseline.and_then(|name| counts.get(name).copied());
            let limit = workload.limit.map(|limit| limit(baseline.unwrap_or(0.0)));
            let name = figure_name(workload);
            figures.push(Figure { name, value, unit: "instructions per message", baseline, limit });
        }
    }
    Ok(figures)
}

/// What the names of these figures begin with.
const PREFIX: &str = "instructions/";

/// Whether a filter leaves nothing but instruction counts.
pub(super) fn has_all(filter: &str) -> bool {
    filter.starts_with(PREFIX) || filter == PREFIX.trim_end_matches('/')
}

fn figure_name(workload: &Workload) -> String {
    format!("{PREFIX}{}", workload.name)
}

fn per_message(once: u64, twice: u64) -> f64 {
    // Rounded to what means something: a tenth of an instruction.
    let difference = twice.saturating_sub(once) as f64 / MESSAGES as f64;
    (difference * 10.0).round() / 10.0
}

/// Builds the benchmark and returns the path of its binary, as cargo tells it.
fn build(mut cargo_bench: Command, bench: &str) -> Result<PathBuf> {
    let messages = process::read(cargo_bench.args(["--no-run", "--message-format=json"]))?;
    executable(&messages, bench).ok_or_else(|| format!("cargo built no benchmark `{bench}`"))
}

fn executable(messages: &str, bench: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["name"] == bench)
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
}

/// Runs a workload under callgrind and returns how many instructions the process took.
fn callgrind(binary: &Path, workload: &str, messages: u64) -> Result<u64> {
    let out = std::env::temp_dir().join(format!("watermill-callgrind.{}", std::process::id()));
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(binary)
        .args(["--count-workload", workload, "--messages", &messages.to_string()]);
    let ran = process::read(&mut command);
    let profile = fs::read_to_string(&out);
    let _ = fs::remove_file(&out);
    ran?;
    let profile = profile.map_err(|error| format!("failed to read {}: {error}", out.display()))?;
    total(&profile).ok_or_else(|| format!("callgrind wrote no summary for `{workload}`"))
}

/// The instructions of a profile: the first number of its `summary:` line, which is the whole
/// process. A process with several threads may have several profiles and then a `totals:` line each.
fn total(profile: &str) -> Option<u64> {
    let numbers = |key: &str| {
        let counts: Vec<u64> = profile
            .lines()
            .filter_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
            .collect();
        (!counts.is_empty()).then(|| counts.iter().sum())
    };
    numbers("summary:").or_else(|| numbers("totals:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_the_summary_line() {
        let profile = "version: 1\nevents: Ir\nsummary: 123456\n\nfn=(1) main\n5 40\n\ntotals: 123456\n";
        assert_eq!(total(profile), Some(123_456));
        assert_eq!(total("part: 1\ntotals: 40\npart: 2\ntotals: 2\n"), Some(42));
        assert_eq!(total("version: 1\n"), None);
    }

    #[test]
    fn a_message_costs_what_twice_as_many_cost_more() {
        assert_eq!(per_message(5_000_000, 5_000_000 + MESSAGES * 1_430), 1_430.0);
    }

    #[test]
    fn the_binary_is_the_executable_of_the_benchmark() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"watermill_core"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"router"},"executable":"/t/router-1"}"#,
            "\nnot json\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable(messages, "router"), Some(PathBuf::from("/t/router-1")));
        assert_eq!(executable(messages, "sql"), None);
    }
}
