use std::sync::{
    Arc, Mutex as BlockingMutex,
    atomic::{AtomicBool, AtomicUsize},
};

use futures::future::join_all;
use tokio::{
    sync::{Notify, mpsc},
    task::consume_budget,
    time::timeout,
};

use super::*;

/// A server that is there or away, and connections that are numbers.
#[derive(Default)]
struct Server {
    away: AtomicBool,
    /// Connecting takes until somebody is notified.
    hangs: AtomicBool,
    go_on: Notify,
    attempts: AtomicUsize,
}

#[derive(Clone)]
struct ToServer(Arc<Server>);

#[derive(Debug, PartialEq)]
enum Error {
    Lost,
    Refused,
}

#[async_trait]
impl Connect for ToServer {
    type Connection = usize;
    type Error = Error;

    async fn connect(&self) -> Result<usize, Error> {
        let attempt = self.0.attempts.fetch_add(1, Ordering::SeqCst) + 1;
        if self.0.hangs.load(Ordering::SeqCst) {
            self.0.go_on.notified().await;
        }
        if self.0.away.load(Ordering::SeqCst) { Err(Error::Lost) } else { Ok(attempt) }
    }

    fn is_lost(&self, error: &Error) -> bool {
        *error == Error::Lost
    }

    fn classify(&self, error: Error) -> Failure {
        match error {
            Error::Lost => Failure::because(Trouble::Unavailable, "away"),
            Error::Refused => Failure::because(Trouble::Refused, "no"),
        }
    }
}

fn server() -> (Arc<Server>, Arc<SharedConnection<ToServer>>) {
    let server = Arc::new(Server::default());
    let waits = Backoff::exponential(Duration::from_secs(1)).max(Duration::from_secs(4)).jitter(0.0);
    let connection = SharedConnection::new(ToServer(server.clone())).waits(waits);
    (server, Arc::new(connection))
}

async fn number(connection: &SharedConnection<ToServer>) -> Result<usize, Failure> {
    connection.call(async |number| Ok(number)).await
}

#[tokio::test]
async fn calls_share_a_connection_until_it_is_lost() {
    let (_, connection) = server();
    assert_eq!(number(&connection).await.unwrap(), 1);
    let refused = connection.call(async |_| Err::<(), _>(Error::Refused)).await.unwrap_err();
    assert_eq!(refused.trouble(), Trouble::Refused);
    assert_eq!(number(&connection).await.unwrap(), 1, "what the server refuses is no loss");
    connection.call(async |_| Err::<(), _>(Error::Lost)).await.unwrap_err();
    assert_eq!(number(&connection).await.unwrap(), 2);
}

#[tokio::test]
async fn a_connection_that_was_let_go_is_made_again_by_the_next_call() {
    let (_, connection) = server();
    assert_eq!(connection.release().await, None);
    assert_eq!(number(&connection).await.unwrap(), 1);
    assert_eq!(connection.release().await, Some(1));
    assert_eq!(number(&connection).await.unwrap(), 2);
}

#[tokio::test]
async fn what_an_earlier_connection_says_late_does_not_end_the_next() {
    let (_, connection) = server();
    let late = Arc::new(Notify::new());
    let slow = connection.call(async |_| {
        late.notified().await;
        Err::<(), _>(Error::Lost)
    });
    let mut slow = pin!(slow);
    assert!(poll!(&mut slow).is_pending());
    connection.call(async |_| Err::<(), _>(Error::Lost)).await.unwrap_err();
    assert_eq!(number(&connection).await.unwrap(), 2);
    late.notify_one();
    slow.await.unwrap_err();
    assert_eq!(number(&connection).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn callers_share_an_attempt_that_fails() {
    let (server, connection) = server();
    server.away.store(true, Ordering::SeqCst);
    server.hangs.store(true, Ordering::SeqCst);
    let mut calls = pin!(join_all((0..100).map(|_| number(&connection))));
    assert!(poll!(&mut calls).is_pending());
    server.go_on.notify_one();
    let failures =
        timeout(Duration::from_secs(1), calls).await.expect("they wait for one attempt, not for 100");
    assert!(failures.into_iter().all(|call| call.unwrap_err().text() == "away"));
    assert_eq!(server.attempts.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn waits_between_attempts_grow_and_begin_anew_once_connected() {
    let (server, connection) = server();
    server.away.store(true, Ordering::SeqCst);
    let mut waited = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        number(&connection).await.unwrap_err();
        waited.push(begun.elapsed().as_secs());
    }
    assert_eq!(waited, [0, 1, 2, 4, 4]);
    server.away.store(false, Ordering::SeqCst);
    number(&connection).await.unwrap();
    connection.call(async |_| Err::<(), _>(Error::Lost)).await.unwrap_err();
    let begun = Instant::now();
    number(&connection).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn calls_begin_in_the_order_of_their_first_polls_whatever_is_left_of_the_budget() {
    let (server, connection) = server();
    server.hangs.store(true, Ordering::SeqCst);
    let sent = Arc::new(BlockingMutex::new(Vec::new()));
    // More than a task may do before others have their turn.
    let calls = (0..300).map(|call| {
        let (connection, sent) = (connection.clone(), sent.clone());
        async move {
            let sending = async |_| {
                sent.lock().unwrap().push(call);
                Ok(())
            };
            connection.call(sending).await
        }
    });
    let mut calls = pin!(join_all(calls));
    assert!(poll!(&mut calls).is_pending());
    server.go_on.notify_one();
    calls.await;
    assert_eq!(*sent.lock().unwrap(), (0..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn calls_that_wait_for_room_in_the_client_are_sent_in_their_order_whatever_is_left_of_a_budget() {
    let (_, connection) = server();
    let (sender, mut receiver) = mpsc::channel(50);
    let sent = tokio::spawn(async move {
        let mut sent = Vec::new();
        while let Some(number) = receiver.recv().await {
            sent.push(number);
        }
        sent
    });
    let calls = (0..1_000).map(|number| {
        let (connection, sender) = (connection.clone(), sender.clone());
        async move {
            let call = async move |_| {
                sender.send(number).await.expect("somebody receives");
                // The budget of one task is for all calls that it waits for.
                for _ in 0..5 {
                    consume_budget().await;
                }
                Ok(())
            };
            connection.call(call).await.expect("it is sent");
        }
    });
    join_all(calls).await;
    drop(sender);
    let sent = sent.await.expect("it ends");
    assert!(sent.is_sorted() && sent.len() == 1_000, "{sent:?}");
}
