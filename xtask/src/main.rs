//! The developer verbs of this workspace: `cargo xtask <verb>`.
//!
//! Each verb is one module. Everything a verb runs is printed first, so that it can be repeated by
//! hand, and whatever fails makes the process end with a non-zero status.

mod bench;
mod chaos;
mod ci;
mod process;
mod services;
mod stopwatch;
mod test;
mod workspace;

use std::process::ExitCode;

/// What a verb returns: nothing, or a sentence for whoever typed it.
type Result<T = ()> = std::result::Result<T, String>;

/// A verb of the command line.
struct Verb {
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result,
}

const VERBS: &[Verb] = &[
    Verb {
        name: "services",
        usage: services::USAGE,
        about: "start, stop or list the private servers that tests use",
        run: services::run,
    },
    Verb { name: "test", usage: test::USAGE, about: "run every test and doctest", run: test::run },
    Verb { name: "bench", usage: bench::USAGE, about: "run the benchmarks, with ratios", run: bench::run },
    Verb {
        name: "chaos",
        usage: chaos::USAGE,
        about: "break everything around the relay, and look whether its promise holds",
        run: chaos::run,
    },
    Verb { name: "ci", usage: ci::USAGE, about: "run every check that a change must pass", run: ci::run },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result {
    let Some((name, rest)) = args.split_first() else {
        return Err(format!("name a verb\n\n{}", overview()));
    };
    if matches!(name.as_str(), "help" | "-h" | "--help") {
        print!("{}", overview());
        return Ok(());
    }
    let verb = VERBS
        .iter()
        .find(|verb| verb.name == name)
        .ok_or_else(|| format!("there is no verb `{name}`\n\n{}", overview()))?;
    // What follows `--` belongs to the program that the verb runs.
    let own = rest.split(|arg| arg == "--").next().unwrap_or_default();
    if own.iter().any(|arg| arg == "-h" || arg == "--help") {
        print!("{}", verb.usage);
        return Ok(());
    }
    (verb.run)(rest)
}

fn overview() -> String {
    let mut text = String::from("Usage: cargo xtask <verb> [arguments]\n\nVerbs:\n");
    for verb in VERBS {
        text.push_str(&format!("  {:<10}{}\n", verb.name, verb.about));
    }
    text.push_str("\n`cargo xtask <verb> --help` tells more.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn an_unknown_verb_is_an_error_that_lists_the_verbs() {
        let message = run(&args("tset")).unwrap_err();
        assert!(message.contains("no verb `tset`"), "{message}");
        for verb in VERBS {
            assert!(message.contains(verb.name), "{message}");
        }
    }

    #[test]
    fn no_verb_at_all_is_an_error() {
        assert!(run(&[]).unwrap_err().contains("name a verb"));
    }

    #[test]
    fn every_usage_text_begins_with_its_own_command() {
        for verb in VERBS {
            assert!(verb.usage.starts_with(&format!("Usage: cargo xtask {}", verb.name)), "{}", verb.name);
        }
    }
}
