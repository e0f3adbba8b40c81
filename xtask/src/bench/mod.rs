//! `cargo xtask bench`: the benchmarks, each against its baseline in the same run.

mod figure;
mod instructions;

use crate::{Result, process};
use figure::Figure;
use instructions::Workload;

pub(crate) const USAGE: &str = "\
Usage: cargo xtask bench [what] [--json]

  what    a benchmark of the list below, or a part of the names of the figures wanted
  --json  one JSON object per line: name, value, unit, baseline, ratio, limit

Benchmarks:
  router  messages through the in-memory broker and the router, against a bare channel with a boxed
          service; also instructions per message, where valgrind is installed

A figure's ratio is its value over its baseline's, both measured in the same run. Times have no limit
here: they depend on the machine. An instruction count above its limit is a failure.
";

/// A benchmark of the workspace.
struct Bench {
    /// Its name here and in its package.
    name: &'static str,
    package: &'static str,
    /// What it can run for counting instructions.
    workloads: &'static [Workload],
}

const BENCHES: &[Bench] = &[Bench {
    name: "router",
    package: "watermill-core",
    workloads: &[
        Workload { name: "floor", baseline: None, limit: None },
        Workload { name: "publish-handle", baseline: Some("floor"), limit: Some(|_| 2_300.0) },
        Workload { name: "publish-handle-publish-handle", baseline: Some("floor"), limit: Some(|_| 3_800.0) },
        // Five layers that do nothing may add this much to the same workload without them.
        Workload {
            name: "layers-5",
            baseline: Some("publish-handle"),
            limit: Some(|without| without + 100.0),
        },
        Workload {
            name: "router-layers-5",
            baseline: Some("publish-handle"),
            limit: Some(|without| without + 100.0),
        },
    ],
}];

pub(crate) fn run(args: &[String]) -> Result {
    let options = Options::parse(args)?;
    let chosen: Vec<&Bench> = match BENCHES.iter().find(|bench| Some(bench.name) == options.what.as_deref()) {
        Some(bench) => vec![bench],
        None => BENCHES.iter().collect(),
    };
    for bench in &chosen {
        // A benchmark's own name asks for all of it; anything else is a filter that it applies itself.
        let filter = options.what.as_deref().filter(|what| *what != bench.name);
        if !filter.is_some_and(instructions::has_all) {
            process::run(&mut command(bench, filter, options.json))?;
        }
        let figures = instructions::count(bench.package, bench.name, bench.workloads, filter)?;
        if options.json {
            figures.iter().for_each(|figure| println!("{}", figure.to_json()));
        } else {
            print!("{}", figure::rows(&figures));
        }
        figure::check(&figures)?;
    }
    Ok(())
}

fn command(bench: &Bench, filter: Option<&str>, json: bool) -> std::process::Command {
    let mut command = process::cargo(&["bench", "-p", bench.package, "--bench", bench.name, "--"]);
    command.args(filter);
    if json {
        command.arg("--json");
    }
    command
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    what: Option<String>,
    json: bool,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self::default();
        for arg in args {
            match arg.as_str() {
                "--json" => options.json = true,
                flag if flag.starts_with('-') => {
                    return Err(format!("there is no option `{flag}`\n\n{USAGE}"));
                }
                what if options.what.is_none() => options.what = Some(what.to_owned()),
                second => return Err(format!("one filter is enough, `{second}` is another\n\n{USAGE}")),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Options> {
        Options::parse(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_filter_and_json_may_come_in_any_order() {
        let expected = Options { what: Some("router".to_owned()), json: true };
        assert_eq!(parse("router --json").unwrap(), expected);
        assert_eq!(parse("--json router").unwrap(), expected);
        assert_eq!(parse("").unwrap(), Options::default());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(parse("--jsno").unwrap_err().contains("no option `--jsno`"));
        assert!(parse("router floor").unwrap_err().contains("`floor` is another"));
    }

    #[test]
    fn the_usage_lists_every_benchmark() {
        for bench in BENCHES {
            assert!(USAGE.contains(&format!("\n  {} ", bench.name)), "{} is missing", bench.name);
        }
    }

    #[test]
    fn every_baseline_is_counted_before_what_is_compared_with_it() {
        for bench in BENCHES {
            for (at, workload) in bench.workloads.iter().enumerate() {
                let earlier = &bench.workloads[..at];
                let known = |name| earlier.iter().any(|workload| workload.name == name);
                assert!(workload.baseline.is_none_or(known), "{} has no baseline before it", workload.name);
            }
        }
    }
}
