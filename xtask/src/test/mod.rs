//! `cargo xtask test`: every test and doctest, with the servers they need.

mod binaries;
mod summary;
mod texts;

use self::{
    binaries::{Binary, Ended},
    summary::{Failure, Summary},
};
use crate::{
    Result, process,
    services::{self, StandIn, Started},
    stopwatch::Stopwatch,
    workspace,
};

pub(crate) const USAGE: &str = "\
Usage: cargo xtask test [arguments of cargo test]

Starts the servers that tests need, runs what `cargo test --workspace --all-features` runs, packages side by
side, and stops what it started. An ignored test is a failure: what is not run is not green.

  cargo xtask test                          everything
  cargo xtask test -p watermill-sql         one crate
  cargo xtask test -- redelivery            the tests with `redelivery` in their names
";

/// So many tests may fail among the others and pass alone, where that is forgiven.
const UNSTEADY_MAX: usize = 3;

pub(crate) fn run(args: &[String]) -> Result {
    run_with(args, 0)
}

/// Everything, as a build server does that others use too: a few tests that fail there, and pass when they are run again
/// alone, are named in the summary, for somebody to mend, and refuse nobody's change.
pub(crate) fn check() -> Result {
    run_with(&["--no-fail-fast".to_owned()], UNSTEADY_MAX)
}

fn run_with(args: &[String], unsteady_max: usize) -> Result {
    let watch = Stopwatch::start();
    // First, for what fails before anything is up leaves nothing up.
    let mut stand_ins = Vec::from_iter(texts::of_another_compiler()?);
    stand_ins.extend(services::prometheus::find_or_install()?);
    stand_ins.extend(services::browser::find_or_install()?);
    let started = services::up()?;
    let mut summary = Summary::default();
    let outcome = services::stand_ins().and_then(|of_services| {
        stand_ins.extend(of_services);
        test(args, &features(&stand_ins)?, unsteady_max, &mut summary)
    });
    let stopped = if started == Started::Some { services::down() } else { Ok(()) };

    println!("\n{summary}, in {}", watch.elapsed());
    for StandIn { what, lacks } in &stand_ins {
        println!("{what}");
        for (package, feature) in *lacks {
            println!(
                "not run: the tests of {package} behind its feature {feature}, which name it in Cargo.toml"
            );
        }
    }
    outcome?;
    stopped?;
    summary.verdict()
}

/// Runs the test binaries, and then the doctests, which cargo alone can run.
fn test(
    args: &[String],
    features: &[(String, String)],
    unsteady_max: usize,
    summary: &mut Summary,
) -> Result {
    let Arguments { of_cargo, of_tests, binaries, docs, all } = Arguments::parse(args);
    if binaries {
        let binaries = binaries::build(&mut command(of_cargo, features))?;
        binaries::run(binaries.clone(), of_tests, all, |Ended { binary, passed, output, took }| {
            println!("     Running {binary}\n{output}     {binary} took {took}\n");
            summary.read(&binary.to_string(), &output);
            if !passed {
                summary.ended_with_an_error(&binary.to_string(), &output);
            }
        })?;
        if summary.failures.len() <= unsteady_max {
            run_again(&binaries, summary)?;
        }
    }
    if !docs || (!all && summary.has_failed()) {
        return Ok(());
    }
    let mut command = command(of_cargo, features);
    if binaries {
        command.arg("--doc");
    }
    command.arg("--").args(of_tests);
    process::read_lines(&mut command, |line| {
        println!("{line}");
        summary.read("the doctests", line);
    })
}

/// Runs the tests that failed again, one after another.
fn run_again(binaries: &[Binary], summary: &mut Summary) -> Result {
    for failure in summary.failures.clone() {
        let Failure { test, binary } = &failure;
        let Some(Ended { passed, output, .. }) = binaries::run_alone(binaries, binary, test)? else {
            continue;
        };
        println!("     Running {test} of {binary} again, alone\n{output}");
        if passed && output.contains("test result: ok. 1 passed;") {
            summary.passed_alone(&failure);
        }
    }
    Ok(())
}

/// The arguments of one run, which are those of `cargo test`.
#[derive(Debug, PartialEq, Eq)]
struct Arguments<'a> {
    of_cargo: &'a [String],
    of_tests: &'a [String],
    /// Whether test binaries are wanted.
    binaries: bool,
    /// Whether doctests are wanted.
    docs: bool,
    /// Whether a failure keeps the others from running.
    all: bool,
}

