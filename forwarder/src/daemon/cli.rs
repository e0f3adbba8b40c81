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
