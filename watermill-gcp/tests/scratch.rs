use google_cloud_auth::credentials::anonymous::Builder as Anonymous;
use google_cloud_pubsub::client::*;
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::{MessageStream, handler::Handler};
use std::time::{Duration, Instant};

struct Env { ep: String, topic: String, sub: String }
async fn setup(name: &str, ordered: bool) -> Env {
    let ep = format!("http://{}", watermill_testkit::Service::PUBSUB.url());
    let u = watermill_testkit::unique(name);
    let topic = format!("projects/p/topics/{u}");
    let sub = format!("projects/p/subscriptions/{u}");
    let ta = TopicAdmin::builder().with_endpoint(&ep).with_credentials(Anonymous::new().build()).build().await.unwrap();
    ta.create_topic().set_name(&topic).send().await.unwrap();
    let sa = SubscriptionAdmin::builder().with_endpoint(&ep).with_credentials(Anonymous::new().build()).build().await.unwrap();
    sa.create_subscription().set_name(&sub).set_topic(&topic).set_enable_message_ordering(ordered).set_ack_deadline_seconds(10).send().await.unwrap();
    Env { ep, topic, sub }
}
impl Env {
    async fn publisher(&self) -> Publisher { Publisher::builder(&self.topic).with_endpoint(&self.ep).with_credentials(Anonymous::new().build()).build().await.unwrap() }
    async fn subscriber(&self) -> Subscriber { Subscriber::builder().with_endpoint(&self.ep).with_credentials(Anonymous::new().build()).build().await.unwrap() }
}
async fn publish(p: &Publisher, from: usize, n: usize, key: &str) {
    let f: Vec<_> = (from..from+n).map(|i| p.publish(Message::new().set_data(i.to_string()).set_ordering_key(key))).collect();
    for x in f { x.await.unwrap(); }
}
async fn take(s: &mut MessageStream, n: usize, wait: Duration) -> Vec<(String, Handler, Message)> {
    let mut v = vec![];
    let end = tokio::time::Instant::now() + wait;
    while v.len() < n {
        match tokio::time::timeout_at(end, s.next()).await {
            Ok(Some(Ok((m, h)))) => v.push((String::from_utf8(m.data.to_vec()).unwrap(), h, m)),
            Ok(x) => { println!("end {x:?}"); break }
            Err(_) => break,
        }
    }
    v
}
fn ids(v: &[(String, Handler, Message)]) -> Vec<&str> { v.iter().map(|x| x.0.as_str()).collect() }
const S: Duration = Duration::from_secs(1);

