//! [`Summary`]: what the test binaries said, added up.

use std::fmt;

use crate::Result;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    binaries: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
    /// The tests that failed.
    pub(super) failures: Vec<Failure>,
    /// Those that failed among the others and passed alone.
    unsteady: Vec<Failure>,
    /// The binaries that ended with an error which none of their tests explains.
    failed_binaries: Vec<String>,
}

/// A test that failed, and the binary it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) test: String,
    pub(super) binary: String,
}

impl Summary {
    /// Takes note of what one binary has written: `test a::b ... FAILED`, and
    /// `test result: ok. 12 passed; 0 failed; 1 ignored; ..`.
    pub(super) fn read(&mut self, binary: &str, output: &str) {
        for line in output.lines() {
            if let Some(counts) = line.strip_prefix("test result: ") {
                self.count(counts);
            } else if let Some(test) =
                line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
            {
                // `a::b - should panic` is the test `a::b`.
                let test = test.split(" - ").next().unwrap_or(test);
                self.failures.push(Failure { test: test.to_owned(), binary: binary.to_owned() });
            }
        }
    }

    fn count(&mut self, counts: &str) {
        self.binaries += 1;
        for part in counts.split(['.', ';']) {
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

    /// Takes note of a binary that has ended with an error, and whose output was read. Where the tests that failed do not
    /// tell why, as when it died, it is the binary that has failed.
    pub(super) fn ended_with_an_error(&mut self, binary: &str, output: &str) {
        let named = self.failures.iter().filter(|failure| failure.binary == binary).count();
        let counted =
            output.lines().filter_map(|line| line.strip_prefix("test result: ")).find_map(|counts| {
                let (before, _) = counts.split_once(" failed")?;
                before.split_whitespace().last()?.parse::<usize>().ok()
            });
        if named == 0 || counted != Some(named) {
            self.failed_binaries.push(binary.to_owned());
        }
    }

    /// Whether anything has failed so far.
    pub(super) fn has_failed(&self) -> bool {
        !self.failures.is_empty() || !self.failed_binaries.is_empty()
    }

    /// Takes note of a test that failed and has passed, run again alone.
    pub(super) fn passed_alone(&mut self, failure: &Failure) {
        self.failures.retain(|other| other != failure);
        self.unsteady.push(failure.clone());
    }

    /// Whether every test ran and passed.
    pub(super) fn verdict(&self) -> Result {
        if !self.failures.is_empty() {
            return Err(format!("failed:{}", lines(&self.failures)));
        }
        if !self.failed_binaries.is_empty() {
            return Err(format!("ended with an error: {}", self.failed_binaries.join(", ")));
        }
        if self.ignored > 0 {
            return Err(format!("{} tests were ignored; mend them or remove them", self.ignored));
        }
        if self.passed == 0 {
            return Err("no test was run; check the arguments".to_owned());
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { binaries, passed, failed, ignored, unsteady, .. } = self;
        write!(f, "{passed} passed, {failed} failed, {ignored} ignored in {binaries} test binaries")?;
        if !unsteady.is_empty() {
            writeln!(f, "; unsteady, for they passed when run again alone:{}", lines(unsteady))?;
        }
        Ok(())
    }
}

fn lines(failures: &[Failure]) -> String {
    failures.iter().map(|Failure { test, binary }| format!("\n  {test}, in {binary}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_binaries_are_added_up() {
        let mut summary = Summary::default();
        let passed = "running 3 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; finished in 0.00s\n";
        summary.read("a", passed);
        assert_eq!(summary.verdict(), Err("1 tests were ignored; mend them or remove them".to_owned()));
        summary.read(
            "b",
            "test x::y ... FAILED\ntest result: FAILED. 40 passed; 1 failed; 0 ignored; finished in 12.31s\n",
        );
        assert_eq!(summary.to_string(), "42 passed, 1 failed, 1 ignored in 2 test binaries");
        assert_eq!(summary.verdict(), Err("failed:\n  x::y, in b".to_owned()));
    }

    #[test]
    fn a_test_that_passes_alone_is_named_and_no_failure() {
        let mut summary = Summary::default();
        let output =
            "test x - should panic ... FAILED\ntest y ... FAILED\ntest result: FAILED. 1 passed; 2 failed;\n";
        summary.read("a", output);
        summary.ended_with_an_error("a", output);
        let [x, y] = &summary.failures.clone()[..] else { panic!("two failed") };
        summary.passed_alone(x);
        assert_eq!(summary.verdict(), Err("failed:\n  y, in a".to_owned()));
        summary.passed_alone(y);
        assert_eq!(summary.verdict(), Ok(()));
        assert!(summary.to_string().ends_with("run again alone:\n  x, in a\n  y, in a\n"), "{summary}");
    }

    #[test]
    fn a_binary_that_dies_is_a_failure_and_so_is_a_run_without_tests() {
        let mut summary = Summary::default();
        assert!(summary.verdict().unwrap_err().starts_with("no test was run"));
        let output = "test x ... FAILED\n";
        summary.read("a", output);
        summary.ended_with_an_error("a", output);
        let x = summary.failures[0].clone();
        summary.passed_alone(&x);
        assert_eq!(summary.verdict(), Err("ended with an error: a".to_owned()));
    }
}
