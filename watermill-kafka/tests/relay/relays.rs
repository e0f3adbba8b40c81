//! [`Relays`]: processes that relay, and signals to them.

use std::{
    env, fmt,
    path::PathBuf,
    process::{Child, Command, Stdio, exit},
};

use watermill_forwarder::{FencedForwarder, ForwarderConfig, ForwarderErrorKind};
use watermill_kafka::{KafkaFencedPublisher, KafkaPublisherConfig};
use watermill_testkit::Service;

use crate::{
    Result,
    shop::{self, Shop},
};

/// Says that this process is a relay, and from which database.
pub(crate) const DATABASE: &str = "WATERMILL_RELAY_DATABASE";
const NAME: &str = "WATERMILL_RELAY_NAME";

/// With which a relay ends that was fenced.
const FENCED: i32 = 3;

/// The relay processes of one outbox.
pub(crate) struct Relays {
    database: PathBuf,
    name: String,
    running: Vec<Child>,
    paused: Vec<Child>,
    kills: usize,
    pauses: usize,
}

/// What a relay process does, until it is killed or fenced.
pub(crate) async fn relay(database: PathBuf) -> Result {
    let source = shop::outbox(shop::connect(&database).await?)?;
    let destination = KafkaFencedPublisher::new(KafkaPublisherConfig::new(Service::KAFKA.url()))?;
    let config = ForwarderConfig::default().batch_size(200);
    let relay = FencedForwarder::new(source, destination, env::var(NAME)?).config(config);
    match relay.run_until(std::future::pending()).await {
        Err(error) if error.kind() == ForwarderErrorKind::Fenced => exit(FENCED),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}

impl Relays {
    pub(crate) fn new(shop: &Shop) -> Self {
        let (database, name) = (shop.database(), shop.topic().to_owned());
        Self { database, name, running: Vec::new(), paused: Vec::new(), kills: 0, pauses: 0 }
    }

    pub(crate) fn start(&mut self) -> Result {
        let mut command = Command::new(env::current_exe()?);
        command.env(DATABASE, &self.database).env(NAME, &self.name).stdin(Stdio::null());
        self.running.push(command.spawn()?);
        Ok(())
    }

    pub(crate) fn kill_all(&mut self) -> Result {
        for mut child in self.running.drain(..) {
            self.kills += 1;
            end(&mut child)?;
        }
        Ok(())
    }

    /// Pauses each, wherever it is, but not while it has the database locked: nobody could go on.
    pub(crate) async fn pause_all(&mut self, shop: &Shop) -> Result {
        for mut child in self.running.drain(..) {
            // One that was woken in an earlier round may have been fenced.
            if child.try_wait()?.is_some() {
                continue;
            }
            signal(&child, "-STOP")?;
            while !shop.is_writable().await? {
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

impl Drop for Relays {
    fn drop(&mut self) {
        for child in self.running.iter_mut().chain(&mut self.paused) {
            let _ = end(child);
        }
    }
}

impl fmt::Display for Relays {
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
        Some(_) => Err(format!("a relay ended by itself, with {status}").into()),
    }
}
