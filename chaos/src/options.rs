//! [`Options`]: what is asked for.

use std::{fmt, time::Duration};

use clap::{Parser, ValueEnum};

/// How long a message may wait by default.
const STALL_MAX: Duration = Duration::from_secs(20);

/// Breaks everything around a relay from a database to Kafka, and looks from outside whether its promise holds.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask chaos", bin_name = "cargo xtask chaos")]
pub(crate) struct Options {
    /// What happens when, and to whom; a new one is chosen and printed
    #[arg(long)]
    pub(crate) seed: Option<u64>,

    /// How long each run breaks things; without it, a short form in which the runs share the kinds of faults
    #[arg(long)]
    pub(crate) minutes: Option<f64>,

    /// The database that the outbox is in; both by default
    #[arg(long)]
    pub(crate) database: Option<DatabaseKind>,

    /// What the relay promises; both by default
    #[arg(long)]
    pub(crate) delivery: Option<Delivery>,

    /// The relay that is looked at
    #[arg(long, default_value = "watermill")]
    pub(crate) design: Design,

    /// How long a message may wait while nothing is broken, in seconds: what a standby needs to take over, and what
    /// processes need to start and clients to reconnect on a machine that does all of this at once
    #[arg(long, value_name = "SECONDS", default_value_t = STALL_MAX.as_secs() as u32)]
    pub(crate) stall_max: u32,

    /// What the verdict is about
    #[arg(long, default_value = "all")]
    pub(crate) judge: Judge,
}

/// What the verdict is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Judge {
    /// Everything
    All,
    /// What depends on no machine: not how long a message or the end of a process waits, nor how often relays that are
    /// slow lose their lease and repeat what may come twice
    Delivery,
}

/// Where the outbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DatabaseKind {
    Postgres,
    #[value(alias = "mariadb")]
    Mysql,
}

/// What is promised to readers of what is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Delivery {
    AtLeastOnce,
    ExactlyOnce,
}

/// Whose relay is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Design {
    /// The daemon of this workspace
    Watermill,
    /// Written by hand: claims rows with FOR UPDATE SKIP LOCKED, publishes, deletes, commits
    SkipLocked,
    /// Written by hand: reads above the last id, publishes, stores the new last id
    IdCursor,
}

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) database: DatabaseKind,
    pub(crate) delivery: Delivery,
    pub(crate) design: Design,
    pub(crate) seed: u64,
    /// Its place among the runs on its database, and how many those are.
    pub(crate) part: (usize, usize),
    pub(crate) length: Length,
    /// How long a message may wait while nothing is broken.
    pub(crate) stall_max: Duration,
    pub(crate) judge: Judge,
}

/// How long things are broken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Length {
    /// Each run breaks its part of the kinds of faults, once.
    Short,
    /// All kinds, again and again.
    For(Duration),
}

impl Eq for Length {}

impl Options {
    /// The runs, in their order.
    pub(crate) fn runs(&self, seed: u64) -> Vec<Run> {
        let databases =
            self.database.map_or_else(|| DatabaseKind::value_variants().to_vec(), |one| vec![one]);
        let deliveries = &match (self.delivery, self.design) {
            (Some(one), _) => vec![one],
            (None, Design::Watermill) => Delivery::value_variants().to_vec(),
            // Nobody who writes a loop promises more.
            (None, Design::SkipLocked | Design::IdCursor) => vec![Delivery::AtLeastOnce],
        };
        let length = match self.minutes {
            None => Length::Short,
            Some(minutes) => Length::For(Duration::from_secs_f64(60.0 * minutes)),
        };
        let (design, judge) = (self.design, self.judge);
        let stall_max = Duration::from_secs(self.stall_max.into());
        let of = |database: DatabaseKind| {
            deliveries.iter().enumerate().map(move |(at, delivery)| {
                let part = (at, deliveries.len());
                Run { database, delivery: *delivery, design, seed, part, length, stall_max, judge }
            })
        };
        databases.into_iter().flat_map(of).collect()
    }
}

impl Run {
    /// The command that repeats it. In the short form, in which the runs on a database share the kinds of faults, with the
    /// others of its database.
    pub(crate) fn command(&self) -> String {
        let Self { database, design, seed, .. } = self;
        let length = match self.length {
            Length::Short if self.part.1 > 1 => String::new(),
            Length::Short => format!(" --delivery {}", name(self.delivery)),
            Length::For(length) => {
                format!(" --delivery {} --minutes {}", name(self.delivery), length.as_secs_f64() / 60.0)
            }
        };
        let design = match design {
            Design::Watermill => String::new(),
            design => format!(" --design {}", name(*design)),
        };
        let stall_max = match self.stall_max {
            STALL_MAX => String::new(),
            stall_max => format!(" --stall-max {}", stall_max.as_secs()),
        };
        let judge = match self.judge {
            Judge::All => String::new(),
            judge => format!(" --judge {}", name(judge)),
        };
        format!(
            "cargo xtask chaos --database {}{length}{design} --seed {seed}{stall_max}{judge}",
            name(*database)
        )
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = match self.database {
            DatabaseKind::Postgres => "PostgreSQL",
            DatabaseKind::Mysql => "MariaDB",
        };
        write!(f, "{database} to Kafka, {}, {}", name(self.design), name(self.delivery))
    }
}

/// The word of the command line.
pub(crate) fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(words: &str) -> Vec<Run> {
        Options::parse_from(words.split_whitespace()).runs(7)
    }

    #[test]
    fn without_a_choice_both_databases_are_run_with_both_deliveries() {
        let runs = runs("chaos");
        assert_eq!(runs.len(), 4);
        assert!(runs.iter().all(|run| run.length == Length::Short));
        assert_eq!(runs.iter().map(|run| run.part).collect::<Vec<_>>(), [(0, 2), (1, 2), (0, 2), (1, 2)]);
    }

    #[test]
    fn a_loop_written_by_hand_promises_no_more_than_at_least_once() {
        assert!(runs("chaos --design id-cursor").iter().all(|run| run.delivery == Delivery::AtLeastOnce));
    }

    #[test]
    fn a_run_is_repeated_by_its_command() {
        for words in [
            "--database mysql --delivery exactly-once --minutes 10 --seed 7",
            "--database postgres --seed 7 --stall-max 60 --judge delivery",
            "--database postgres --delivery exactly-once --seed 7",
            "--database mysql --delivery at-least-once --design id-cursor --seed 7",
        ] {
            let first = runs(&format!("chaos {words}"));
            let again = runs(&first[0].command().replacen("cargo xtask ", "", 1));
            assert_eq!(again, first, "{words}");
        }
    }
}
