//! What a log says of the message that was being handled.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tracing::Span;
use tracing_subscriber::fmt::MakeWriter;
use watermill_core::{
    Handler, HandlerInfo, Message, Outputs, Publisher, Router,
    error::{BoxError, PublishError},
    message::{Forwarding, Spans},
    publisher::PublisherCapabilities,
};
use watermill_testkit::ScriptedSubscriber;

/// Lines of a log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The line with this text.
    fn line(&self, text: &str) -> String {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        log.lines()
            .find(|line| line.contains(text))
            .unwrap_or_else(|| panic!("no {text:?} in {log}"))
            .to_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Log {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

/// Publishes nowhere, and says so.
struct Telling;

#[async_trait::async_trait]
impl Publisher for Telling {
    async fn publish(&self, _: &str, _: Vec<Message>) -> Result<(), PublishError> {
        tokio::task::yield_now().await;
        tracing::info!("the publisher speaks");
        Ok(())
    }

    async fn close(&self) -> Result<(), PublishError> {
        Ok(())
    }

    fn capabilities(&self) -> PublisherCapabilities {
        PublisherCapabilities::new("telling").keeps_order(true)
    }
}

/// Runs a handler on message `m-7` until it is settled, and returns what was logged.
async fn logged<F, R>(handler: F, concurrency: Option<usize>) -> Log
where
    F: FnMut(Message) -> R + Send + 'static,
    R: Future<Output = Result<Outputs, BoxError>> + Send + 'static,
{
    logged_by(Router::new(), handler, concurrency).await
}

/// The same in a router that is made ready.
async fn logged_by<F, R>(router: Router, handler: F, concurrency: Option<usize>) -> Log
where
    F: FnMut(Message) -> R + Send + 'static,
    R: Future<Output = Result<Outputs, BoxError>> + Send + 'static,
{
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let source = ScriptedSubscriber::new();
    source.push(Message::with_id("m-7", "payload"));
    let mut handler = Handler::service("billing", tower::service_fn(handler))
        .from(source.clone(), "orders")
        .to(Telling, "invoices");
    if let Some(n) = concurrency {
        handler = handler.concurrency(n);
    }
    let stop = CancellationToken::new();
    let stopped = async {
        source.settled(1).await;
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(router.add(handler).run_until(stop.cancelled()), stopped);
    ran.unwrap();
    log
}

const SPAN: &str = r#"delivery{handler="billing" topic="orders" message_id="m-7" attempt=1}"#;

#[tokio::test]
async fn a_line_of_a_handler_and_of_its_publisher_says_which_message_it_is_about() {
    for concurrency in [None, Some(4)] {
        let log = logged(
            async |message: Message| {
                tracing::info!("the handler begins");
                tokio::task::yield_now().await;
                tracing::info!("the handler goes on");
                Ok(message.into())
            },
            concurrency,
        )
        .await;
        for text in ["the handler begins", "the handler goes on", "the publisher speaks"] {
            let line = log.line(text);
            assert!(line.contains(SPAN), "{line}");
        }
    }
}

#[tokio::test]
async fn a_line_of_the_worker_carries_the_id() {
    let log = logged(async |_| Err("out of stock".into()), None).await;
    let line = log.line("the message will be delivered again");
    assert!(line.contains("m-7") && line.contains("billing") && line.contains("out of stock"), "{line}");
}

/// Makes spans of its own, and notes which try has failed, and why.
#[derive(Clone, Default)]
struct Theirs(Arc<Mutex<Vec<String>>>);

impl Spans for Theirs {
    fn process(&self, handler: &HandlerInfo, messages: &[Message]) -> Span {
        tracing::info_span!("theirs", handler = handler.name, messages = messages.len())
    }

    fn forward(&self, _: &Forwarding<'_>) -> Span {
        Span::none()
    }

    fn forwarded(&self, _: &Span, _: Option<Duration>) {}

    fn failed(&self, span: &Span, error: &(dyn std::error::Error + 'static)) {
        let name = span.metadata().map_or("none", |metadata| metadata.name());
        self.0.lock().unwrap().push(format!("{name}: {error}"));
    }
}

#[tokio::test]
async fn a_router_has_its_spans_made_by_whoever_it_is_told() {
    for concurrency in [None, Some(4)] {
        let theirs = Theirs::default();
        let handler = async |message: Message| {
            tokio::task::yield_now().await;
            tracing::info!("the handler goes on");
            Ok(message.into())
        };
        let log = logged_by(Router::new().spans(theirs.clone()), handler, concurrency).await;
        for text in ["the handler goes on", "the publisher speaks"] {
            let line = log.line(text);
            assert!(line.contains(r#"theirs{handler="billing" messages=1}"#), "{line}");
            assert!(!line.contains("delivery{"), "{line}");
        }
        assert!(theirs.0.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn whoever_makes_the_spans_is_told_once_of_a_try_that_fails() {
    let theirs = Theirs::default();
    let handler = async |_| Err("out of stock".into());
    let log = logged_by(Router::new().spans(theirs.clone()), handler, None).await;
    assert_eq!(*theirs.0.lock().unwrap(), ["theirs: out of stock"]);
    assert!(log.line("the message will be delivered again").contains("m-7"));
}
