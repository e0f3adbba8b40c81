//! `cargo xtask bench`: the benchmarks, each against its baseline in the same run.

mod figure;
mod instructions;
mod rival;

use std::process::Command;

use crate::{
    Result, process,
    services::{self, Started},
};
use figure::Figure;
use instructions::Workload;
use rival::Rival;

pub(crate) const USAGE: &str = "\
Usage: cargo xtask bench [what] [--quick] [--json] [--with debezium]

  what     a benchmark of the list below, or a part of the names of the figures wanted
  --quick  less work, where a benchmark takes longer than a minute; the figures say less
  --json   one JSON object per line: name, value, unit, baseline, ratio, limit
  --with   a rival that takes more than cargo to bring, for a benchmark that knows it: `debezium`, for relay_kafka

Benchmarks:
  allocations   allocations per message through the in-memory broker and the router
  router        microseconds per message, and the gain of outputs on their way behind each other; with
                valgrind also `instructions`, per message; and `allocations`, which can be asked for alone

  cqrs          with valgrind: instructions for an event in a group of 10 types and in one of 1,000
  relay         messages per second through a forwarder, against publishing one by one to a destination
                that takes 1 ms, and against unwrapping alone; with it comes
  relay_kafka   from PostgreSQL to Kafka, on servers of its own that flush every commit: messages per second of a
                backlog, against a loop by hand with the same batch, against one by one, and `--with debezium`
                against its embedded engine with its outbox router; milliseconds from commit to consumer; what a
                message waits when the relay is killed; the memory of a relay before a backlog, and while its
                broker hangs. The parts `relay-kafka/drain`, `/debezium`, `/latency`, `/takeover` and `/memory` can
                be asked for alone
  sql           messages per second, published, read from logs with up to a million unread rows and taken
                from queues with a million rows, on PostgreSQL, MariaDB and SQLite, against sqlx by hand;
                commits per second while readers in another process are woken, on servers that flush every
                commit, against the same while they poll, how soon they have a message, and what an idle
                process asks; the time that each of 300 handlers takes to start, against each of 10; the
                time from a reader's kill -9 to the first message of one that stands by; one atomic step, and
                its round trips, against the same by hand; the parts
                `publish`, `subscribe`, `step`, `queue`, `waking`, `start` and `takeover` can be asked for alone
  kafka_publish messages per second published to Kafka in calls of 100, against librdkafka's own futures
  kafka_subscribe messages per second read from Kafka, against librdkafka's own stream
  kafka_topics  messages per second from one topic of Kafka to another through a router, against librdkafka
                with 1,000 in flight
  gcp           messages per second published to Google's Pub/Sub emulator in calls of 100, read, handled by
                a router, and moved from topic to topic in order per key, against Google's client by hand
  redis         messages per second published to streams of Redis in calls of 100, read with acks, and handled by a
                router, against its client by hand, with as many calls on their way
  nats          messages per second published to JetStream in calls of 100, read and acked, and handled by a router, against
                async-nats by hand
  http          messages per second posted in calls of 100, taken in by a route, and handled by a router, each
                answered, against hyper's client and a route of axum by hand with as many requests at once
  amqp          messages per second published to RabbitMQ in calls of 100 with confirms, read, and handled by a
                router, against lapin by hand

The first two are against a floor, a bare channel with a boxed service, beside the fastest rival, ruststream,
in the same run; the ratio is a figure's value over its baseline's. Times have no limit here: they depend on
the machine. An allocation or instruction count above its limit is a failure.
";

/// A benchmark of the workspace.
struct Bench {
    /// Its name here and in its package.
    name: &'static str,
    package: &'static str,
    /// What it can run for counting instructions.
    workloads: &'static [Workload],
    /// What the names of its figures begin with, where that can be asked for. Such a benchmark needs
    /// servers, and its package's features.
    parts: &'static [&'static str],
    /// Which of the features, where not all: librdkafka alone takes minutes to compile.
    features: Option<&'static str>,
    /// Cargo's profile.
    profile: &'static str,
    /// The benchmark of which it measures another side: whoever asks for that one gets both.
    goes_with: Option<&'static str>,
    /// Whether it starts the servers that it needs, with settings of its own.
    has_servers: bool,
    /// What it can be compared with by option.
    rivals: &'static [Rival],
}

const BENCH: Bench = Bench {
    name: "",
    package: "",
    workloads: &[],
    parts: &[],
    features: None,
    profile: "bench",
    goes_with: None,
    has_servers: false,
    rivals: &[],
};

