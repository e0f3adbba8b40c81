//! [`Processes`]: this program again, as processes that are killed and paused.

pub(crate) mod records;

use std::{
    env, fmt,
    process::{Child, Command, Stdio},
};

pub(crate) use self::records::{Records, assert_once_and_in_order};
use crate::Result;

/// With which a process ends that was fenced.
pub(crate) const FENCED: i32 = 3;

/// The processes of one test.
#[derive(Default)]
pub(crate) struct Processes {
    running: Vec<Child>,
    paused: Vec<Child>,
    kills: usize,
    pauses: usize,
}

impl Processes {
    /// Starts one with these variables in its environment.
    pub(crate) fn start(&mut self, variables: &[(&str, &str)]) -> Result {
        let mut command = Command::new(env::current_exe()?);
        command.envs(variables.iter().copied()).stdin(Stdio::null());
        self.running.push(command.spawn()?);
        Ok(())
    }

    pub(crate) fn kill_all(&mut self) -> Result {
        self.kill(self.running.len())
    }

    /// Kills so many, the oldest first.
    pub(crate) fn kill(&mut self, count: usize) -> Result {
        for mut child in self.running.drain(..count.min(self.running.len())) {
            self.kills += 1;
            end(&mut child)?;
        }
        Ok(())
    }

    /// Pauses so many, the oldest first, wherever they are, as long as `may_stay` says that they may sleep there.
    pub(crate) async fn pause(&mut self, count: usize, may_stay: impl AsyncFn() -> Result<bool>) -> Result {
        for mut child in self.running.drain(..count.min(self.running.len())) {
            // One that was woken in an earlier round may have been fenced.
            if child.try_wait()?.is_some() {
                continue;
            }
            signal(&child, "-STOP")?;
            while !may_stay().await? {
                signal(&child, "-CONT")?;
                signal(&child, "-STOP")?;
            }
            self.pauses += 1;
            self.paused.push(child);
        }
        Ok(())
    }

    pub(crate) fn wake_all(&mut self) -> Result {
        for child in self.paused.drain(..) {
            signal(&child, "-CONT")?;
            self.running.push(child);
        }
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.running.iter_mut().chain(&mut self.paused) {
            let _ = end(child);
        }
    }
}

impl fmt::Display for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kills, {} pauses", self.kills, self.pauses)
    }
}

fn signal(child: &Child, signal: &str) -> Result {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status()?;
    if sent.success() { Ok(()) } else { Err(format!("kill {signal} ended with {sent}").into()) }
}

fn end(child: &mut Child) -> Result {
    child.kill()?;
    let status = child.wait()?;
    match status.code() {
        // Killed, or fenced before that.
        None | Some(FENCED) => Ok(()),
        Some(_) => Err(format!("a process ended by itself, with {status}").into()),
    }
}
