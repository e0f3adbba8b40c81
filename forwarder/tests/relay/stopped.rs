//! A process that was stopped for longer than its lease, and goes on.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::watch, time::advance};
use watermill_core::{Backoff, Message, Publisher, error::PublishError, publisher::PublisherCapabilities};
use watermill_forwarder::Forwarder;
use watermill_testkit::{RecordingPublisher, ScriptedDelivery, ScriptedSubscriber};

use super::support::{config, ids, numbers, source_of, start};

/// What a client that queues has queued and sent: it sends by itself, whoever waits for that.
#[derive(Clone)]
struct Client {
    queued: Arc<Mutex<Vec<Message>>>,
    sent: watch::Sender<Vec<String>>,
}

impl Client {
    fn new() -> Self {
        Self { queued: Arc::default(), sent: watch::Sender::default() }
    }

    fn queued(&self) -> Vec<String> {
        ids(self.queued.lock().unwrap().iter())
    }

    /// Its broker is there.
    fn send(&self) {
        let queued = std::mem::take(&mut *self.queued.lock().unwrap());
        self.sent.send_modify(|sent| sent.extend(ids(&queued)));
    }

    fn sent(&self) -> Vec<String> {
        self.sent.borrow().clone()
    }
}

#[async_trait]
impl Publisher for Client {
    async fn publish(&self, _topic: &str, messages: Vec<Message>) -> Result<(), PublishError> {
        let ids = ids(&messages);
        self.queued.lock().unwrap().extend(messages);
        let mut sent = self.sent.subscribe();
        let all = |sent: &Vec<String>| ids.iter().all(|id| sent.contains(id));
        sent.wait_for(all).await.expect("it lives as long as its publisher");
        Ok(())
    }

    fn take_back(&self) {
        self.queued.lock().unwrap().clear();
    }

    async fn close(&self) -> Result<(), PublishError> {
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new("client")
    }
}

/// Waits until something is so, while time stands still or goes on by itself.
async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A relay with three messages queued in its client and more behind them, which is stopped until its lease is over.
async fn stopped_too_long() -> (ScriptedSubscriber, Client, super::support::Running) {
    let (source, client) = (source_of("orders", 15), Client::new());
    let config = config().batch_size(3).backoff(Backoff::constant(Duration::from_millis(100)));
    let running = start(Forwarder::builder(source.clone(), client.clone()).config(config));
    until(|| client.queued().len() == 3).await;
    source.overdue(true);
    // Nothing of the process runs meanwhile.
    advance(Duration::from_secs(10)).await;
    (source, client, running)
}

#[tokio::test(start_paused = true)]
async fn what_its_client_has_queued_is_taken_back_and_nothing_more_is_sent_when_another_has_its_place() {
    let (source, client, running) = stopped_too_long().await;
    until(|| client.queued().is_empty()).await;
    client.send();
    // The reader hears later that the lease is lost.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(client.queued(), [""; 0], "nothing is tried while its place is in doubt");
    source.revoke(0);
    source.overdue(false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    client.send();
    // What was not in its hands when it lost them comes to it as to any other owner.
    let sent = client.sent();
    assert!(!sent.iter().any(|id| id == "0" || id == "1" || id == "2"), "{sent:?}");
    running.kill().await;
}

/// What is no envelope is a dead letter at once.
fn odd(source: &ScriptedSubscriber, id: &str) {
    source.push(ScriptedDelivery::new(Message::with_id(id, "x")));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_not_published_while_its_place_is_in_doubt() {
    in_doubt(ScriptedSubscriber::new()).await;
}

#[tokio::test(start_paused = true)]
async fn a_publisher_for_dead_letters_is_not_passed_over_while_its_place_is_in_doubt() {
    in_doubt(ScriptedSubscriber::new().dead_letters(true)).await;
}

async fn in_doubt(source: ScriptedSubscriber) {
    let (destination, dead_letters) = (RecordingPublisher::new(), RecordingPublisher::new());
    let forwarder =
        Forwarder::builder(source.clone(), destination.clone()).dead_letters(dead_letters.clone());
    let running = start(forwarder.config(config().dead_letter_topic("dead")));
    source.overdue(true);
    odd(&source, "0");
    odd(&source, "1");
    source.await_handed_out(2).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(dead_letters.published("dead").is_empty());
    source.overdue(false);
    source.settled(2).await;
    assert_eq!(ids(&dead_letters.published("dead")), ["0", "1"]);
    assert_eq!(running.stop().await.dead_lettered, 2);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_its_client_has_queued_is_taken_back_from_it() {
    let (source, client) = (ScriptedSubscriber::new(), Client::new());
    let forwarder =
        Forwarder::builder(source.clone(), RecordingPublisher::new()).dead_letters(client.clone());
    let running = start(forwarder.config(config()));
    odd(&source, "0");
    until(|| client.queued().len() == 1).await;
    source.overdue(true);
    advance(Duration::from_secs(10)).await;
    until(|| client.queued().is_empty()).await;
    source.revoke(0);
    tokio::time::sleep(Duration::from_secs(60)).await;
    client.send();
    assert_eq!(client.sent(), [""; 0], "it is for another to give up");
    running.kill().await;
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_in_order_when_the_lease_is_its_own_still() {
    let (source, client, running) = stopped_too_long().await;
    until(|| client.queued().is_empty()).await;
    source.overdue(false);
    let sending = async {
        while client.sent().len() < 15 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            client.send();
        }
    };
    sending.await;
    source.settled(15).await;
    running.stop().await;
    assert_eq!(client.sent(), numbers(0..15));
}
