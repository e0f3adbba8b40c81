//! What the pages answer.

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::service::Service as _;
use serde_json::{Value, json};
use tower::ServiceExt;
use watermill_core::{
    Handler, MemoryBroker, Router, Subscriber,
    router::{Phase, Report, RouterControl},
    subscription::Health,
};
use watermill_forwarder::Forwarder;
use watermill_telemetry::{Metrics, Pages, Watched};
use watermill_testkit::{RecordingPublisher, ScriptedSubscriber};

/// The status and the body of a path.
async fn get(pages: &Pages, path: &str) -> (u16, String) {
    let request = hyper::Request::get(path).body(()).unwrap();
    let page = pages.call(request).await.unwrap();
    let status = page.status().as_u16();
    (status, String::from_utf8(page.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

async fn statuses(pages: &Pages) -> (u16, u16) {
    (get(pages, "/health/live").await.0, get(pages, "/health/ready").await.0)
}

/// The part of this name.
async fn part(pages: &Pages, name: &str) -> Value {
    let health: Value = serde_json::from_str(&get(pages, "/health/ready").await.1).unwrap();
    let part = health["parts"].as_array().unwrap().iter().find(|part| part["name"] == name);
    part.unwrap_or_else(|| panic!("{name} is not in {health}")).clone()
}

async fn run(router: Router) -> (RouterControl, tokio::task::JoinHandle<bool>) {
    let control = router.control();
    let task = tokio::spawn(async { router.run().await.is_ok() });
    control.reached(Phase::Running).await;
    (control, task)
}

fn handler(name: &str, source: &ScriptedSubscriber) -> Router {
    Router::new().add(Handler::new(name, async || {}).from(source.clone(), "in"))
}

#[tokio::test(start_paused = true)]
async fn a_service_is_ready_once_it_runs_and_until_it_drains() {
    let router = handler("bill", &ScriptedSubscriber::new());
    let pages = Pages::new(Watched::new().router(router.control()));
    assert_eq!(statuses(&pages).await, (200, 503), "it has not started");
    let (control, task) = run(router).await;
    assert_eq!(statuses(&pages).await, (200, 200));
    let bill = part(&pages, "bill").await;
    let wanted = json!({
        "kind": "handler", "name": "bill", "state": "healthy", "topic": "in", "in_flight": 0, "restarts": 0
    });
    assert_eq!(bill, wanted);
    control.stop();
    assert!(task.await.unwrap());
    assert_eq!(statuses(&pages).await, (503, 503), "a router that has ended is not started again");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_has_ended_is_dead_and_says_why() {
    let (ending, staying) = (ScriptedSubscriber::new(), ScriptedSubscriber::new());
    let router = handler("ends", &ending)
        .add(Handler::new("stays", async || {}).from(staying.clone(), "in"))
        .add(Handler::new("stopped", async || {}).from(staying.clone(), "in"));
    let pages = Pages::new(Watched::new().router(router.control()));
    let (control, task) = run(router).await;
    control.stop_handler("stopped").await.unwrap();
    assert_eq!(statuses(&pages).await, (200, 200), "one that was asked to end has not failed");

    ending.close().await.unwrap();
    // Everything else is idle: the paused clock goes on when nothing is left to do.
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(statuses(&pages).await, (503, 503));
    let ends = part(&pages, "ends").await;
    assert_eq!((&ends["kind"], &ends["state"]), (&json!("handler"), &json!("ended")));
    assert!(ends["reason"].is_string(), "{ends}");
    assert_eq!(part(&pages, "stays").await["state"], "healthy");
    control.stop();
    assert!(!task.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_service_of_which_a_handler_has_failed_is_dead_however_many_others_end_after_it() {
    let (ending, staying) = (ScriptedSubscriber::new(), ScriptedSubscriber::new());
    let router = handler("ends", &ending).add(Handler::new("stays", async || {}).from(staying.clone(), "in"));
    let handle = router.handle();
    let pages = Pages::new(Watched::new().router(router.control()));
    let (control, task) = run(router).await;
    ending.close().await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    for number in 0..Report::MAX {
        let name = number.to_string();
        handle.add(Handler::new(&*name, async || {}).from(staying.clone(), "in")).await.unwrap();
        control.stop_handler(&name).await.unwrap();
    }
    assert!(control.report().handler("ends").is_none(), "the router has forgotten it");
    assert_eq!(statuses(&pages).await, (503, 503));
    let health: Value = serde_json::from_str(&get(&pages, "/health/live").await.1).unwrap();
    let parts = health["parts"].as_array().unwrap();
    let forgotten = parts.iter().find(|part| part["state"] == "ended").unwrap();
    assert_eq!(forgotten["reason"], "1 handlers that ended long ago have failed");
    control.stop();
    assert!(!task.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_is_degraded_is_alive_and_ready() {
    let degraded = || Health::Degraded { reason: "the database is away".to_owned() };
    let pages = Pages::new(Watched::new().check("pool", degraded));
    assert_eq!(statuses(&pages).await, (200, 200));
    let wanted =
        json!({"kind": "check", "name": "pool", "state": "degraded", "reason": "the database is away"});
    assert_eq!(part(&pages, "pool").await, wanted);
    let ended = Pages::new(Watched::new().check("pool", || Health::Ended));
    assert_eq!(statuses(&ended).await, (503, 503));
}

#[tokio::test(start_paused = true)]
async fn a_handler_whose_server_is_away_is_degraded() {
    use watermill_core::router::{RouterConfig, StartPolicy};

    let source = ScriptedSubscriber::new();
    source.fail_subscribe(1_000, watermill_core::error::SubscribeErrorKind::Unavailable);
    let config = RouterConfig::default().start(StartPolicy::Retry(Default::default()));
    let router = handler("bill", &source).with_config(config);
    let pages = Pages::new(Watched::new().router(router.control()));
    let (control, task) = run(router).await;
    assert_eq!(statuses(&pages).await, (200, 200));
    assert_eq!(part(&pages, "bill").await["state"], "degraded");
    control.stop();
    task.await.unwrap();
}

#[tokio::test]
async fn a_relay_is_ready_while_it_runs_and_dead_once_it_has_ended() {
    let broker = MemoryBroker::new();
    let forwarder = Forwarder::builder(broker.subscriber(), RecordingPublisher::new())
        .dead_letters(RecordingPublisher::new())
        .build()
        .unwrap();
    let control = forwarder.control();
    let pages = Pages::new(Watched::new().relay("outbox", control.clone()));
    assert_eq!(statuses(&pages).await, (200, 503));
    let task = tokio::spawn(async move { forwarder.run_until(std::future::pending()).await });
    control.reached(Phase::Running).await;
    assert_eq!(statuses(&pages).await, (200, 200));
    assert_eq!(part(&pages, "outbox").await["kind"], "relay");
    control.stop();
    task.await.unwrap().unwrap();
    assert_eq!(statuses(&pages).await, (503, 503));
}

#[tokio::test]
async fn subscriptions_without_a_router_are_shown_from_before_they_begin_until_after_they_have_ended() {
    let source = ScriptedSubscriber::new();
    let pages = Pages::new(Watched::new().subscriber("audit", source.clone()));
    let states = async || {
        let health: Value = serde_json::from_str(&get(&pages, "/health/ready").await.1).unwrap();
        let parts = health["parts"].as_array().unwrap().iter();
        parts.map(|part| format!("{} {}", part["state"], part["topic"]).replace('"', "")).collect::<Vec<_>>()
    };
    assert_eq!(states().await, ["starting null"]);
    assert_eq!(statuses(&pages).await, (200, 200), "it may subscribe when it likes");
    let orders = source.subscribe("orders").await.unwrap();
    let mails = source.subscribe("mails").await.unwrap();
    assert_eq!(states().await, ["healthy orders", "healthy mails"]);
    assert_eq!(part(&pages, "audit").await["kind"], "subscription");
    assert_eq!(statuses(&pages).await, (200, 200));
    // One of two is missed as the only one is.
    drop(mails);
    assert_eq!(states().await, ["healthy orders", "ended mails"]);
    assert_eq!(statuses(&pages).await, (503, 503));
    drop(orders);
    assert_eq!(states().await, ["ended mails", "ended orders"]);
    assert!(part(&pages, "audit").await["reason"].is_string());
    let _again = (source.subscribe("orders").await.unwrap(), source.subscribe("mails").await.unwrap());
    assert_eq!(statuses(&pages).await, (200, 200), "somebody has started them again");
}

#[tokio::test(start_paused = true)]
async fn the_metrics_of_what_is_watched_are_up_to_date_whenever_they_are_asked_for() {
    let (metrics, router) = (Metrics::prometheus(), handler("bill", &ScriptedSubscriber::new()));
    let pages = Pages::new(Watched::new().router(router.control())).metrics(&metrics);
    let (control, task) = run(router).await;
    let (status, page) = get(&pages, "/metrics").await;
    assert_eq!(status, 200);
    assert!(page.contains("watermill_handler_up{handler_name=\"bill\"} 1\n"), "{page}");
    control.stop();
    task.await.unwrap();
}

#[tokio::test]
async fn without_a_page_of_metrics_there_is_none() {
    let pages = Pages::new(Watched::new());
    assert_eq!(get(&pages, "/metrics").await.0, 404);
    assert_eq!(get(&pages.clone().metrics(&Metrics::new()), "/metrics").await.0, 404);
    assert_eq!(get(&pages, "/other").await.0, 404);
    let request = hyper::Request::post("/health/live").body(()).unwrap();
    let refused = pages.call(request).await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["allow"]),
        (405, &"GET, HEAD".parse().unwrap())
    );
}

#[tokio::test]
async fn the_router_of_axum_answers_the_same() {
    let pages = Pages::new(Watched::new()).metrics(&Metrics::prometheus());
    let app = axum::Router::new().merge(pages.into_router());
    for path in ["/health/live", "/health/ready", "/metrics"] {
        let request = axum::http::Request::get(path).body(Body::empty()).unwrap();
        assert_eq!(app.clone().oneshot(request).await.unwrap().status().as_u16(), 200, "{path}");
    }
    let request = axum::http::Request::get("/health/live").body(Body::empty()).unwrap();
    let answer = app.oneshot(request).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
}
