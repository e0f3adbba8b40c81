use std::sync::{Arc, Mutex};

use watermill_core::{Handler, Router, delivery::Outcome};
use watermill_layers::InstantAck;
use watermill_testkit::ScriptedSubscriber;

use crate::{Running, message};

#[tokio::test(start_paused = true)]
async fn a_message_is_acked_before_its_handler_runs_and_a_failure_brings_it_back_no_more() {
    let source = ScriptedSubscriber::new();
    source.push(message("a"));
    let before = Arc::new(Mutex::new(Vec::new()));
    let handler = {
        let (source, before) = (source.clone(), before.clone());
        move || {
            before.lock().unwrap().extend(source.outcomes());
            async { Err::<(), _>("too late") }
        }
    };
    let handler = Handler::new("handle", handler).from(source.clone(), "in").layer(InstantAck);
    let running = Running::start(Router::new().add(handler)).await;
    assert_eq!(source.settled(1).await, [("a".into(), Outcome::Ack)]);
    running.stop().await;
    assert_eq!(*before.lock().unwrap(), [("a".into(), Outcome::Ack)], "when the handler was called");
    assert_eq!(source.outcomes().len(), 1, "the nack was not passed on");
}
