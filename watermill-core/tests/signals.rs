//! The `Signals` plugin, in a process of its own, because it sends signals to it.
#![cfg(all(unix, feature = "signal"))]

use std::{process::Command, sync::Arc};

use tokio::sync::Notify;
use watermill_core::{
    Handler, Message, Router, State,
    router::{Phase, RunErrorKind, Signals},
};
use watermill_testkit::ScriptedSubscriber;

fn send(signal: &str) {
    let sent = Command::new("kill").args([signal, &std::process::id().to_string()]).status();
    assert!(sent.expect("kill is installed").success());
}

async fn wait(State(go): State<Arc<Notify>>) {
    go.notified().await;
}

#[tokio::test]
async fn the_first_signal_drains_and_the_second_aborts() {
    let (source, go) = (ScriptedSubscriber::new(), Arc::new(Notify::new()));
    source.push(Message::new("x"));
    let start = || {
        let handler = Handler::new("wait", wait).from(source.clone(), "in");
        let router = Router::new().with_state(go.clone()).plugin(Signals::new()).add(handler);
        (router.control(), tokio::spawn(router.run()))
    };

    let (control, router) = start();
    source.await_handed_out(1).await;
    send("-TERM");
    control.reached(Phase::Draining).await;
    go.notify_one();
    let report = router.await.unwrap().expect("drained");
    assert_eq!(report.handler("wait").unwrap().counts.acked, 1);

    source.push(Message::new("y"));
    let (control, router) = start();
    source.await_handed_out(2).await;
    send("-INT");
    control.reached(Phase::Draining).await;
    send("-INT");
    let error = router.await.unwrap().expect_err("the handler never ends by itself");
    assert_eq!(error.kind(), RunErrorKind::Abandoned);
}
