//! [`Line`]: a channel with publisher confirms, on which calls follow each other without waiting.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use tokio::{sync::Semaphore, time::Instant};
use watermill_core::{
    Message,
    backend::{Connect, Failure, Trouble, Turns},
};

use crate::{
    Exchange, Queue,
    confirms::{Awaited, CALLS_MAX, Confirms, Place},
    connection::{Open, ToServer},
    declare,
    error::{Fault, classify, within},
    marshaler::Record,
    sent::{Answer, Sent},
};

/// What the server adds to the metadata of a message that it dead-letters: where it comes from and why, in a table that has up
/// to five names. It sends frames that are too large for that, with which the client ends the connection of whoever reads.
const DEATH_BYTES: usize = 2_048;

/// How a line is made.
pub(crate) struct ToLine {
    pub(crate) server: ToServer,
    /// For each answer.
    pub(crate) timeout: Duration,
    /// For the confirms of a call.
    pub(crate) confirm_timeout: Duration,
}

/// A connection with one channel, for publishing.
#[derive(Clone)]
pub(crate) struct Line(Arc<Inner>);

struct Inner {
    open: Open,
    channel: Arc<Channel>,
    confirms: Confirms,
    /// For so many calls that are on their way; others wait.
    places: Arc<Semaphore>,
    /// What a frame may hold, as agreed with the server.
    frame_max: usize,
    /// Which exchanges are there.
    ready: Mutex<HashSet<String>>,
    /// Calls that wait until that is known stand here in their order.
    turns: Turns,
    waiting: AtomicUsize,
    timeout: Duration,
    confirm_timeout: Duration,
}

/// Where a call publishes to.
pub(crate) struct Route {
    pub(crate) exchange: Exchange,
    pub(crate) routing_key: String,
    pub(crate) mandatory: bool,
    /// Whether the exchange is made where it is missing.
    pub(crate) declares: bool,
    /// Whether the server may dead-letter the messages, and adds to their metadata then.
    pub(crate) may_die: bool,
}

impl Line {
    /// Publishes. The first poll sends, unless it has to be found out whether the exchange is there; calls keep their
    /// order all the same.
    pub(crate) async fn publish(
        self,
        route: Route,
        messages: Vec<Message>,
        records: Vec<Record>,
    ) -> Result<(), Fault> {
        let places = self.0.places.clone();
        let place = if self.may_send(&route) { places.clone().try_acquire_owned().ok() } else { None };
        let answer = if let Some(place) = place {
            self.send(&route, messages, records, place)?
        } else {
            let _waiting = Waiting::new(&self.0.waiting);
            let turn = self.0.turns.take().await.ok_or_else(|| {
                let why = format!("none of the calls before was sent within {:?}", self.0.confirm_timeout);
                Fault::Found(Trouble::Timeout, why)
            })?;
            self.prepare(&route).await?;
            // Where those that were told that they are late take all places, another line has some.
            let place = async { places.acquire_owned().await.map_err(|_| Fault::GivenUp) };
            let place = within(self.0.confirm_timeout, "confirm what other calls have sent", place).await?;
            let answer = self.send(&route, messages, records, place)?;
            turn.done();
            answer
        };
        drop(self);
        answer.await.unwrap_or(Err(Fault::GivenUp))
    }

    fn may_send(&self, route: &Route) -> bool {
        self.0.waiting.load(Ordering::Acquire) == 0 && self.is_ready(&route.exchange)
    }

    fn is_ready(&self, exchange: &Exchange) -> bool {
        exchange.is_default() || self.ready().contains(&exchange.name)
    }

