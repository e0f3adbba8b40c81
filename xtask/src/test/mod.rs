//! `cargo xtask test`: every test and doctest, with the servers they need.

mod texts;

use crate::{
    Result, process,
    services::{self, StandIn, Started},
    stopwatch::Stopwatch,
    workspace,
};

pub(crate) const USAGE: &str = "\
Usage: cargo xtask test [arguments of cargo test]

Starts the servers that tests need, runs `cargo test --workspace --all-features`, and stops what it
started. An ignored test is a failure: what is not run is not green.

  cargo xtask test                          everything
  cargo xtask test -p watermill-sql         one crate
  cargo xtask test -- redelivery            the tests with `redelivery` in their names
";

pub(crate) fn run(args: &[String]) -> Result {
    let watch = Stopwatch::start();
    let started = services::up()?;
    let mut summary = Summary::default();
    let mut stand_ins = services::stand_ins()?;
    stand_ins.extend(texts::of_another_compiler()?);
    let outcome = process::read_lines(&mut command(args, &features(&stand_ins)?), |line| {
        println!("{line}");
        summary.read(line);
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
    if summary.ignored > 0 {
        return Err(format!("{} tests were ignored; mend them or remove them", summary.ignored));
    }
    if summary.passed == 0 {
        return Err("no test was run; check the arguments".to_owned());
    }
    Ok(())
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
    let own = args.split(|arg| arg == "--").next().unwrap_or_default();
    let chooses = |arg: &String| {
        (arg.starts_with("-p") && !arg.starts_with("--"))
            || arg.starts_with("--package")
            || arg == "--workspace"
    };
    let mut command = process::cargo(&["test"]);
    if !own.iter().any(chooses) {
        command.arg("--workspace");
    }
    // A backend behind a feature is tested like the others.
    if !own.iter().any(|arg| arg.contains("-features")) {
        if features.is_empty() {
            command.arg("--all-features");
        } else {
            // Those of packages that are not tested are refused.
            let tested =
                |package: &String| !own.iter().any(chooses) || own.iter().any(|arg| arg.contains(&**package));
            let tested = features.iter().filter(|(package, _)| tested(package));
            let names: Vec<_> = tested.map(|(package, feature)| format!("{package}/{feature}")).collect();
            command.args(["--features", &names.join(",")]);
        }
    }
    command.args(args);
    command
}

/// What the test binaries said, added up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    binaries: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Summary {
    /// Takes note of `test result: ok. 12 passed; 0 failed; 1 ignored; ..`.
    fn read(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        self.binaries += 1;
        for part in rest.split(['.', ';']) {
            let mut words = part.split_whitespace();
            if let (Some(Ok(count)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) {
                match what {
                    "passed" => self.passed += count,
                    "failed" => self.failed += count,
                    "ignored" => self.ignored += count,
                    _ => {}
                }
            }
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { binaries, passed, failed, ignored } = self;
        write!(f, "{passed} passed, {failed} failed, {ignored} ignored in {binaries} test binaries")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_binaries_are_added_up() {
        let mut summary = Summary::default();
        for line in [
            "running 3 tests",
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s",
            "test result: FAILED. 40 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 12.31s",
        ] {
            summary.read(line);
        }
        assert_eq!(summary, Summary { binaries: 2, passed: 42, failed: 3, ignored: 1 });
        assert_eq!(summary.to_string(), "42 passed, 3 failed, 1 ignored in 2 test binaries");
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
        assert_eq!(
            words(&["-p", "watermill-sql", "--", "redelivery"]),
            "test --all-features -p watermill-sql -- redelivery"
        );
        assert_eq!(words(&["--", "-p"]), "test --workspace --all-features -- -p");
        assert_eq!(words(&["--features", "x"]), "test --workspace --features x");
        assert_eq!(words(&["--package=xtask"]), "test --all-features --package=xtask");
        let features = [("a", "x"), ("a", "y"), ("b", "z")].map(|(p, f)| (p.to_owned(), f.to_owned()));
        assert_eq!(words_with(&[], &features), "test --workspace --features a/x,a/y,b/z");
        assert_eq!(words_with(&["-p", "b"], &features), "test --features b/z -p b");
    }
}
