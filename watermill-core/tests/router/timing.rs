//! How long tries take, for whoever wants to know.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::sleep;
use watermill_core::{
    FailurePolicy, Handler, HandlerInfo, Message, Router, error::BoxError, middleware::PoisonQueue,
    router::TryTimer,
};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::{Running, message, router};

/// Handler, milliseconds, success.
#[derive(Clone, Default)]
struct Tries(Arc<Mutex<Vec<(String, u128, bool)>>>);

struct Timer(String, Tries);

impl TryTimer for Timer {
    fn ended(&self, took: Duration, has_succeeded: bool) {
        self.1.0.lock().unwrap().push((self.0.clone(), took.as_millis(), has_succeeded));
    }
}

impl Tries {
    fn of(&self, router: Router) -> Router {
        let tries = self.clone();
        router.time_tries(move |handler: &HandlerInfo| Timer(handler.name.clone(), tries.clone()))
    }

    fn take(&self) -> Vec<(String, u128, bool)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Takes as many milliseconds as its payload says and then succeeds, or does what it says.
async fn by_payload(message: Message) -> Result<Message, BoxError> {
    match std::str::from_utf8(message.payload())? {
        "fail" => {
            sleep(Duration::from_millis(7)).await;
            Err("asked to".into())
        }
        "panic" => panic!("asked to"),
        "panic late" => {
            sleep(Duration::from_millis(9)).await;
            panic!("asked to")
        }
        millis => {
            sleep(Duration::from_millis(millis.parse()?)).await;
            Ok(message)
        }
    }
}

fn handler(name: &str, source: &ScriptedSubscriber, out: RecordingPublisher) -> Router {
    let policy = FailurePolicy::retry(0).then_drop();
    router().add(Handler::new(name, by_payload).from(source.clone(), "in").to(out, "out").on_failure(policy))
}

#[tokio::test(start_paused = true)]
async fn each_try_is_timed_from_its_call_to_its_answer_and_its_outputs_are_not() {
    let (tries, source) = (Tries::default(), ScriptedSubscriber::new());
    let payloads = ["20", "fail", "0", "panic", "panic late", "30"];
    payloads.into_iter().for_each(|payload| source.push(Message::new(payload)));
    let out = RecordingPublisher::new().with_latency(Duration::from_secs(1));
    let running = Running::start(tries.of(handler("bill", &source, out))).await;
    source.settled(payloads.len()).await;
    let wanted = [(20, true), (7, false), (0, true), (0, false), (9, false), (30, true)];
    assert_eq!(tries.take(), wanted.map(|(millis, success)| ("bill".to_owned(), millis, success)));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_waited_for_between_two_tries_is_in_neither() {
    async fn at_once() {}
    let (tries, source) = (Tries::default(), ScriptedSubscriber::new());
    let running =
        Running::start(tries.of(router()).add(Handler::new("quick", at_once).from(source.clone(), "in")))
            .await;
    for number in 1..=3 {
        source.push(message(number));
        source.settled(number).await;
        sleep(Duration::from_secs(60)).await;
    }
    assert_eq!(tries.take(), [(); 3].map(|()| ("quick".to_owned(), 0, true)));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn retries_are_timed_one_by_one_without_the_pauses() {
    let (tries, source) = (Tries::default(), ScriptedSubscriber::new());
    source.push(Message::new("fail"));
    let handler = Handler::new("bill", by_payload)
        .from(source.clone(), "in")
        .to(RecordingPublisher::new(), "out")
        .on_failure(FailurePolicy::retry(2).then_drop());
    let running = Running::start(tries.of(router()).add(handler)).await;
    source.settled(1).await;
    assert_eq!(tries.take(), [(); 3].map(|()| ("bill".to_owned(), 7, false)));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn tries_side_by_side_are_timed_each_by_itself() {
    let (tries, source) = (Tries::default(), ScriptedSubscriber::new());
    ["300", "200", "100"].into_iter().for_each(|payload| source.push(Message::new(payload)));
    let handler = Handler::new("bill", by_payload)
        .from(source.clone(), "in")
        .to(RecordingPublisher::new(), "out")
        .concurrency(3);
    let running = Running::start(tries.of(router()).add(handler)).await;
    source.settled(3).await;
    assert_eq!(tries.take(), [100, 200, 300].map(|millis| ("bill".to_owned(), millis, true)));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_try_whose_message_a_layer_dead_letters_has_not_succeeded() {
    let (tries, source) = (Tries::default(), ScriptedSubscriber::new());
    let payloads = ["fail", "panic", "panic late", "30"];
    payloads.into_iter().for_each(|payload| source.push(Message::new(payload)));
    let handler = Handler::new("bill", by_payload)
        .from(source.clone(), "in")
        .to(RecordingPublisher::new(), "out")
        .layer(PoisonQueue::new(RecordingPublisher::new(), "dead").unwrap());
    let running = Running::start(tries.of(router()).add(handler)).await;
    source.settled(payloads.len()).await;
    let wanted = [(7, false), (0, false), (9, false), (30, true)];
    assert_eq!(tries.take(), wanted.map(|(millis, success)| ("bill".to_owned(), millis, success)));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn outputs_name_their_handler_where_tries_are_timed() {
    for (timed, expected) in [(false, None), (true, Some("bill"))] {
        let (source, out) = (ScriptedSubscriber::new(), RecordingPublisher::new());
        source.push(Message::new("new"));
        let handler = Handler::new("bill", async |_: Message| Message::new("invoice"))
            .from(source.clone(), "in")
            .to(out.clone(), "out");
        let router = if timed { Tries::default().of(router()) } else { router() };
        let running = Running::start(router.add(handler)).await;
        source.settled(1).await;
        let named = out.published("out")[0].handler().map(|handler| handler.name.clone());
        assert_eq!(named.as_deref(), expected);
        running.stop().await.unwrap();
    }
}
