//! The examples are run and what they print is compared with a file.

use std::{fs, path::PathBuf};

use crate::{Result, process, workspace};

/// One run of an example.
struct Case {
    /// Its name: that of a binary, or of a test.
    example: &'static str,
    /// The arguments of cargo that run it.
    cargo: &'static [&'static str],
    args: &'static [&'static str],
    /// The file under `examples/expected`.
    expected: &'static str,
}

const BINARY: &[&str] = &["run", "--quiet", "--bin"];
const WITH_HTTP: &[&str] = &["run", "--quiet", "--features", "http", "--bin"];
const TEST_OF_THE_KIT: &[&str] = &["test", "-p", "watermill-testkit", "--test"];

/// Every run. The arguments must make the output repeatable: a seed, no pauses.
const CASES: &[Case] = &[
    Case {
        example: "lottery",
        cargo: BINARY,
        args: &["--seed", "7", "--draws", "120", "--pace", "0ms"],
        expected: "lottery.txt",
    },
    Case {
        example: "lottery",
        cargo: BINARY,
        args: &["--seed", "7", "--draws", "60", "--pace", "0ms", "--failure-rate", "0"],
        expected: "lottery-without-failures.txt",
    },
    Case { example: "first_app", cargo: BINARY, args: &[], expected: "first_app.txt" },
    Case { example: "own_layer", cargo: BINARY, args: &[], expected: "own_layer.txt" },
    Case { example: "queue_worker", cargo: BINARY, args: &[], expected: "queue_worker.txt" },
    Case { example: "delayed_requeue", cargo: BINARY, args: &[], expected: "delayed_requeue.txt" },
    Case { example: "graceful_shutdown", cargo: BINARY, args: &[], expected: "graceful_shutdown.txt" },
    Case { example: "atomic_step", cargo: BINARY, args: &[], expected: "atomic_step.txt" },
    Case { example: "cqrs_events", cargo: BINARY, args: &[], expected: "cqrs_events.txt" },
    Case { example: "request_reply", cargo: BINARY, args: &[], expected: "request_reply.txt" },
    Case { example: "saga", cargo: BINARY, args: &[], expected: "saga.txt" },
    Case { example: "schedules", cargo: BINARY, args: &[], expected: "schedules.txt" },
    Case { example: "webhook_in", cargo: WITH_HTTP, args: &[], expected: "webhook_in.txt" },
    Case {
        example: "testing_handlers",
        cargo: TEST_OF_THE_KIT,
        args: &["--test-threads=1"], // one after another, in the order of their names
        expected: "testing_handlers.txt",
    },
];

/// Runs every case and compares; with `bless`, writes the files instead.
pub(super) fn check(bless: bool) -> Result {
    let mut failures = Vec::new();
    for case in CASES {
        let mut command = process::cargo(case.cargo);
        command.args([case.example, "--"]).args(case.args);
        let actual = normalise(&process::read(&mut command)?);
        let path = expected(case);
        if bless {
            fs::create_dir_all(path.parent().expect("the file lies in a folder"))
                .and_then(|()| fs::write(&path, &actual))
                .map_err(|error| format!("failed to write {}: {error}", path.display()))?;
            println!("wrote {}", path.display());
            continue;
        }
        let wanted = fs::read_to_string(&path)
            .map_err(|error| format!("failed to read {}: {error}", path.display()))?;
        if let Some(difference) = difference(&normalise(&wanted), &actual) {
            failures.push(format!("{} does not print {}:\n{difference}", case.example, path.display()));
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    failures.push("if the new output is right: cargo xtask ci examples --bless".to_owned());
    Err(failures.join("\n"))
}

fn expected(case: &Case) -> PathBuf {
    workspace::root().join("examples").join("expected").join(case.expected)
}

/// Without what differs between two right runs: colours, trailing blanks, durations, and the names
/// of temporary folders.
fn normalise(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(|line| normalise_line(&without_colours(line))).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.join("\n") + "\n"
}

fn normalise_line(line: &str) -> String {
    let temporary = std::env::temp_dir();
    let words: Vec<String> = line
        .trim_end()
        .split(' ')
        .map(|word| {
            if word.contains(&*temporary.to_string_lossy()) {
                "<temporary>".to_owned()
            } else if is_duration(word) {
                "<duration>".to_owned()
            } else {
                word.to_owned()
            }
        })
        .collect();
    words.join(" ")
}

/// `12ms`, `1.5s`, `3.2µs`.
fn is_duration(word: &str) -> bool {
    let word = word.trim_end_matches([',', '.', ';', ')']).trim_start_matches('(');
    ["ms", "µs", "ns", "s"].iter().any(|unit| {
        word.strip_suffix(unit).is_some_and(|number| !number.is_empty() && number.parse::<f64>().is_ok())
    })
}

/// Drops the escape sequences of a terminal's colours.
fn without_colours(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, escape)) = rest.split_once("\u{1b}[") {
        text.push_str(before);
        rest = escape.find(|c: char| c.is_ascii_alphabetic()).map_or("", |end| &escape[end + 1..]);
    }
    text + rest
}

/// The first line that differs, from both sides.
fn difference(expected: &str, actual: &str) -> Option<String> {
    let (mut expected, mut actual) = (expected.lines(), actual.lines());
    for number in 1.. {
        match (expected.next(), actual.next()) {
            (None, None) => return None,
            (left, right) if left == right => {}
            (left, right) => {
                let show = |line: Option<&str>| line.unwrap_or("(end)").to_owned();
                return Some(format!(
                    "  line {number}\n  expected: {}\n  printed:  {}",
                    show(left),
                    show(right)
                ));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_durations_and_temporary_folders_do_not_count() {
        let temporary = std::env::temp_dir().join("x1").display().to_string();
        let text = format!("\u{1b}[1;32mdraws\u{1b}[0m 100 in 1.5s  \ndatabase {temporary}/a.db\n\n\n");
        assert_eq!(normalise(&text), "draws 100 in <duration>\ndatabase <temporary>\n");
        assert!(is_duration("(12ms),") && !is_duration("s") && !is_duration("100") && !is_duration("draws"));
    }

    #[test]
    fn the_first_line_that_differs_is_shown() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        let shown = difference("a\nb\n", "a\nc\n").unwrap();
        assert_eq!(shown, "  line 2\n  expected: b\n  printed:  c");
        assert!(difference("a\nb\n", "a\n").unwrap().ends_with("printed:  (end)"));
    }
}
