use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use futures::{FutureExt as _, StreamExt as _};
use tokio::{sync::Notify, time::Instant};

use super::*;
use crate::{
    Delivery, Message, Subscription, Window,
    backend::{ById, Nacks, Registry, Shared, SharedOptions, Trouble},
    delivery::{Origin, Outcome},
    error::{SettleErrorKind, SubscribeErrorKind},
    subscription::Health,
};

/// A server of numbers.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Inner>>, Arc<Notify>);

#[derive(Default)]
struct Inner {
    waiting: VecDeque<u32>,
    fetches: usize,
    told: Vec<(u32, Outcome)>,
    calls: usize,
    /// What the next calls of either kind fail with.
    troubles: VecDeque<Trouble>,
    extended: Vec<Vec<u32>>,
    lost: Vec<u32>,
    frozen: bool,
    closed: bool,
}

impl Server {
    fn publish(&self, ids: impl IntoIterator<Item = u32>) {
        self.0.lock().unwrap().waiting.extend(ids);
        self.1.notify_one();
    }

    fn look<T>(&self, look: impl FnOnce(&mut Inner) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    fn trouble(&self) -> Result<(), Failure> {
        match self.look(|inner| inner.troubles.pop_front()) {
            Some(trouble) => Err(Failure::because(trouble, "scripted")),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Transport for Server {
    type Id = u32;

    async fn fetch(&self, room: usize, _closing: &CancellationToken) -> Result<Vec<Incoming<u32>>, Failure> {
        self.look(|inner| inner.fetches += 1);
        self.trouble()?;
        let ids: Vec<_> = self.look(|inner| {
            let len = room.min(inner.waiting.len());
            inner.waiting.drain(..len).collect()
        });
        Ok(ids.into_iter().map(|id| Incoming::new(id, Message::new(id.to_string()))).collect())
    }

    async fn record(&self, settled: &mut Vec<Settled<u32>>) -> Result<(), Failure> {
        if self.look(|inner| inner.frozen) {
            pending::<()>().await;
        }
        self.trouble()?;
        self.look(|inner| {
            inner.calls += 1;
            for gone in settled.extract_if(.., |settled| inner.lost.contains(&settled.id)) {
                gone.lost();
            }
            inner.told.extend(settled.iter().map(|settled| (settled.id, settled.outcome.clone())));
        });
        Ok(())
    }

    async fn extend(&self, in_hand: Vec<u32>) -> Result<Vec<u32>, Failure> {
        if self.look(|inner| inner.frozen) {
            pending::<()>().await;
        }
        self.look(|inner| {
            let lost = in_hand.iter().copied().filter(|id| inner.lost.contains(id)).collect();
            inner.extended.push(in_hand);
            Ok(lost)
        })
    }

    async fn wake(&self) {
        self.1.notified().await;
    }

    async fn close(&self) {
        self.look(|inner| inner.closed = true);
    }
}

fn subscribe(server: &Server, options: TransportOptions) -> Subscription {
    subscribe_by(server.clone(), options)
}

fn subscribe_by(transport: impl Transport<Id = u32>, options: TransportOptions) -> Subscription {
    let ledger = ById::new(Nacks::ToServer);
    let shared = Arc::new(Shared::new("t", None, ledger, SharedOptions::default()));
    let registry = Registry::default();
    let (subscription, origin) = registry.open(Origin::builder("test", "t"), shared.clone()).unwrap();
    tokio::spawn(run(shared, origin, transport, options));
    subscription
}

async fn next(subscription: &mut Subscription) -> Delivery {
    subscription.next().await.unwrap().unwrap()
}

fn nack() -> Outcome {
    Outcome::Nack { delay: Duration::ZERO }
}

#[tokio::test(start_paused = true)]
async fn no_more_is_fetched_than_the_window_lets_out() {
    let server = Server::default();
    server.publish(0..10);
    let mut subscription = subscribe(&server, TransportOptions::default());
    let one = next(&mut subscription).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.look(|inner| inner.waiting.len()), 9);
    subscription.set_window(Window::unordered(4.try_into().unwrap()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.look(|inner| inner.waiting.len()), 6);
    one.ack_confirmed().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_server_is_asked_less_and_less_often_and_at_once_when_it_wakes() {
    let server = Server::default();
    let options =
        TransportOptions::default().poll_interval(Duration::from_millis(10), Duration::from_secs(10));
    let mut subscription = subscribe(&server, options);
    assert!(subscription.next().now_or_never().is_none());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let fetches = server.look(|inner| inner.fetches);
    assert!((10..20).contains(&fetches), "{fetches}");
    let before = Instant::now();
    server.publish([1]);
    next(&mut subscription).await.ack();
    assert_eq!(before.elapsed(), Duration::ZERO);
}

/// A server that keeps a fetch until there is something.
struct Patient(Server);

#[async_trait]
impl Transport for Patient {
    type Id = u32;

    async fn fetch(&self, room: usize, closing: &CancellationToken) -> Result<Vec<Incoming<u32>>, Failure> {
        while self.0.look(|inner| inner.waiting.is_empty()) {
            tokio::select! {
                () = closing.cancelled() => return Ok(Vec::new()),
                () = self.0.1.notified() => {}
            }
        }
        self.0.fetch(room, closing).await
    }

    async fn record(&self, settled: &mut Vec<Settled<u32>>) -> Result<(), Failure> {
        self.0.record(settled).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_waits_by_itself_is_called_again_at_once_though_there_was_room_for_more() {
    let server = Server::default();
    let options = TransportOptions::default().fetch_waits();
    let mut subscription = subscribe_by(Patient(server.clone()), options);
    subscription.set_window(Window::unordered(10.try_into().unwrap()));
    let before = Instant::now();
    for id in 0..5 {
        server.publish([id]);
        next(&mut subscription).await.ack();
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.look(|inner| inner.fetches), 5, "it is not asked in vain");
    subscription.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn trouble_is_waited_out_and_shown_and_loses_nothing() {
    let server = Server::default();
    server.publish([1]);
    let mut subscription = subscribe(&server, TransportOptions::default());
    let delivery = next(&mut subscription).await;
    server.look(|inner| inner.troubles.extend([Trouble::Unavailable, Trouble::Refused]));
    let confirmed = tokio::spawn(delivery.ack_confirmed());
    let error = subscription.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SubscribeErrorKind::Unavailable);
    assert!(matches!(subscription.status().health, Health::Degraded { .. }));
    assert!(subscription.next().await.unwrap().is_err());
    confirmed.await.unwrap().unwrap();
    assert_eq!(server.look(|inner| inner.told.clone()), [(1, Outcome::Ack)]);
    assert_eq!(subscription.status().health, Health::Healthy);
}

#[tokio::test(start_paused = true)]
async fn what_the_caller_has_closed_ends_the_subscription() {
    let server = Server::default();
    server.look(|inner| inner.troubles.push_back(Trouble::Closed));
    let mut subscription = subscribe(&server, TransportOptions::default());
    assert_eq!(subscription.next().await.unwrap().unwrap_err().kind(), SubscribeErrorKind::Closed);
    assert!(subscription.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_in_hand_is_extended_and_what_is_lost_is_told() {
    let server = Server::default();
    server.publish([1]);
    let lease = Duration::from_secs(30);
    let mut subscription = subscribe(&server, TransportOptions::default().lease(Some(lease)));
    let delivery = next(&mut subscription).await;
    tokio::time::sleep(lease * 10).await;
    let extended = server.look(|inner| inner.extended.len());
    assert!((29..=30).contains(&extended), "{extended}");
    assert!(!delivery.is_lost());
    server.look(|inner| inner.lost.push(1));
    delivery.cancellation().cancelled().await;
    assert_eq!(delivery.ack_confirmed().await.unwrap_err().kind(), SettleErrorKind::Lost);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_freezes_while_something_is_in_hand_shows_within_the_lease() {
    let server = Server::default();
    server.publish([1]);
    let lease = Duration::from_secs(30);
    let mut subscription = subscribe(&server, TransportOptions::default().lease(Some(lease)));
    let delivery = next(&mut subscription).await;
    server.look(|inner| inner.frozen = true);
    tokio::time::sleep(lease / 2).await;
    assert_eq!(subscription.status().health, Health::Healthy);
    tokio::time::sleep(lease / 2).await;
    assert!(matches!(subscription.status().health, Health::Degraded { .. }));
    drop(delivery);
    assert_eq!(subscription.status().health, Health::Healthy, "nothing is in hand");
}

#[tokio::test(start_paused = true)]
async fn an_ack_that_comes_too_late_is_lost() {
    let server = Server::default();
    server.publish([1]);
    let mut subscription = subscribe(&server, TransportOptions::default());
    let delivery = next(&mut subscription).await;
    server.look(|inner| inner.lost.push(1));
    assert_eq!(delivery.ack_confirmed().await.unwrap_err().kind(), SettleErrorKind::Lost);
}

#[tokio::test(start_paused = true)]
async fn a_close_gives_everything_back_and_says_goodbye_last() {
    let server = Server::default();
    server.publish([1, 2]);
    let mut subscription = subscribe(&server, TransportOptions::default());
    subscription.set_window(Window::unordered(2.try_into().unwrap()));
    next(&mut subscription).await.ack();
    let held = next(&mut subscription).await;
    subscription.close().await.unwrap();
    assert_eq!(server.look(|inner| inner.told.clone()), [(1, Outcome::Ack), (2, nack())]);
    assert!(server.look(|inner| inner.closed));
    assert!(held.is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_holds_up_the_end_for_a_bounded_time() {
    let server = Server::default();
    server.publish([1]);
    let close_timeout = Duration::from_secs(3);
    let mut subscription = subscribe(&server, TransportOptions::default().close_timeout(close_timeout));
    server.look(|inner| inner.frozen = true);
    next(&mut subscription).await.ack();
    let before = Instant::now();
    assert_eq!(subscription.close().await.unwrap_err().kind(), SubscribeErrorKind::Unavailable);
    assert_eq!(before.elapsed(), close_timeout);
}
