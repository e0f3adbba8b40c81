//! How fast webhooks go out and come in, beside hyper's client and a route of axum that are used by hand for the same work.
//!
//! ```text
//! cargo bench -p watermill-http --bench http -- [--json] [part of a figure's name]
//! ```
//!
//! Both ends are in this process, on one runtime, so that each figure has the cost of the other end in it, on both sides of its
//! ratio: what a publisher adds is measured at a route by hand, and what a route adds with a client by hand.

use std::{future::Future, time::Duration};

use axum::{Router as Routes, routing::post};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{net::TcpListener, runtime::Builder, time::Instant};
use watermill_core::{Handler, Message, Publisher as _, Router, Subscriber as _, Window, router::Phase};
use watermill_http::{HttpPublisher, HttpPublisherConfig, HttpSubscriber, HttpSubscriberConfig};
use watermill_testkit::{Figure, Figures, Limit, workload};

const MESSAGES: usize = 20_000;
/// Messages of one call.
const CALL: usize = 100;
/// Requests in progress at once.
const AT_ONCE: usize = 32;
/// Rounds, in which all take turns, so that what else the machine does hits all.
const ROUNDS: usize = 5;

const TOPIC: &str = "orders";

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let wanted = |name: &str| filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut figures = Figures::from_args();
    let figure = |name: &str, ours: Vec<Duration>, raw: Vec<Duration>, limit| {
        Figure::new(name, rate(ours), "messages per second").baseline(rate(raw)).limit(Limit::AtLeast(limit))
    };
    if wanted("http/publish") {
        let (mut ours, mut raw) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            raw.push(runtime.block_on(async { post_by_hand(&serve_by_hand().await, CALL).await }));
            ours.push(runtime.block_on(async { publish(&serve_by_hand().await).await }));
        }
        figures.push(figure("http/publish", ours, raw, 0.8));
    }
    if wanted("http/subscribe") || wanted("http/router") {
        let (mut ours, mut router, mut raw) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            raw.push(runtime.block_on(async { post_by_hand(&serve_by_hand().await, MESSAGES).await }));
            ours.push(runtime.block_on(subscribe()));
            router.push(runtime.block_on(route()));
        }
        figures.push(figure("http/subscribe", ours, raw.clone(), 0.8));
        figures.push(figure("http/router", router, raw, 0.7));
    }
    figures.print();
    assert!(figures.are_within(), "a figure misses its limit");
}

fn rate(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    workload::per_second(MESSAGES, times[times.len() / 2])
}

async fn serve(routes: Routes) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/hooks", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

/// A route by hand, which reads the body and answers.
async fn serve_by_hand() -> String {
    serve(Routes::new().route("/hooks", post(async |body: Bytes| drop(body)))).await
}

async fn measured(work: impl Future<Output = ()>) -> Duration {
    let begun = Instant::now();
    work.await;
    begun.elapsed()
}

/// The client by hand, with the same headers, as many connections, and calls that wait for each other.
async fn post_by_hand(url: &str, of_a_call: usize) -> Duration {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(AT_ONCE)
        .build(connector);
    let post = async |message: Message| {
        let metadata = serde_json::to_string(message.metadata()).expect("it is JSON");
        let request = Request::post(url)
            .header("message-uuid", message.id().as_str())
            .header("message-metadata", metadata)
            .body(Full::new(message.payload().clone()));
        let answer = client.request(request.expect("a request")).await.expect("an answer");
        assert!(answer.status().is_success());
        answer.into_body().collect().await.expect("it is empty");
    };
    let calls: Vec<_> = workload::calls(MESSAGES, of_a_call).collect();
    measured(async {
        for call in calls {
            stream::iter(call).for_each_concurrent(AT_ONCE, &post).await;
        }
    })
    .await
}

async fn publish(url: &str) -> Duration {
    let config = HttpPublisherConfig::default().concurrency(AT_ONCE);
    let publisher = HttpPublisher::new(config).expect("a valid config");
    let calls: Vec<_> = workload::calls(MESSAGES, CALL).collect();
    measured(async {
        for call in calls {
            publisher.publish(url, call).await.expect("it is accepted");
        }
    })
    .await
}

fn webhooks() -> HttpSubscriber {
    HttpSubscriber::new(HttpSubscriberConfig::default()).expect("a valid config")
}

async fn subscribe() -> Duration {
    let webhooks = webhooks();
    let url = serve(Routes::new().route("/hooks", webhooks.route(TOPIC))).await;
    let mut subscription = webhooks.subscribe(TOPIC).await.expect("it can be subscribed to");
    subscription.set_window(Window::unordered(AT_ONCE.try_into().expect("it is not 0")));
    tokio::spawn(async move {
        while let Some(Ok(delivery)) = subscription.next().await {
            delivery.ack();
        }
    });
    post_by_hand(&url, MESSAGES).await
}

async fn route() -> Duration {
    let webhooks = webhooks();
    let url = serve(Routes::new().route("/hooks", webhooks.route(TOPIC))).await;
    let handler = Handler::new("nothing", async |_: Message| {}).from(webhooks, TOPIC).concurrency(AT_ONCE);
    let router = Router::new().add(handler);
    let control = router.control();
    let running = tokio::spawn(router.run_until(std::future::pending::<()>()));
    control.reached(Phase::Running).await;
    let time = post_by_hand(&url, MESSAGES).await;
    control.stop();
    running.await.expect("it does not panic").expect("it stops");
    time
}
