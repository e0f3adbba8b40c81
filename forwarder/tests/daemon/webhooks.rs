//! Webhooks as a destination.

use futures::StreamExt as _;
use watermill_core::Subscriber as _;
use watermill_http::{HttpSubscriber, HttpSubscriberConfig};

use crate::support::{Place, SQLITE, text};

const SECRET: &str = "whsec_b3VyIHNlY3JldCBvZiBhdCBsZWFzdCAyNCBieXRlcw==";

#[tokio::test]
async fn what_goes_to_a_webhook_arrives_signed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks/{{topic}}", listener.local_addr().unwrap());
    let config_of_webhooks = HttpSubscriberConfig::default().verify_with([SECRET.parse().unwrap()]);
    let webhooks = HttpSubscriber::new(config_of_webhooks).unwrap();
    let app = axum::Router::new().route("/hooks/orders", webhooks.route("orders"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut subscription = webhooks.subscribe("orders").await.unwrap();
    let without = SQLITE
        .replace("sqlite:events.db", &url)
        .replace("create_topics = true\n", "")
        .replace("payload = \"bytes\"\n", &format!("password = \"{SECRET}\"\n"));
    let place = Place::with(&without).await;
    let checked = place.verb(&["check", "--connect"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    let daemon = place.start();
    place.publish("orders", (0..10).map(|number| number.to_string())).await;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 10 {
        let delivery = subscription.next().await.unwrap().unwrap();
        seen.insert(text(delivery.message().payload()).to_owned());
        delivery.ack();
    }
    daemon.stop().await;
    subscription.close().await.unwrap();
}

#[tokio::test]
async fn a_webhook_that_cannot_be_one_is_refused() {
    for (line, problem) in [
        ("url = \"http:///hooks\"", "url"),
        ("url = \"http://{topic}.localhost:1/\"", "{topic} stands in the path"),
        ("url = \"http://localhost:1/\"\npassword = \"short\"", "password"),
        ("url = \"http://localhost:1/\"\npartitions = 3", "partitions"),
    ] {
        let config =
            format!("[relay.shop.source]\nurl = \"sqlite:a.db\"\n[relay.shop.destination]\n{line}\n");
        let checked = Place::with(&config).await.verb(&["check"]);
        let said = text(&checked.stderr);
        assert!(checked.status.code() == Some(3) && said.contains(problem), "{line}: {said}");
        assert!(!said.contains("short"), "{said}");
    }
}
