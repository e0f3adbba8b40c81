//! `dead-letters`: list, show, redrive, archive and delete.

mod show;
mod sql;

use serde_json::json;
use watermill_core::error::chain;
use watermill_forwarder::dead_letters::{DeadLetters, Done, Filter, Groups, Letter, Pace, StoreError};

use crate::{
    cli::{Act, LetterVerb, Meant},
    config::{Config, Relay},
    exit::Exit,
};
use sql::SqlStore;

/// The most letters that are listed one by one.
const LISTED_MAX: usize = 1_000;

/// The letters of a relay, wherever they are.
enum Letters {
    Source(DeadLetters<SqlStore>),
    #[cfg(feature = "kafka")]
    Topic(DeadLetters<watermill_forwarder::dead_letters::TopicStore>),
}

/// The same call for either store.
macro_rules! on {
    ($self:expr, $letters:ident => $what:expr) => {
        match $self {
            Letters::Source($letters) => $what,
            #[cfg(feature = "kafka")]
            Letters::Topic($letters) => $what,
        }
    };
}

pub(crate) async fn run(config: &Config, verb: &LetterVerb) -> Exit {
    let meant = verb.meant();
    let relay = match crate::steer::relay(config, meant.relay.as_deref()) {
        Ok(relay) => relay,
        Err(error) => return fail(&error),
    };
    if relay.source.table.is_some() && matches!(verb, LetterVerb::Redrive(_)) {
        return fail(
            "the source is a table of yours, into which nothing is written: insert the row again, and delete the letter",
        );
    }
    let letters = match Letters::open(relay, meant).await {
        Ok(letters) => letters,
        Err(error) => {
            eprintln!("the dead letters cannot be reached: {}", chain(&*error));
            return Exit::Unreachable;
        }
    };
    let done = letters.perform(verb, &archive_topic(relay, verb)).await;
    let closed = letters.close().await;
    match done.and_then(|exit| closed.map(|()| exit).map_err(Trouble::Store)) {
        Ok(exit) => exit,
        Err(Trouble::Usage(text)) => fail(&text),
        Err(Trouble::Store(error)) => {
            eprintln!("the dead letters were not all dealt with: {}", chain(&*error));
            Exit::Unreachable
        }
    }
}

