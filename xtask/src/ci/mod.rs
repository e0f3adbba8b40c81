//! `cargo xtask ci`: everything a change must pass, with a table of what took how long.

mod crates;
mod examples;
mod features;
mod links;
mod msrv;
mod package;

use crate::{
    Result, chaos, process,
    stopwatch::{Elapsed, Stopwatch},
    test,
};

pub(crate) const USAGE: &str = "\
Usage: cargo xtask ci [step...] [--bless]

Runs every step, or those that are named, and ends with a table. A failed step does not keep the others
from running; the exit status tells whether all of them passed.

  fmt        formatting
  clippy     lints, with all features
  doc        rustdoc without warnings, and every link in a Markdown file leads somewhere
  test       cargo xtask test
  chaos      the short form of cargo xtask chaos: both databases, both deliveries
  examples   the examples print what examples/expected says
  deps       what `cargo run --bin lottery` must not compile; how many crates it does
  features   lints, with default features, and with every feature of every crate alone
  msrv       no dependency wants a newer Rust than a crate's rust-version, and each crate builds with that
  package    each crate packs, with its licences, and the packages compile
  deny       licences and advisories, where cargo-deny is installed

  --bless    write what the examples print to examples/expected instead of comparing
";

/// One check.
struct Step {
    name: &'static str,
    run: fn(&Options) -> Result<Outcome>,
}

/// How a step that did not fail ended.
enum Outcome {
    Passed,
    /// It was not run, because of something this machine lacks.
    Skipped(&'static str),
}

const STEPS: &[Step] = &[
    Step { name: "fmt", run: |_| fmt() },
    Step { name: "clippy", run: |_| clippy() },
    Step { name: "doc", run: |_| doc() },
    Step { name: "test", run: |_| test::check().map(passed) },
    Step { name: "chaos", run: |_| chaos::check().map(passed) },
    Step { name: "examples", run: |options| examples::check(options.bless).map(passed) },
    Step { name: "deps", run: |_| crates::check().map(passed) },
    // From here on nothing is linked, and librdkafka is left out: another order would compile it twice.
    Step { name: "features", run: |_| features::check().map(passed) },
    Step { name: "msrv", run: |_| msrv::check() },
    Step { name: "package", run: |_| package::check().map(passed) },
    Step { name: "deny", run: |_| deny() },
];

pub(crate) fn run(args: &[String]) -> Result {
    let options = Options::parse(args)?;
    let watch = Stopwatch::start();
    let mut report = Vec::new();
    for step in STEPS.iter().filter(|step| options.wants(step.name)) {
        println!("\n== {}", step.name);
        let watch = Stopwatch::start();
        let outcome = (step.run)(&options);
        if let Err(message) = &outcome {
            eprintln!("{}: {message}", step.name);
        }
        report.push((step.name, outcome, watch.elapsed()));
    }
    print!("\n{}", table(&report, watch.elapsed()));
    // Again, where one looks first.
    let failed: Vec<String> = report
        .iter()
        .filter_map(|(name, outcome, _)| outcome.as_ref().err().map(|message| format!("{name}: {message}")))
        .collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("failed:\n{}", failed.join("\n"))) }
}

fn passed((): ()) -> Outcome {
    Outcome::Passed
}

fn fmt() -> Result<Outcome> {
    process::run(&mut process::cargo(&["fmt", "--all", "--check"])).map(passed)
}

fn clippy() -> Result<Outcome> {
    let args = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    process::run(&mut process::cargo(&args)).map(passed)
}

fn doc() -> Result<Outcome> {
    links::check()?;
    let mut command = process::cargo(&["doc", "--workspace", "--no-deps", "--all-features"]);
    process::run(command.env("RUSTDOCFLAGS", "-D warnings")).map(passed)
}

fn deny() -> Result<Outcome> {
    if !process::is_installed("cargo-deny", &["--version"]) {
        return Ok(Outcome::Skipped("cargo-deny is not installed: cargo install --locked cargo-deny"));
    }
    process::run(&mut process::cargo(&["deny", "check"])).map(passed)
}

fn table(report: &[(&str, Result<Outcome>, Elapsed)], total: Elapsed) -> String {
    let mut text = String::new();
    for (name, outcome, elapsed) in report {
        let outcome = match outcome {
            Ok(Outcome::Passed) => "passed".to_owned(),
            Ok(Outcome::Skipped(reason)) => format!("skipped ({reason})"),
            Err(_) => "FAILED".to_owned(),
        };
        text.push_str(&format!("{name:<10}{elapsed:>14}  {outcome}\n"));
    }
    text.push_str(&format!("{:<10}{total:>14}\n", "all"));
    text
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    /// The steps to run; all when empty.
    steps: Vec<String>,
    bless: bool,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self::default();
        for arg in args {
            match arg.as_str() {
                "--bless" => options.bless = true,
                name if STEPS.iter().any(|step| step.name == name) => options.steps.push(name.to_owned()),
                other => return Err(format!("there is no step or option `{other}`\n\n{USAGE}")),
            }
        }
        Ok(options)
    }

    fn wants(&self, step: &str) -> bool {
        self.steps.is_empty() || self.steps.iter().any(|name| name == step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_steps_are_run_and_no_others() {
        let options = Options::parse(&["fmt".to_owned(), "doc".to_owned()]).unwrap();
        assert!(options.wants("fmt") && options.wants("doc") && !options.wants("test"));
        assert!(STEPS.iter().all(|step| Options::default().wants(step.name)));
    }

    #[test]
    fn an_unknown_step_is_refused() {
        assert!(Options::parse(&["tset".to_owned()]).unwrap_err().contains("no step or option `tset`"));
    }

    #[test]
    fn the_usage_lists_every_step() {
        for step in STEPS {
            assert!(USAGE.contains(&format!("\n  {:<10} ", step.name)), "{} is missing", step.name);
        }
    }

    #[test]
    fn the_table_tells_failed_from_skipped() {
        let took = Stopwatch::start().elapsed();
        let report = [
            ("fmt", Ok(Outcome::Passed), took),
            ("test", Err("it broke".to_owned()), took),
            ("deny", Ok(Outcome::Skipped("not installed")), took),
        ];
        let table = table(&report, took);
        let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["fmt", "0.0", "s", "passed"]);
        assert_eq!(words[1], ["test", "0.0", "s", "FAILED"]);
        assert_eq!(words[2][3..], ["skipped", "(not", "installed)"]);
    }
}
