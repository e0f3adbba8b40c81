//! Where nobody listens.

use watermill_core::{Handler, Message, Publisher};
use watermill_telemetry::traces::Traces;
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

use crate::support::{router, run};

#[tokio::test]
async fn where_nobody_listens_messages_are_as_they_were() {
    let _nobody = tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::default());
    let source = ScriptedSubscriber::new();
    source.push(Message::with_id("1", "x"));
    let invoices = RecordingPublisher::new();
    let handler = Handler::new("bill", async |_: Message| Message::with_id("invoice", "x"))
        .from(source.clone(), "orders")
        .to(invoices.clone(), "invoices");
    run(router().add(handler), &source, 1).await;
    Traces::new()
        .publisher(invoices.clone())
        .publish("invoices", vec![Message::with_id("a", "x"), Message::with_id("b", "x")])
        .await
        .unwrap();
    for message in invoices.published("invoices") {
        assert!(message.metadata().is_empty(), "{message:?}");
    }
}