impl<'a> Arguments<'a> {
    fn parse(args: &'a [String]) -> Self {
        let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
        let (of_cargo, rest) = args.split_at(end);
        let has = |names: &[&str]| {
            of_cargo.iter().any(|arg| names.contains(&arg.split('=').next().unwrap_or_default()))
        };
        let docs_alone = has(&["--doc"]);
        Self {
            of_cargo,
            of_tests: rest.get(1..).unwrap_or_default(),
            binaries: !docs_alone,
            docs: docs_alone
                || !has(&[
                    "--lib",
                    "--bin",
                    "--bins",
                    "--test",
                    "--tests",
                    "--example",
                    "--examples",
                    "--all-targets",
                ]),
            all: has(&["--no-fail-fast"]),
        }
    }
}

/// Every feature, as `package/feature`, but for those whose tests need a server that something else stands in
/// for; empty when that is all of them.
fn features(stand_ins: &[StandIn]) -> Result<Vec<(String, String)>> {
    if stand_ins.is_empty() {
        return Ok(Vec::new());
    }
    let all = workspace::features(&workspace::metadata()?).into_iter();
    let all = all
        .flat_map(|(package, features)| features.into_iter().map(move |feature| (package.clone(), feature)));
    let lacks = |package: &str, feature: &str| {
        stand_ins.iter().any(|stand_in| stand_in.lacks.contains(&(package, feature)))
    };
    Ok(all.filter(|(package, feature)| !lacks(package, feature)).collect())
}

fn command(args: &[String], features: &[(String, String)]) -> std::process::Command {
    let chooses = |arg: &String| {
        (arg.starts_with("-p") && !arg.starts_with("--"))
            || arg.starts_with("--package")
            || arg == "--workspace"
    };
    let mut command = process::cargo(&["test"]);
    if !args.iter().any(chooses) {
        command.arg("--workspace");
    }
    // A backend behind a feature is tested like the others.
    if !args.iter().any(|arg| arg.contains("-features")) {
        if features.is_empty() {
            command.arg("--all-features");
        } else {
            // Those of packages that are not tested are refused.
            let tested = |package: &String| {
                !args.iter().any(chooses) || args.iter().any(|arg| arg.contains(&**package))
            };
            let tested = features.iter().filter(|(package, _)| tested(package));
            let names: Vec<_> = tested.map(|(package, feature)| format!("{package}/{feature}")).collect();
            command.args(["--features", &names.join(",")]);
        }
    }
    command.args(args);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_behind_two_dashes_are_those_of_the_tests() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let all = words("-p watermill-sql --no-fail-fast -- redelivery");
        assert_eq!(
            Arguments::parse(&all),
            Arguments { of_cargo: &all[..3], of_tests: &all[4..], binaries: true, docs: true, all: true }
        );
        let wants = |line: &str| {
            let words = words(line);
            let Arguments { binaries, docs, .. } = Arguments::parse(&words);
            (binaries, docs)
        };
        assert_eq!(wants(""), (true, true));
        assert_eq!(wants("--doc"), (false, true));
        assert_eq!(wants("-p xtask --test=one"), (true, false));
        assert_eq!(wants("-p xtask -- --test"), (true, true));
    }

    #[test]
    fn the_whole_workspace_is_tested_unless_a_package_is_chosen() {
        let words_with = |args: &[&str], features: &[(String, String)]| {
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            command(&args, features)
                .get_args()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let words = |args: &[&str]| words_with(args, &[]);
        assert_eq!(words(&[]), "test --workspace --all-features");
        assert_eq!(words(&["-p", "watermill-sql"]), "test --all-features -p watermill-sql");
        assert_eq!(words(&["--features", "x"]), "test --workspace --features x");
        assert_eq!(words(&["--package=xtask"]), "test --all-features --package=xtask");
        let features = [("a", "x"), ("a", "y"), ("b", "z")].map(|(p, f)| (p.to_owned(), f.to_owned()));
        assert_eq!(words_with(&[], &features), "test --workspace --features a/x,a/y,b/z");
        assert_eq!(words_with(&["-p", "b"], &features), "test --features b/z -p b");
    }
}