#[tokio::test]
async fn e1() {
    let e = setup("e1", true).await; let p = e.publisher().await; let s = e.subscriber().await;
    publish(&p, 0, 10, "k").await;
    let mut st = s.subscribe(&e.sub).build();
    let t = Instant::now();
    let mut v = take(&mut st, 10, S).await;
    println!("E1 first {:?} {:?}", ids(&v), t.elapsed());
    println!("{:?} {:?}", v[0].2.message_id, v[0].2.publish_time);
    let z = v.remove(0); z.1.nack();
    let w = take(&mut st, 100, S*2).await;
    println!("E1 after nack of 0 (others held) {:?}", ids(&w));
    for x in w { x.1.ack() }
    for x in v { x.1.nack() }
    let w = take(&mut st, 100, S*2).await;
    println!("E1 after nack of rest, acked above {:?}", ids(&w));
}
#[tokio::test]
async fn e2() {
    let e = setup("e2", true).await; let p = e.publisher().await; let s = e.subscriber().await;
    publish(&p, 0, 10, "k").await;
    let mut st = s.subscribe(&e.sub).build();
    let v = take(&mut st, 10, S).await;
    for x in v { x.1.nack() }
    publish(&p, 10, 5, "k").await;
    let w = take(&mut st, 100, S*2).await;
    println!("E2 after nack of all, then publish 5 {:?}", ids(&w));
    for x in w { x.1.ack() }
    let w = take(&mut st, 100, S*2).await;
    println!("E2 after {:?}", ids(&w));
}
#[tokio::test]
async fn e3() {
    let e = setup("e3", true).await; let p = e.publisher().await; let s = e.subscriber().await;
    publish(&p, 0, 3, "k").await;
    let mut st = s.subscribe(&e.sub).build();
    let mut v = take(&mut st, 3, S).await;
    println!("E3 {:?}", ids(&v));
    let z = v.remove(0); z.1.nack();
    publish(&p, 3, 3, "k").await;
    let w = take(&mut st, 100, S).await;
    println!("E3 nack 0; publish 3,4,5; got {:?}", ids(&w));
    for x in v { x.1.nack() }
    let w2 = take(&mut st, 100, S).await;
    println!("E3 nack 1,2: {:?}", ids(&w2));
    for x in w { x.1.nack() }
    let w3 = take(&mut st, 100, S).await;
    println!("E3 nack those: {:?}", ids(&w3));
}
#[tokio::test]
async fn e6() {
    let e = setup("e6", true).await; let p = e.publisher().await; let s = e.subscriber().await;
    publish(&p, 0, 50, "k").await; publish(&p, 50, 50, "").await;
    let mut st = s.subscribe(&e.sub).set_max_outstanding_messages(5).build();
    let v = take(&mut st, 100, S).await;
    println!("E6 with 5 {:?}", ids(&v));
    for x in v { x.1.ack() }
    let v = take(&mut st, 100, S).await;
    println!("E6 then {:?}", ids(&v));
}
#[tokio::test]
async fn e7() {
    let e = setup("e7", true).await; let p = e.publisher().await;
    println!("E7 empty {:?}", p.publish(Message::new()).await);
    println!("E7 attr empty val {:?}", p.publish(Message::new().set_attributes([("a", "")])).await);
    println!("E7 attr empty key {:?}", p.publish(Message::new().set_attributes([("", "x")])).await);
    println!("E7 attr goog {:?}", p.publish(Message::new().set_attributes([("googx", "x")])).await);
    println!("E7 long val {:?}", p.publish(Message::new().set_attributes([("x", "v".repeat(1025))])).await);
    println!("E7 long okey {:?}", p.publish(Message::new().set_data("x").set_ordering_key("v".repeat(1025))).await);
    let q = Publisher::builder(format!("{}x", e.topic)).with_endpoint(&e.ep).with_credentials(Anonymous::new().build()).build().await.unwrap();
    println!("E7 no topic {:?}", q.publish(Message::new().set_data("x")).await);
    let q = Publisher::builder("projects/p/topics/a b").with_endpoint(&e.ep).with_credentials(Anonymous::new().build()).build().await.unwrap();
    println!("E7 bad topic {:?}", q.publish(Message::new().set_data("x")).await);
    let big = p.publish(Message::new().set_data(vec![1u8; 10_000_001])).await;
    println!("E7 big {:?}", big.map_err(|e| e.to_string().chars().take(300).collect::<String>()));
    let s = e.subscriber().await;
    let mut st = s.subscribe(format!("{}x", e.sub)).build();
    println!("E7 no sub {:?}", st.next().await.map(|r| r.map(|_| ())));
    let sa = SubscriptionAdmin::builder().with_endpoint(&e.ep).with_credentials(Anonymous::new().build()).build().await.unwrap();
    println!("E7 create again {:?}", sa.create_subscription().set_name(&e.sub).set_topic(&e.topic).set_ack_deadline_seconds(20).send().await);
    println!("E7 create on missing topic {:?}", sa.create_subscription().set_name(format!("{}y", e.sub)).set_topic(format!("{}y", e.topic)).set_ack_deadline_seconds(20).send().await);
    println!("E7 get {:?}", sa.get_subscription().set_subscription(&e.sub).send().await);
}
#[tokio::test]
async fn e8() {
    let e = setup("e8", true).await; let p = e.publisher().await; let s = e.subscriber().await;
    let mut a = s.subscribe(&e.sub).set_max_outstanding_messages(5).build();
    let mut b = s.subscribe(&e.sub).set_max_outstanding_messages(5).build();
    let (x, y) = tokio::join!(async { take(&mut a, 1, S).await }, async { take(&mut b, 1, S).await });
    println!("{} {}", x.len(), y.len());
    publish(&p, 0, 20, "k").await;
    let (x, y) = tokio::join!(take(&mut a, 100, S), take(&mut b, 100, S));
    println!("E8 {:?} | {:?}", ids(&x), ids(&y));
    for z in x { z.1.nack() } for z in y { z.1.nack() }
    let (x, y) = tokio::join!(take(&mut a, 100, S), take(&mut b, 100, S));
    println!("E8 after nack {:?} | {:?}", ids(&x), ids(&y));
    drop(x); drop(y);
    a.shutdown_token().shutdown().await; drop(a);
    let y = take(&mut b, 100, S).await;
    println!("E8 after shutdown of a: {:?}", ids(&y));
}
