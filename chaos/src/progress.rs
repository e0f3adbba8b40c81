//! [`Progress`]: a bar on a terminal, and a line at the beginning elsewhere.

use std::{
    io::{IsTerminal as _, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{fault::Fault, options::Run, records::Records};

pub(crate) struct Progress {
    bar: ProgressBar,
    length: Option<Duration>,
}

impl Progress {
    /// Without a length nobody knows how far it is.
    pub(crate) fn start(run: &Run, length: Option<Duration>) -> Self {
        let is_terminal = stderr().is_terminal();
        if !is_terminal {
            eprintln!("{run} ...");
        }
        let bar = match length {
            _ if !is_terminal => ProgressBar::hidden(),
            Some(length) => ProgressBar::new(length.as_secs()),
            None => ProgressBar::new_spinner(),
        };
        let template = match length {
            Some(_) => "{prefix}  {bar:30}  {elapsed} of {len} s  {msg}",
            None => "{prefix}  {spinner}  {elapsed}  {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(run.to_string());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, length }
    }

    pub(crate) fn show(&self, records: &Records, faults: usize, now: Option<Fault>) {
        if self.length.is_some() {
            self.bar.set_position(self.bar.elapsed().as_secs());
        }
        let now = now.map_or_else(String::new, |fault| format!(": {}", fault.name()));
        let (committed, seen) = (records.committed_count(), records.seen_count());
        self.bar.set_message(format!("{committed} committed, {seen} arrived, {faults} faults{now}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
