//! Sets of handlers: layers around them, state given to them, names that clash.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tower::timeout::TimeoutLayer;
use watermill_core::{
    Handler, Handlers, Message, Router, State,
    middleware::Correlation,
    router::{Added, RunErrorKind},
};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::{Running, ids, message, router};

type Seen = Arc<Mutex<Vec<String>>>;

async fn see(State(seen): State<Seen>, message: Message) -> Message {
    seen.lock().unwrap().push(message.id().to_string());
    message
}

async fn nothing() {}

fn timeout() -> TimeoutLayer {
    TimeoutLayer::new(Duration::from_secs(60))
}

#[tokio::test]
async fn a_set_is_kept_merged_and_run_inside_of_the_routers_layers_with_its_state() {
    struct Module {
        handlers: Handlers<Seen>,
    }
    let (one, two, target) =
        (ScriptedSubscriber::new(), ScriptedSubscriber::new(), RecordingPublisher::new());
    one.push(message(1));
    two.push(message(2));
    let see = |name: &str, source: &ScriptedSubscriber| {
        Handler::new(name, see).from(source.clone(), "in").to(target.clone(), "out")
    };
    let inner = Module { handlers: Handlers::new().add(see("inner", &one)).layer(timeout()) };
    let outer = Handlers::new().merge(inner.handlers).add(see("outer", &two)).layer(Correlation::new());
    assert_eq!(outer.names().collect::<Vec<_>>(), ["inner", "outer"]);

    let seen = Seen::default();
    let router: Router<Seen, _> = router().layer(timeout()).with_state(seen.clone()).merge(outer);
    assert_eq!(
        router.to_string(),
        "scripted:in -> TimeoutLayer > Correlation > TimeoutLayer > inner -> recording:out (on failure: nack)\n\
         scripted:in -> TimeoutLayer > Correlation > outer -> recording:out (on failure: nack)\n"
    );
    let running = Running::start(router).await;
    one.settled(1).await;
    two.settled(1).await;
    let mut published = ids(&target.published("out"));
    published.sort();
    assert_eq!(published, ["1", "2"]);
    assert_eq!(seen.lock().unwrap().len(), 2);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn names_that_clash_are_told_at_the_start() {
    let set = || Handlers::new().add(Handler::new("twin", nothing).from(ScriptedSubscriber::new(), "in"));
    let error = router().merge(set()).merge(set()).run().await.unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Build);
    assert!(error.to_string().contains("two handlers are named \"twin\""), "{error}");
}

#[tokio::test]
async fn a_set_with_its_state_is_added_to_a_running_router_with_another() {
    let (source, seen, target) = (ScriptedSubscriber::new(), Seen::default(), RecordingPublisher::new());
    source.push(message(1));
    let router = router().with_state(7_u8).layer(Correlation::new());
    let router = router.add(Handler::new("taken", nothing).from(ScriptedSubscriber::new(), "in"));
    let handle = router.handle();
    let running = Running::start(router).await;
    let set = Handlers::<Seen>::new()
        .add(Handler::new("see", see).from(source.clone(), "in").to(target, "out"))
        .with_state(seen.clone())
        .add(Handler::new("taken", nothing).from(ScriptedSubscriber::new(), "in"));
    let added = handle.merge(set).await;
    assert_eq!(added[0].0, "see");
    assert_eq!(*added[0].1.as_ref().unwrap(), Added::Subscribed);
    assert_eq!(added[1].1.as_ref().unwrap_err().kind(), RunErrorKind::Build);
    source.settled(1).await;
    assert_eq!(*seen.lock().unwrap(), ["1"]);
    running.stop().await.unwrap();
}
