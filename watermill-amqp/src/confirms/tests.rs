use futures::channel::oneshot;
use lapin::{BasicProperties, message::Delivery};
use tokio::sync::Semaphore;
use watermill_core::{Message, backend::Trouble};

use super::*;
use crate::{error::classify, marshaler, sent::Answer};

const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// The server's side of a call: one answer for each message.
type Server = Vec<oneshot::Sender<lapin::Result<Confirmation>>>;

fn line() -> Confirms {
    Confirms::start(CONFIRM_TIMEOUT, Blocked::default())
}

fn message(id: &str) -> Message {
    Message::with_id(id, "x")
}

fn call(line: &Confirms, exchange: &str, messages: Vec<Message>) -> (Server, Answer) {
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let deadline = Instant::now() + CONFIRM_TIMEOUT;
    let (server, confirms) = messages
        .iter()
        .map(|_| {
            let (answer, answered) = oneshot::channel();
            let confirm: Awaited = Box::pin(async { answered.await.unwrap() });
            (answer, confirm)
        })
        .unzip();
    let (sent, answer) = Sent::new(exchange.into(), "k".into(), messages, deadline, place);
    line.send(sent, confirms).unwrap();
    (server, answer)
}

fn returned(exchange: &str, message: &Message) -> BasicReturnMessage {
    let mut delivery = Delivery::mock(0, exchange.into(), "k".into(), false, message.payload().to_vec());
    delivery.properties = properties(message);
    BasicReturnMessage { delivery, reply_code: 312, reply_text: "NO_ROUTE".into() }
}

fn properties(message: &Message) -> BasicProperties {
    marshaler::write(message, true, 100).unwrap().properties
}

/// The server confirms the next message of a call, and the client has that carry something.
fn confirm(server: &mut Server, carried: Option<BasicReturnMessage>) {
    let _ = server.remove(0).send(Ok(Confirmation::Ack(carried)));
}

async fn told(answer: Answer) -> Result<(), Trouble> {
    answer.await.unwrap().map_err(|fault| classify(fault).trouble())
}

#[tokio::test(start_paused = true)]
async fn what_was_returned_is_told_to_the_call_that_has_sent_it_whoever_carries_it() {
    let line = line();
    let (mut first, first_told) = call(&line, "heard", vec![message("1")]);
    let (mut second, second_told) = call(&line, "lonely", vec![message("1")]);
    confirm(&mut first, Some(returned("lonely", &message("1"))));
    assert_eq!(told(first_told).await, Ok(()));
    confirm(&mut second, None);
    assert_eq!(told(second_told).await, Err(Trouble::Topic));
}

#[tokio::test(start_paused = true)]
async fn what_a_later_confirm_carries_is_seen_before_a_call_is_complete() {
    let line = line();
    let (mut first, first_told) = call(&line, "lonely", vec![message("1")]);
    let (mut second, _second_told) = call(&line, "heard", vec![message("2"), message("3")]);
    confirm(&mut second, Some(returned("lonely", &message("1"))));
    confirm(&mut first, None);
    assert_eq!(told(first_told).await, Err(Trouble::Topic));
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_alike_are_returned_in_the_order_in_which_they_went() {
    let line = line();
    let (mut first, first_told) = call(&line, "t", vec![message("1"), message("1")]);
    let (mut second, second_told) = call(&line, "t", vec![message("1")]);
    confirm(&mut first, Some(returned("t", &message("1"))));
    confirm(&mut first, None);
    let Err(Fault::Partly { positions, .. }) = first_told.await.unwrap() else { panic!("one was returned") };
    assert_eq!(positions, [0, 1], "the second has no key either");
    confirm(&mut second, None);
    assert_eq!(told(second_told).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn metadata_of_any_name_hide_no_message_that_was_returned() {
    let line = line();
    let like_the_brokers = message("1").with_metadata("x-first-death-queue", "q");
    let (mut server, answer) = call(&line, "t", vec![like_the_brokers.clone()]);
    confirm(&mut server, Some(returned("t", &like_the_brokers)));
    assert_eq!(told(answer).await, Err(Trouble::Topic));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_late_fails_alone_while_others_are_confirmed() {
    let line = line();
    let (mut late, late_told) = call(&line, "stuck", vec![message("1")]);
    let (mut other, other_told) = call(&line, "t", vec![message("2")]);
    tokio::time::sleep(CONFIRM_TIMEOUT / 2).await;
    confirm(&mut other, None);
    let (mut third, third_told) = call(&line, "stuck", vec![message("1")]);
    assert_eq!(told(late_told).await, Err(Trouble::Timeout));
    assert_eq!(told(other_told).await, Ok(()));
    // What was late comes back, and is not taken for the same message of the call that is in progress.
    confirm(&mut late, Some(returned("stuck", &message("1"))));
    confirm(&mut third, None);
    assert_eq!(told(third_told).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_confirms_nothing_is_given_up_with_all_calls() {
    let line = line();
    let (_silent, answer) = call(&line, "t", vec![message("1")]);
    tokio::time::sleep(CONFIRM_TIMEOUT / 2).await;
    let (_behind, answer_behind) = call(&line, "t", vec![message("2")]);
    let fault = answer.await.unwrap().unwrap_err();
    assert!(fault.ends_channel(), "{fault:?}");
    assert_eq!(told(answer_behind).await, Err(Trouble::Timeout));
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let (sent, _answer) = Sent::new("t".into(), "k".into(), Vec::new(), Instant::now(), place);
    assert!(matches!(line.send(sent, Vec::new()), Err(Fault::GivenUp)));
}

#[tokio::test(start_paused = true)]
async fn a_large_call_costs_a_look_at_each_confirm_and_not_at_all_of_them_each_time() {
    const MESSAGES: usize = 20_000;
    let line = line();
    let looks = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (mut server, confirms): (Server, Vec<Awaited>) = (0..MESSAGES)
        .map(|_| {
            let (answer, mut answered) = oneshot::channel();
            let looks = looks.clone();
            let confirm: Awaited = Box::pin(std::future::poll_fn(move |cx| {
                looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Pin::new(&mut answered).poll(cx).map(|answer| answer.unwrap())
            }));
            (answer, confirm)
        })
        .unzip();
    let messages = (0..MESSAGES).map(|n| message(&n.to_string())).collect();
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let (sent, answer) = Sent::new("t".into(), "k".into(), messages, Instant::now() + CONFIRM_TIMEOUT, place);
    line.send(sent, confirms).unwrap();
    while !server.is_empty() {
        confirm(&mut server, None);
        tokio::task::yield_now().await;
    }
    assert_eq!(told(answer).await, Ok(()));
    // The one that sends it, the one that begins to wait, and the one that finds it.
    let looks = looks.load(std::sync::atomic::Ordering::Relaxed);
    assert!(looks <= 3 * MESSAGES, "{looks}");
}