const BENCHES: &[Bench] = &[
    Bench {
        name: "cqrs",
        package: "watermill-core",
        workloads: &[
            Workload { name: "dispatch-10", baseline: None, limit: None },
            Workload { name: "dispatch-1000", baseline: Some("dispatch-10"), limit: Some(DISPATCH) },
        ],
        // A thousand types, optimised at link time, take a quarter of an hour.
        profile: "release",
        ..BENCH
    },
    Bench { name: "allocations", package: "watermill-benchmarks", goes_with: Some("router"), ..BENCH },
    Bench {
        name: "router",
        package: "watermill-benchmarks",
        workloads: &[
            Workload { name: "floor", baseline: None, limit: None },
            Workload { name: "ruststream/publish-handle", baseline: Some("floor"), limit: None },
            Workload { name: "publish-handle", baseline: Some("floor"), limit: Some(|_| 1_800.0) },
            Workload {
                name: "ruststream/publish-handle-publish-handle",
                baseline: Some("floor"),
                limit: None,
            },
            Workload {
                name: "publish-handle-publish-handle",
                baseline: Some("floor"),
                limit: Some(|_| 3_050.0),
            },
            Workload {
                name: "publish-handle-new-publish-handle",
                baseline: Some("floor"),
                limit: Some(|_| 3_450.0),
            },
            Workload { name: "layers-5", baseline: Some("publish-handle"), limit: Some(FIVE_LAYERS) },
            Workload { name: "router-layers-5", baseline: Some("publish-handle"), limit: Some(FIVE_LAYERS) },
            Workload { name: "boxed-layer", baseline: Some("publish-handle"), limit: None },
            Workload { name: "merged", baseline: Some("publish-handle"), limit: Some(MERGED) },
            Workload { name: "merged-layers", baseline: Some("publish-handle"), limit: None },
            Workload { name: "metrics", baseline: Some("publish-handle"), limit: Some(METRICS) },
            Workload { name: "metrics-layer", baseline: Some("publish-handle"), limit: None },
            Workload { name: "span-unheard", baseline: Some("publish-handle"), limit: Some(SPAN) },
            Workload { name: "span-heard", baseline: Some("publish-handle"), limit: None },
            Workload { name: "traces-unheard", baseline: Some("publish-handle"), limit: Some(TRACES) },
            Workload { name: "traces-heard", baseline: Some("publish-handle"), limit: None },
        ],
        ..BENCH
    },
    Bench { name: "relay", package: "watermill-forwarder", ..BENCH },
    Bench {
        name: "relay_kafka",
        package: "watermill-forwarder",
        parts: &["relay-kafka"],
        features: Some("relay-kafka"),
        goes_with: Some("relay"),
        has_servers: true,
        rivals: &[Rival::DEBEZIUM],
        ..BENCH
    },
    Bench {
        name: "sql",
        package: "watermill-sql",
        parts: &["publish", "subscribe", "step", "queue", "waking", "start", "takeover"],
        ..BENCH
    },
    Bench { name: "kafka_publish", package: "watermill-kafka", parts: &["kafka-publish"], ..BENCH },
    Bench { name: "kafka_subscribe", package: "watermill-kafka", parts: &["kafka-subscribe"], ..BENCH },
    Bench { name: "kafka_topics", package: "watermill-kafka", parts: &["kafka-topics"], ..BENCH },
    Bench { name: "gcp", package: "watermill-gcp", parts: &["gcp"], ..BENCH },
    Bench { name: "redis", package: "watermill-redis", parts: &["redis"], ..BENCH },
    Bench { name: "nats", package: "watermill-nats", parts: &["nats"], ..BENCH },
    Bench { name: "http", package: "watermill-http", parts: &["http"], has_servers: true, ..BENCH },
    Bench { name: "amqp", package: "watermill-amqp", parts: &["amqp"], ..BENCH },
];

/// What an event may cost in a group of 1,000 types, given what it costs in one of ten.
const DISPATCH: fn(f64) -> f64 = |among_ten| among_ten + 200.0;

/// What a message may cost with five layers that do nothing, given what it costs without.
const FIVE_LAYERS: fn(f64) -> f64 = |without| without + 20.0;

/// What it may cost in a set of handlers without layers.
const MERGED: fn(f64) -> f64 = |added| added + 5.0;

/// What it may cost where there is a log that does not want the spans of deliveries.
const SPAN: fn(f64) -> f64 = |without| without + 20.0;

/// What it may cost in a router that is measured.
const METRICS: fn(f64) -> f64 = |without| without + 150.0;

/// What it may cost with traces where nobody listens.
const TRACES: fn(f64) -> f64 = |without| without + 20.0;

pub(crate) fn run(args: &[String]) -> Result {
    let options = Options::parse(args)?;
    let chosen = chosen(&options);
    let only_counts = options.what.as_deref().is_some_and(instructions::has_all);
    let needs_servers =
        !only_counts && chosen.iter().any(|bench| !bench.parts.is_empty() && !bench.has_servers);
    let started = if needs_servers { services::up()? } else { Started::Nothing };
    // A figure above its limit does not keep the others from being measured.
    let failures: Vec<String> =
        chosen.into_iter().filter_map(|bench| measure(bench, &options).err()).collect();
    let stopped = if started == Started::Some { services::down() } else { Ok(()) };
    if failures.is_empty() { stopped } else { Err(failures.join("\n")) }
}

