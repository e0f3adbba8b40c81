//! [`Progress`]: what is going on, on standard error.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{draws::Drawn, relay::Relay};

/// A bar on a terminal, and a line now and then elsewhere.
pub(crate) struct Progress {
    draws: usize,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(draws: u32) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg:>24} {wide_bar:.green/dim} {pos}/{len}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━╌");
            ProgressBar::new(draws.into()).with_style(style).with_message("drawing")
        });
        Self { draws: draws as usize, bar }
    }

    /// A draw was made.
    pub(crate) fn drew(&self, drawn: &Drawn, relay: &Relay) {
        let (draws, kills) = (drawn.len(), relay.kills());
        match &self.bar {
            Some(bar) => {
                bar.set_position(draws as u64);
                bar.set_message(format!("relay killed {kills} times"));
            }
            None if draws % (self.draws / 4).max(1) == 0 => {
                eprintln!("{draws} of {} draws, relay killed {kills} times", self.draws);
            }
            None => {}
        }
    }

    /// All draws were made, and events are on their way.
    pub(crate) fn settling(&self) {
        match &self.bar {
            Some(bar) => bar.set_message("waiting for events"),
            None => eprintln!("waiting for events"),
        }
    }

    /// Clears the screen for the table.
    pub(crate) fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