    fn ready(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the exchange, on a channel of its own: what the server refuses ends the channel.
    async fn prepare(&self, route: &Route) -> Result<(), Fault> {
        if !self.is_ready(&route.exchange) {
            let channel = self.0.open.channel().await?;
            let made = declare::exchange(&channel, &route.exchange, route.declares);
            within(self.0.timeout, "declare an exchange", made).await.map_err(not_of_the_line)?;
            self.ready().insert(route.exchange.name.clone());
        }
        Ok(())
    }

    /// All messages, one after another, without a pause in which another call could send.
    fn send(
        &self,
        route: &Route,
        messages: Vec<Message>,
        records: Vec<Record>,
        place: Place,
    ) -> Result<Answer, Fault> {
        let exchange = declare::name(&route.exchange.name, "exchange")?;
        let key = declare::name(&route.routing_key, "routing key")?;
        self.check_frames(&records, route.may_die)?;
        let options = BasicPublishOptions { mandatory: route.mandatory, immediate: false };
        let publish = |(message, record): (&Message, Record)| -> Awaited {
            let (channel, payload) = (self.0.channel.clone(), message.payload().clone());
            Box::pin(publish(channel, exchange.clone(), key.clone(), options, payload, record.properties))
        };
        let confirms = messages.iter().zip(records).map(publish).collect();
        let deadline = Instant::now() + self.0.confirm_timeout;
        let (sent, answer) = Sent::new(exchange, key, messages, deadline, place);
        self.0.confirms.send(sent, confirms)?;
        Ok(answer)
    }

    fn check_frames(&self, records: &[Record], may_die: bool) -> Result<(), Fault> {
        let added = if may_die { DEATH_BYTES } else { 0 };
        let bytes_max = self.0.frame_max.saturating_sub(added);
        let Some(at) = records.iter().position(|record| record.frame_bytes > bytes_max) else {
            return Ok(());
        };
        let bytes = records[at].frame_bytes;
        let why = format!(
            "message {at}: its metadata take a frame of {bytes} bytes, more than {bytes_max}, the server's less \
             {added} that it may add"
        );
        Err(Fault::Found(Trouble::Message, why))
    }

    /// Says goodbye to the server.
    pub(crate) async fn close(self) {
        self.0.open.close().await;
    }

    /// The name of the queue in which messages wait so long for coming back to a queue.
    pub(crate) async fn delay_queue(&self, back_to: &Queue, delay: Duration) -> Result<ShortString, Fault> {
        let channel = self.0.open.channel().await?;
        let made = declare::delay_queue(&channel, back_to, delay);
        within(self.0.timeout, "declare a queue for a delay", made).await.map_err(not_of_the_line)
    }
}

/// An error of a channel that is not the line's leaves the line as it is.
fn not_of_the_line(fault: Fault) -> Fault {
    if fault.ends_connection() {
        return fault;
    }
    let failure = classify(fault);
    Fault::Found(failure.trouble(), failure.text())
}

async fn publish(
    channel: Arc<Channel>,
    exchange: ShortString,
    key: ShortString,
    options: BasicPublishOptions,
    payload: Bytes,
    properties: BasicProperties,
) -> lapin::Result<Confirmation> {
    channel.basic_publish(exchange, key, options, &payload, properties).await?.await
}

/// Counted while it is there.
struct Waiting<'l>(&'l AtomicUsize);

impl<'l> Waiting<'l> {
    fn new(waiting: &'l AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::AcqRel);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[async_trait]
impl Connect for ToLine {
    type Connection = Line;
    type Error = Fault;

    async fn connect(&self) -> Result<Line, Fault> {
        let open = self.server.open().await?;
        let channel = Arc::new(open.channel().await?);
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        within(self.timeout, "confirm what is published", confirms).await?;
        let frame_max = usize::try_from(open.native.configuration().frame_max()).unwrap_or(usize::MAX);
        Ok(Line(Arc::new(Inner {
            open,
            channel,
            confirms: Confirms::start(self.confirm_timeout, self.server.blocked.clone()),
            places: Arc::new(Semaphore::new(CALLS_MAX)),
            frame_max,
            ready: Mutex::default(),
            turns: Turns::new(self.confirm_timeout),
            waiting: AtomicUsize::new(0),
            timeout: self.timeout,
            confirm_timeout: self.confirm_timeout,
        })))
    }

    fn is_lost(&self, fault: &Fault) -> bool {
        fault.ends_channel()
    }

    fn classify(&self, fault: Fault) -> Failure {
        classify(fault)
    }
}
