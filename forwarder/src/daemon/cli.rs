//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

/// Brings what was published inside of database transactions to a broker.
#[derive(Debug, Parser)]
#[command(name = "watermill-forwarder", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
    #[command(flatten)]
    pub(crate) common: Common,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 not done, 2 a command line that is not understood, 3 a configuration that cannot work,
4 an end that does not answer or refuses, 5 a stop that was not over in time.";

/// What every verb takes.
#[derive(Args, Debug)]
pub(crate) struct Common {
    /// The configuration; by default what WATERMILL_FORWARDER_CONFIG names, or forwarder.toml where there is one.
    #[arg(long, short, global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Sets an option, over the environment and the file: --set relay.shop.batch_size=1000
    #[arg(long = "set", global = true, value_name = "OPTION=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Runs the relays until SIGTERM or SIGINT.
    Run,
    /// Says everything that is wrong with the configuration.
    Check {
        /// Prints every option: its value, and who has set it.
        #[arg(long)]
        explain: bool,
        /// Reaches both ends of every relay, and says which tables and privileges are missing.
        #[arg(long)]
        connect: bool,
        /// With --connect: a topic that is to be at the destination.
        #[arg(long = "topic", value_name = "TOPIC")]
        topics: Vec<String>,
        /// For a program.
        #[arg(long)]
        json: bool,
    },
    /// Shows what the sources hold, who reads them, and what is in trouble.
    Status {
        /// For a program.
        #[arg(long)]
        json: bool,
        /// Shows it again and again.
        #[arg(long)]
        watch: bool,
        /// How many seconds apart.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
        interval: u64,
    },
    /// Lets nothing more go to a destination, or nothing of a key of it.
    Pause(Part),
    /// Lets it go again.
    Resume(Part),
    /// In how many shards a topic is read; with a number, how many there are to be from now on.
    Shards {
        /// So many, from 1 to 64. Whoever reads changes to it; each key stays in order.
        #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
        count: Option<u32>,
        /// The relay, where there are several.
        #[arg(long)]
        relay: Option<String>,
        /// For a program.
        #[arg(long)]
        json: bool,
    },
    /// What was given up: list it, look at it, send it again, archive it, delete it.
    #[command(subcommand)]
    DeadLetters(LetterVerb),
}

#[derive(Debug, Subcommand)]
pub(crate) enum LetterVerb {
    /// By destination, kind and cause, the largest group first.
    List {
        #[command(flatten)]
        meant: Meant,
        /// One by one, the oldest first, at most 1,000.
        #[arg(long)]
        one_by_one: bool,
        /// For a program.
        #[arg(long)]
        json: bool,
    },
    /// One of them, with its metadata and its payload.
    Show {
        /// The id of the message.
        message: String,
        #[command(flatten)]
        meant: Meant,
        /// For a program.
        #[arg(long)]
        json: bool,
    },
    /// Sends them through the outbox again, each with its id and its key.
    Redrive(Act),
    /// Moves them to another topic of the same database.
    Archive {
        #[command(flatten)]
        act: Act,
        /// The topic; by default that of the dead letters with _archive behind it.
        #[arg(long)]
        to: Option<String>,
    },
    /// Deletes them.
    Delete(Act),
}

/// Which dead letters are meant: those that are as all of it says.
#[derive(Args, Debug)]
pub(crate) struct Meant {
    /// The relay, where there are several.
    #[arg(long)]
    pub(crate) relay: Option<String>,
    /// Those for this topic.
    #[arg(long)]
    pub(crate) destination: Option<String>,
    /// Those of this kind: message, topic, refused, unsupported, unreadable or other.
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// Those of this group; the beginning of its name will do.
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// The one of this id.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Those of this key.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Those on the topic of that name at the destination, which must be Kafka, and not those of the source.
    #[arg(long)]
    pub(crate) at_destination: bool,
}

/// What is done with them, and how fast.
#[derive(Args, Debug)]
pub(crate) struct Act {
    #[command(flatten)]
    pub(crate) meant: Meant,
    /// All of them.
    #[arg(long)]
    pub(crate) all: bool,
    /// Only says how many it would be.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The most a second.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// For a program.
    #[arg(long)]
    pub(crate) json: bool,
}

impl LetterVerb {
    pub(crate) fn meant(&self) -> &Meant {
        match self {
            Self::List { meant, .. } | Self::Show { meant, .. } => meant,
            Self::Redrive(act) | Self::Archive { act, .. } | Self::Delete(act) => &act.meant,
        }
    }
}

/// A part of what a relay sends.
#[derive(Args, Debug)]
pub(crate) struct Part {
    /// The topic that messages go to.
    pub(crate) destination: String,
    /// One key of it.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// The relay, where there are several.
    #[arg(long)]
    pub(crate) relay: Option<String>,
}

/// How far apart `--watch` looks.
pub(crate) fn watch(watch: bool, interval: u64) -> Option<Duration> {
    watch.then(|| Duration::from_secs(interval))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
