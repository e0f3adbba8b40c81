//! [`Breaker`]: makes the faults of a schedule, one after another, and notes from when to when each was made.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use crate::{
    Result,
    database::{ConnectionOf, Database},
    fault::Fault,
    proxy::Proxy,
    records::{Made, Moment, Records, now},
    relays::{LEASE, Relays},
    schedule::Step,
    servers::Server,
    writers::Writers,
};

/// The name of the application's database.
pub(crate) const DATABASE: &str = "shop";
/// An hour, by which clocks are turned.
const HOUR: i64 = 3_600;
/// The longest wait for a relay to have something in hand, and for messages to flow again after a fault.
const FLOW: Duration = Duration::from_secs(30);
/// How long a standby may take to become synchronous, and to follow.
const FOLLOW: Duration = Duration::from_secs(120);
/// What may be so for a moment alone is looked at as often.
const IN_A_ROW: u32 = 5;
/// So many have arrived when a relay is in the middle of its work.
const IN_THE_MIDDLE: usize = 50;
const LOOK: Duration = Duration::from_millis(5);

/// Everything of one run that can be broken.
pub(crate) struct Breaker<'r, D> {
    pub(crate) database: Server,
    pub(crate) broker: &'r Server,
    pub(crate) relays: Relays,
    pub(crate) network_of_relays: Proxy,
    pub(crate) network_of_writers: Proxy,
    pub(crate) writers: &'r Writers,
    pub(crate) records: Arc<Records>,
    /// How far its clock is turned.
    pub(crate) clock: i64,
    pub(crate) standbys: usize,
    pub(crate) misbehaved: Vec<String>,
    /// What did not come to be made.
    pub(crate) notes: Vec<String>,
    pub(crate) kind: PhantomData<D>,
}

impl<D: Database> Breaker<'_, D> {
    /// Makes one, and waits until messages flow again, or long enough. None where it could not be made this time.
    pub(crate) async fn make(&mut self, step: &Step) -> Result<Option<Made>> {
        let mut random = Rng::with_seed(step.luck);
        if step.fault == Fault::PromoteStandby {
            return self.promote(&mut random).await;
        }
        self.wait_for_batch(&mut random).await;
        let from = now();
        let to = self.break_now(step, &mut random).await?;
        self.wait_for_flow(to).await;
        self.relays.fill_up()?;
        Ok(Some(Made { fault: step.fault, from, to }))
    }

    /// Makes it, and says since when nothing is broken.
    async fn break_now(&mut self, step: &Step, random: &mut Rng) -> Result<Moment> {
        match step.fault {
            Fault::KillOneRelay => {
                self.relays.kill(Some(step.luck)).await?;
            }
            Fault::KillAllRelays => {
                self.relays.kill(None).await?;
                self.relays.fill_up()?;
            }
            Fault::PauseRelays => {
                self.relays.pause().await?;
                self.relays.fill_up()?;
                let since = now();
                sleep(LEASE.mul_f64(1.5 + 2.0 * random.f64())).await;
                self.relays.wake().await?;
                sleep(LEASE.mul_f64(random.f64())).await;
                self.misbehaved.extend(self.relays.thin_out().await?);
                return Ok(since);
            }
            Fault::KillDatabase => {
                self.database.kill().await?;
                sleep(Duration::from_millis(random.u64(0..2_000))).await;
                self.database.start_again().await?;
            }
            Fault::PromoteStandby => {}
            Fault::KillBackends => {
                let mut connection = D::connect(&self.database.url).await?;
                D::end_sessions(&mut connection, DATABASE).await?;
            }
            Fault::CutConnections => self.network_of_relays.fall_silent(),
            Fault::KillBroker => {
                self.broker.kill().await?;
                sleep(Duration::from_millis(random.u64(0..2_000))).await;
                self.broker.start_again().await?;
            }
            Fault::FreezeBroker => {
                self.broker.freeze().await?;
                sleep(Duration::from_millis(random.u64(1_000..6_000))).await;
                self.broker.thaw().await?;
            }
            Fault::TurnClock => {
                // To another of the three: ahead, right, behind.
                let place = (self.clock / HOUR + 1 + random.i64(1..=2)) % 3;
                self.clock = (place - 1) * HOUR;
                self.database.turn(self.clock).await?;
                // The server looks once a second.
                sleep(Duration::from_millis(1_200)).await;
            }
        }
        Ok(now())
    }

    /// A standby that has every commit that was acknowledged takes the place of a primary that crashes.
    async fn promote(&mut self, random: &mut Rng) -> Result<Option<Made>> {
        self.standbys += 1;
        let standby = self.database.standby(&format!("standby-{}", self.standbys)).await?;
        let (mut primary, mut follower) =
            (D::connect(&self.database.url).await?, D::connect(&standby.url).await?);
        for statement in D::BE_FOLLOWED {
            D::execute(&mut primary, (*statement).to_owned()).await?;
        }
        until::<D>(&mut primary, D::FOLLOWERS).await?;
        if !D::wait_for_standby(&mut primary, &mut follower).await? {
            // A machine that is too busy for it says nothing about relays.
            for statement in D::BE_ALONE {
                D::execute(&mut primary, (*statement).to_owned()).await?;
            }
            self.notes.push("a standby did not follow in time, and was not promoted".to_owned());
            return Ok(None);
        }
        // It may have fallen behind for a moment, and was not waited for then.
        until::<D>(&mut primary, D::FOLLOWERS).await?;

        self.wait_for_batch(random).await;
        let from = now();
        self.database.kill().await?;
        if let Some(has_all) = D::HAS_ALL {
            until::<D>(&mut follower, has_all).await?;
        }
        for statement in D::PROMOTE {
            D::execute(&mut follower, (*statement).to_owned()).await?;
        }
        self.network_of_relays.lead_to(standby.address());
        self.network_of_writers.lead_to(standby.address());
        self.database = standby;
        let to = now();
        self.wait_for_flow(to).await;
        self.relays.fill_up()?;
        Ok(Some(Made { fault: Fault::PromoteStandby, from, to }))
    }

    /// Has writers write much, and waits until a part of it has arrived: then a relay is in the middle of it.
    async fn wait_for_batch(&self, random: &mut Rng) {
        let (burst, until) = (self.writers.burst(), Instant::now() + FLOW);
        while !self.writers.has_released(burst) && Instant::now() < until {
            sleep(LOOK).await;
        }
        let before = self.records.seen_count();
        while self.records.seen_count() < before + IN_THE_MIDDLE && Instant::now() < until {
            sleep(LOOK).await;
        }
        sleep(Duration::from_millis(random.u64(0..60))).await;
    }

    /// Waits until something has arrived that was committed after a moment.
    async fn wait_for_flow(&self, after: Moment) {
        let until = Instant::now() + FLOW;
        while self.records.newest_seen() <= after && Instant::now() < until {
            sleep(LOOK).await;
        }
    }
}

/// Waits until a query counts something, several times in a row.
async fn until<D: Database>(connection: &mut ConnectionOf<D>, query: &str) -> Result {
    let (mut in_a_row, until) = (0, Instant::now() + FOLLOW);
    while in_a_row < IN_A_ROW {
        let count = D::number(connection, query.to_owned()).await?.unwrap_or_default();
        in_a_row = if count > 0 { in_a_row + 1 } else { 0 };
        if Instant::now() > until {
            return Err(format!("the standby does not follow: {query}").into());
        }
        sleep(LOOK).await;
    }
    Ok(())
}
