//! What is around a router's handlers: decorators and plugins.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use watermill_core::{
    Handler, HandlerInfo, Message, Router,
    error::BoxError,
    router::{Plugin, Report, RestartPolicy, RouterConfig, RouterControl, RunErrorKind},
};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::{Running, message, router};

async fn nothing() {}

async fn pass(message: Message) -> Message {
    message
}

#[tokio::test]
async fn messages_pass_decorators_in_the_order_they_were_added_in_both_directions() {
    // P26.
    use watermill_core::decorator::{TransformPublisher, TransformSubscriber};
    fn mark(name: &'static str) -> impl Fn(&mut Message) + Clone + Send + Sync + 'static {
        move |message: &mut Message| {
            let path = message.metadata().get("path").unwrap_or_default().to_owned();
            message.metadata_mut().insert("path", path + name);
        }
    }
    let (source, target) = (ScriptedSubscriber::new(), RecordingPublisher::new());
    source.push(message(1));
    let router = router()
        .decorate_subscribers(|inner| TransformSubscriber::new(inner, mark("a")))
        .decorate_subscribers(|inner| TransformSubscriber::new(inner, mark("b")))
        .decorate_publishers(|inner| TransformPublisher::new(inner, mark("c")))
        .decorate_publishers(|inner| TransformPublisher::new(inner, mark("d")))
        .add(Handler::new("pass", pass).from(source.clone(), "in").to(target.clone(), "out"));
    let running = Running::start(router).await;
    source.settled(1).await;
    assert_eq!(target.published("out")[0].metadata().get("path"), Some("abcd"));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn plugins_see_the_start_the_failures_and_the_end() {
    #[derive(Clone, Default)]
    struct Witness(Arc<Mutex<Vec<String>>>);
    #[async_trait]
    impl Plugin for Witness {
        async fn on_start(&self, control: &RouterControl) -> Result<(), BoxError> {
            self.0.lock().unwrap().push(format!("start {:?}", control.phase()));
            Ok(())
        }
        fn on_handler_failed(&self, handler: &HandlerInfo, _error: &str) {
            self.0.lock().unwrap().push(format!("failed {}", handler.name));
        }
        async fn on_stop(&self, report: &Report) {
            self.0.lock().unwrap().push(format!("stop {}", report.handlers.len()));
        }
    }
    struct Refusing;
    #[async_trait]
    impl Plugin for Refusing {
        async fn on_start(&self, _: &RouterControl) -> Result<(), BoxError> {
            Err("the port is taken".into())
        }
    }
    let (source, witness) = (ScriptedSubscriber::new(), Witness::default());
    source.end();
    let config = RouterConfig::default().restart(RestartPolicy::never());
    let router = router().with_config(config).plugin(witness.clone());
    let router = router.add(Handler::new("only", nothing).from(source, "in"));
    router.run().await.unwrap_err();
    assert_eq!(*witness.0.lock().unwrap(), ["start Starting", "failed only", "stop 1"]);

    let source = ScriptedSubscriber::new();
    let router = Router::new().plugin(Refusing).add(Handler::new("only", nothing).from(source.clone(), "in"));
    let error = router.run().await.unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Plugin);
    assert_eq!(source.subscribe_calls(), 0);
}