/// The benchmarks that are asked for; all, where figures are that more than one may have.
fn chosen(options: &Options) -> Vec<&'static Bench> {
    let asked: Vec<&Bench> = BENCHES.iter().filter(|bench| bench.is_asked_for(options)).collect();
    if asked.is_empty() { BENCHES.iter().collect() } else { asked }
}

impl Bench {
    /// Whether it, or figures that only it has, are what is wanted.
    fn is_asked_for(&self, options: &Options) -> bool {
        options.what.as_deref().is_some_and(|what| {
            self.is_named(what) || self.parts.contains(&what.split('/').next().unwrap_or_default())
        })
    }

    /// The command that compiles and runs it.
    fn cargo(&self) -> Command {
        process::cargo(&["bench", "-p", self.package, "--bench", self.name, "--profile", self.profile])
    }

    /// Whether all of it is asked for.
    fn is_named(&self, what: &str) -> bool {
        what == self.name || self.goes_with == Some(what)
    }
}

fn measure(bench: &Bench, options: &Options) -> Result {
    // A benchmark's own name asks for all of it; anything else is a filter that it applies itself.
    let filter = options.what.as_deref().filter(|what| !bench.is_named(what));
    let measured = if filter.is_some_and(instructions::has_all) {
        Ok(())
    } else {
        process::run(&mut command(bench, filter, options)?)
    };
    let figures = instructions::count(bench.cargo(), bench.name, bench.workloads, filter)?;
    if options.json {
        figures.iter().for_each(|figure| println!("{}", figure.to_json()));
    } else {
        print!("{}", figure::rows(&figures));
    }
    measured.and(figure::check(&figures))
}

fn command(bench: &Bench, filter: Option<&str>, options: &Options) -> Result<Command> {
    let mut command = bench.cargo();
    match bench.features {
        Some(features) => drop(command.args(["--features", features])),
        None if bench.parts.is_empty() => {}
        None => drop(command.arg("--all-features")),
    }
    command.arg("--").args(filter);
    command.args(options.quick.then_some("--quick")).args(options.json.then_some("--json"));
    for rival in bench.rivals.iter().filter(|rival| options.with.as_deref() == Some(rival.name)) {
        command.env(rival.variable, rival.jars.find_or_fetch()?);
    }
    Ok(command)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    what: Option<String>,
    quick: bool,
    json: bool,
    with: Option<String>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--with" => options.with = Some(rival(args.next())?),
                "--json" => options.json = true,
                "--quick" => options.quick = true,
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

/// The name of a rival that some benchmark has.
fn rival(name: Option<&String>) -> Result<String> {
    let mut rivals = BENCHES.iter().flat_map(|bench| bench.rivals);
    let known = name.filter(|name| rivals.any(|rival| rival.name == **name));
    known.cloned().ok_or_else(|| format!("--with takes the name of a rival\n\n{USAGE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Options> {
        Options::parse(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_filter_and_json_may_come_in_any_order() {
        let expected = Options { what: Some("router".to_owned()), json: true, ..Options::default() };
        assert_eq!(parse("router --json").unwrap(), expected);
        assert_eq!(parse("--json router").unwrap(), expected);
        assert_eq!(parse("").unwrap(), Options::default());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(parse("--jsno").unwrap_err().contains("no option `--jsno`"));
        assert!(parse("--with").unwrap_err().contains("name of a rival"));
        assert!(parse("relay --with a-ruler").unwrap_err().contains("name of a rival"));
        assert_eq!(parse("relay --with debezium").unwrap().with.as_deref(), Some("debezium"));
        assert!(parse("router floor").unwrap_err().contains("`floor` is another"));
    }

    #[test]
    fn a_part_of_a_benchmark_is_found_by_its_name() {
        let asked = |what: &str| -> Vec<&str> {
            chosen(&parse(what).unwrap()).into_iter().map(|bench| bench.name).collect()
        };
        assert_eq!(asked("queue"), ["sql"]);
        assert_eq!(asked("subscribe/postgres --quick"), ["sql"]);
        assert_eq!(asked("relay"), ["relay", "relay_kafka"]);
        assert_eq!(asked("relay-kafka/drain"), ["relay_kafka"]);
        assert_eq!(asked("router"), ["allocations", "router"], "what is counted of it comes with it");
        assert_eq!(asked("allocations"), ["allocations"]);
        assert_eq!(asked("layers").len(), BENCHES.len());
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
