//! The writers: everything that makes rows visible late, in another order, or not at all.

use std::{error::Error, sync::Arc, time::Duration};

use fastrand::Rng;
use uuid::Uuid;
use watermill_core::{Message, Publisher};
use watermill_sql::SqlPublisher;
use watermill_testkit::unique;

use crate::{
    TOPIC,
    server::{Server, Tx},
};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// How a transaction ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Commit,
    Rollback,
    /// The connection is killed before the commit, or while it is on its way.
    Killed,
    /// Prepared, and decided at some time later.
    Prepared,
}

struct Writer<S> {
    server: Arc<S>,
    id: u32,
    /// The number of the next row.
    next: u32,
    random: Rng,
    /// The name of a transaction that waits for its second phase.
    prepared: Option<String>,
}

/// Tries so many transactions, one after another.
pub(crate) async fn write<S: Server>(server: Arc<S>, id: u32, transactions: u32, seed: u64) {
    let random = Rng::with_seed(seed.wrapping_mul(1_000).wrapping_add(id.into()));
    let mut writer = Writer { server, id, next: 0, random, prepared: None };
    for _ in 0..transactions {
        // Some fail, of killed connections and deadlocks; the table tells what was committed.
        let _ = writer.transaction().await;
        if writer.random.bool() {
            writer.decide().await;
        }
    }
    writer.decide().await;
}

impl<S: Server> Writer<S> {
    async fn transaction(&mut self) -> Outcome {
        let end = match self.random.u32(0..20) {
            0..=3 => End::Rollback,
            4 => End::Killed,
            5..=6 if S::TWO_PHASE && self.prepared.is_none() => End::Prepared,
            _ => End::Commit,
        };
        let mut transaction = self.server.begin().await?;
        if self.random.u32(0..3) == 0 {
            // It has an id long before it draws an offset.
            S::write_elsewhere(&mut transaction).await?;
            self.dawdle(4).await;
        }
        for _ in 0..self.random.u32(1..=3) {
            self.insert_in_some_way(&mut transaction).await?;
            self.dawdle(3).await;
        }
        self.dawdle(8).await;
        match end {
            End::Commit => transaction.commit().await?,
            End::Rollback => transaction.rollback().await?,
            End::Killed => self.commit_and_be_killed(transaction).await?,
            End::Prepared => self.first_phase(transaction).await?,
        }
        Ok(())
    }

    async fn insert_in_some_way(&mut self, transaction: &mut Tx<S>) -> Outcome {
        match self.random.u32(0..8) {
            0 => {
                S::execute(transaction, "savepoint undone".to_owned()).await?;
                self.insert(transaction).await?;
                self.dawdle(3).await;
                S::execute(transaction, "rollback to savepoint undone".to_owned()).await?;
            }
            1 => {
                S::execute(transaction, "savepoint kept".to_owned()).await?;
                self.insert(transaction).await?;
                S::execute(transaction, "release savepoint kept".to_owned()).await?;
            }
            _ => self.insert(transaction).await?,
        }
        Ok(())
    }

    /// One statement of a few rows, ours or the user's own.
    async fn insert(&mut self, transaction: &mut Tx<S>) -> Outcome {
        let first = self.next;
        self.next += self.random.u32(1..=3);
        let payloads = (first..self.next).map(|number| format!("[{},{number}]", self.id));
        if self.random.bool() {
            let publisher = SqlPublisher::in_transaction(transaction);
            publisher.publish(TOPIC, payloads.map(Message::new).collect()).await?;
        } else {
            let quote = S::QUOTE;
            let values: Vec<_> =
                payloads.map(|payload| format!("('{}', '{payload}', '{{}}')", Uuid::now_v7())).collect();
            let statement = format!(
                "insert into {quote}watermill_{TOPIC}{quote} (uuid, payload, metadata) values {}",
                values.join(", ")
            );
            S::execute(transaction, statement).await?;
        }
        Ok(())
    }

    async fn commit_and_be_killed(&mut self, mut transaction: Tx<S>) -> Outcome {
        let Some(kill) = S::killer(&mut transaction).await? else {
            // Without a server, to die is to be rolled back by whoever opens the file next.
            return Ok(transaction.rollback().await?);
        };
        let mut killer = self.server.reading_pool().acquire().await?;
        if self.random.bool() {
            S::execute(&mut killer, kill).await?;
            transaction.commit().await?;
        } else {
            let (committed, killed) = tokio::join!(transaction.commit(), S::execute(&mut killer, kill));
            committed?;
            killed?;
        }
        Ok(())
    }

    async fn first_phase(&mut self, mut transaction: Tx<S>) -> Outcome {
        let name = unique("prepared");
        S::execute(&mut transaction, format!("prepare transaction '{name}'")).await?;
        self.prepared = Some(name);
        // The session has no transaction any more; this tells the client so.
        transaction.commit().await?;
        Ok(())
    }

    async fn decide(&mut self) {
        let Some(name) = self.prepared.take() else { return };
        let verb = if self.random.u32(0..4) == 0 { "rollback" } else { "commit" };
        // Left undecided, it would hold readers back for ever: no failure may go unnoticed. A connection
        // of the writers might just be killed.
        let mut connection = self.server.reading_pool().acquire().await.unwrap();
        S::execute(&mut connection, format!("{verb} prepared '{name}'")).await.unwrap();
    }

    /// Being late is what is tested.
    async fn dawdle(&mut self, milliseconds_max: u64) {
        let milliseconds = self.random.u64(0..=milliseconds_max);
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}