enum Trouble {
    Usage(String),
    Store(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn fail(text: &str) -> Exit {
    eprintln!("{text}");
    Exit::Failed
}

fn archive_topic(relay: &Relay, verb: &LetterVerb) -> String {
    match verb {
        LetterVerb::Archive { to: Some(topic), .. } => topic.clone(),
        _ => format!("{}_archive", relay.source.dead_letter_topic),
    }
}

impl Letters {
    async fn open(relay: &Relay, meant: &Meant) -> Result<Self, StoreError> {
        if meant.at_destination {
            return Self::at_destination(relay).await;
        }
        Ok(Self::Source(DeadLetters::new(SqlStore::open(&relay.source), &*relay.source.topic)))
    }

    #[cfg(feature = "kafka")]
    async fn at_destination(relay: &Relay) -> Result<Self, StoreError> {
        use watermill_forwarder::dead_letters::TopicStore;
        use watermill_kafka::KafkaSubscriber;

        let crate::config::Destination::Kafka(kafka) = &relay.destination else {
            return Err("dead letters at the destination are read on Kafka alone".into());
        };
        let subscriber =
            KafkaSubscriber::new(kafka.status.clone().group("watermill-forwarder-dead-letters"))?;
        let publisher = crate::ends::publisher(&relay.destination).await?;
        let target = relay.source.url.connect().publisher(relay.source.publisher())?;
        let store =
            TopicStore::open(&subscriber, publisher, &relay.source.dead_letter_topic).await?.target(target);
        Ok(Self::Topic(DeadLetters::new(store, &*relay.source.topic)))
    }

    #[cfg(not(feature = "kafka"))]
    async fn at_destination(_relay: &Relay) -> Result<Self, StoreError> {
        Err("this program is built without `kafka`".into())
    }

    async fn close(self) -> Result<(), StoreError> {
        match self {
            Self::Source(_) => Ok(()),
            #[cfg(feature = "kafka")]
            Self::Topic(letters) => letters.into_store().close().await,
        }
    }

    async fn perform(&self, verb: &LetterVerb, archive: &str) -> Result<Exit, Trouble> {
        let filter = verb.meant().filter();
        match verb {
            LetterVerb::List { one_by_one: true, json, .. } => {
                let found = on!(self, letters => letters.list(&filter, LISTED_MAX).await)?;
                print(*json, || found.iter().map(show::letter_json).collect(), || show::letters(&found));
                Ok(Exit::Done)
            }
            LetterVerb::List { json, .. } => {
                let found: Groups = on!(self, letters => letters.groups(&filter).await)?;
                print(*json, || show::groups_json(&found), || show::groups(&found));
                Ok(Exit::Done)
            }
            LetterVerb::Show { message: id, json, .. } => {
                let found: Vec<Letter> = on!(self, letters => letters.list(&filter.id(id), 1).await)?;
                let Some(letter) = found.first() else {
                    return Err(Trouble::Usage(format!("there is no dead letter with the id {id}")));
                };
                print(*json, || show::whole_json(letter), || show::whole(letter));
                Ok(Exit::Done)
            }
            LetterVerb::Redrive(act) => {
                let (filter, pace) = (meant(act, &filter)?, act.pace());
                let done = on!(self, letters => letters.redrive(filter, pace).await)?;
                Ok(report("sent again", act, &done))
            }
            LetterVerb::Archive { act, .. } => {
                let (filter, pace) = (meant(act, &filter)?, act.pace());
                let done = on!(self, letters => letters.archive(filter, pace, archive).await)?;
                Ok(report(&format!("moved to {archive}"), act, &done))
            }
            LetterVerb::Delete(act) => {
                let (filter, pace) = (meant(act, &filter)?, act.pace());
                let done = on!(self, letters => letters.delete(filter, pace).await)?;
                Ok(report("deleted", act, &done))
            }
        }
    }
}

/// Nobody means everything by saying nothing.
fn meant<'f>(act: &Act, filter: &'f Filter) -> Result<&'f Filter, Trouble> {
    match filter.is_all() && !act.all {
        true => {
            Err(Trouble::Usage("say which: --id, --group, --destination, --kind, --key, or --all".to_owned()))
        }
        false => Ok(filter),
    }
}

fn print(json: bool, of_json: impl FnOnce() -> serde_json::Value, text: impl FnOnce() -> String) {
    match json {
        true => println!("{}", of_json()),
        false => print!("{}", text()),
    }
}

fn report(what: &str, act: &Act, done: &Done) -> Exit {
    if act.json {
        let Done { matched, done, failed_again, overtaken, .. } = done;
        println!(
            "{}",
            json!({ "dry_run": act.dry_run, "matched": matched, "done": done, "failed_again": failed_again, "overtaken": overtaken })
        );
        return Exit::Done;
    }
    match act.dry_run {
        true => println!("{} dead letters would be {what}", done.matched),
        false => println!("{} of {} dead letters {what}", done.done, done.matched),
    }
    if done.failed_again > 0 {
        println!("{} of them had been sent again before, and have failed again", done.failed_again);
    }
    if done.overtaken > 0 && what == "sent again" {
        println!("{} of them have a key, and come behind what was published of it meanwhile", done.overtaken);
    }
    Exit::Done
}

impl Act {
    fn pace(&self) -> Pace {
        Pace { dry_run: self.dry_run, per_second: self.rate }
    }
}

impl Meant {
    fn filter(&self) -> Filter {
        let mut filter = Filter::default();
        if let Some(destination) = &self.destination {
            filter = filter.destination(destination);
        }
        if let Some(kind) = &self.kind {
            filter = filter.kind(kind);
        }
        if let Some(group) = &self.group {
            filter = filter.fingerprint(group);
        }
        if let Some(id) = &self.id {
            filter = filter.id(id);
        }
        if let Some(key) = &self.key {
            filter = filter.key(key);
        }
        filter
    }
}
