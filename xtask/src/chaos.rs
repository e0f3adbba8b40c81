//! `cargo xtask chaos`: builds the program of `chaos/` and the daemon that it runs, and runs it.

use std::process::Command;

use crate::{Result, process, workspace};

pub(crate) const USAGE: &str = "\
Usage: cargo xtask chaos [--database postgres|mysql] [--delivery at-least-once|exactly-once]
                         [--design watermill|skip-locked|id-cursor] [--minutes N] [--seed N]
                         [--stall-max SECONDS] [--judge all|delivery]

Runs an application whose transactions commit late and roll back, relays (the daemon, two processes) and a
consumer, from a database of its own to a broker of its own, while it kills, pauses, cuts off and restarts them
and the servers. Then it compares what was committed with what arrived, from outside, and prints a table for each
run. It fails where anything was lost, invented, out of order, repeated or late beyond what is promised.

  --database  one of both
  --delivery  one of both
  --design    what relays: the daemon, or one of the two loops that are commonly written by hand
  --minutes   of breaking, for each run; without it a short form, of a few minutes in all
  --seed      what is broken when; printed by each run
  --stall-max how long a message may wait while nothing is broken, 20 by default
  --judge     what the verdict is about: all, or delivery, which leaves out what a busy machine alone can break (waits,
              and repeats where a message may come twice); those are printed

Servers are installed where they are missing, as by `cargo xtask services`; libfaketime, which turns clocks, too.
Data and logs are below target/.
";

/// The variables by which the program finds this one, and the daemon.
const XTASK: &str = "WATERMILL_CHAOS_XTASK";
const DAEMON: &str = "WATERMILL_CHAOS_DAEMON";

/// What is broken when, in the short form that every change has to pass.
const SEED: &str = "12";
/// How the lines begin that say what went wrong.
const BROKEN: &str = "BROKEN";
const ABANDONED: &str = "ABANDONED";

pub(crate) fn run(args: &[String]) -> Result {
    let packages = ["-p", "watermill-chaos", "-p", "watermill-forwarder"];
    build(
        &[
            &packages[..],
            &[
                "--features",
                "watermill-forwarder/postgres,watermill-forwarder/mysql,watermill-forwarder/kafka",
            ],
        ]
        .concat(),
    )?;
    process::run(program()?.args(args))
}

/// The short form, with what the tests have built: the same faults each time, and no judgement of the machine. What the
/// machine has kept from being tried is tried once more.
pub(crate) fn check() -> Result {
    build(&["--workspace", "--all-features", "--tests"])?;
    let done = judged();
    match &done {
        Err(why) if !why.contains(BROKEN) => {
            println!("{why}\nnothing was found to be broken, trying again");
            judged()
        }
        _ => done,
    }
}

fn judged() -> Result {
    let args = ["--judge", "delivery", "--seed", SEED].map(str::to_owned);
    let mut verdicts = Verdicts::default();
    let done = process::read_lines(program()?.args(args), |line| {
        println!("{line}");
        verdicts.read(line);
    });
    done.map_err(|error| [verdicts.lines, vec![error]].concat().join("\n"))
}

/// The lines that say what went wrong, with what is indented below them.
#[derive(Default)]
struct Verdicts {
    lines: Vec<String>,
    is_in_one: bool,
}

impl Verdicts {
    fn read(&mut self, line: &str) {
        let begins = [BROKEN, ABANDONED].iter().any(|verdict| line.starts_with(verdict));
        self.is_in_one = begins || (self.is_in_one && line.starts_with("  "));
        self.lines.extend(self.is_in_one.then(|| line.to_owned()));
    }
}

fn build(what: &[&str]) -> Result {
    process::run(
        process::cargo(&["build", "--bin", "watermill-chaos", "--bin", "watermill-forwarder"]).args(what),
    )
}

fn program() -> Result<Command> {
    let programs = workspace::target_dir()?.join("debug");
    // This program by its name: a build may have replaced the file that runs.
    let mut chaos = Command::new(programs.join("watermill-chaos"));
    chaos.env(XTASK, programs.join("xtask")).env(DAEMON, programs.join("watermill-forwarder"));
    Ok(chaos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_read_to_its_end() {
        let mut verdicts = Verdicts::default();
        let said = [
            "ABANDONED: it has ended; its log ends with",
            "  [ERROR] Aborting",
            "",
            "  a table",
            "BROKEN: 1 lost",
        ];
        for line in said {
            verdicts.read(line);
        }
        assert_eq!(verdicts.lines, [said[0], said[1], said[4]]);
    }
}
