//! Who asks: one reply, many, none, and what is left behind.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, future::join_all};
use tokio::time::{sleep, timeout};
use watermill_core::{
    Json, Message, PublisherExt, Subscriber, Subscription,
    error::SubscribeError,
    metadata_keys::REQUEST_REPLY_OPERATION_ID,
    request_reply::{ReplyInbox, ReplyInboxConfig, RequestErrorKind, Responder},
    subscriber::SubscriberCapabilities,
    subscription::SubscriptionStatus,
};
use watermill_testkit::ScriptedSubscriber;

use crate::{Hotel, Quote, running::Running};

async fn thrice(Json(quote): Json<Quote>) -> [Json<u32>; 3] {
    [1, 2, 3].map(|factor| Json(quote.nights * factor))
}

async fn once(Json(quote): Json<Quote>) -> Json<u32> {
    Json(quote.nights)
}

/// Waits until nobody waits for replies any more.
async fn nobody_waits(inbox: &ReplyInbox) {
    while inbox.waiting() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_first_of_several_replies_is_the_reply_and_the_others_are_nobodys() {
    let hotel = Hotel::open().await;
    let running = hotel.answering("thrice", thrice).await;
    for _ in 0..50 {
        assert_eq!(hotel.inbox.request(&hotel.bus, &Quote { nights: 7 }).reply::<u32>().await.unwrap(), 7);
    }
    assert_eq!(hotel.inbox.waiting(), 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn all_replies_come_in_their_order_until_the_timeout() {
    let hotel = Hotel::open().await;
    let running = hotel.answering("thrice", thrice).await;
    let request = hotel.inbox.request(&hotel.bus, &Quote { nights: 7 }).timeout(Duration::from_secs(3));
    let replies = request.replies::<u32>().await.unwrap();
    assert_eq!(replies.try_collect::<Vec<_>>().await.unwrap(), [7, 14, 21]);
    assert_eq!(hotel.inbox.waiting(), 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn several_responders_all_reply() {
    let hotel = Hotel::open().await;
    let responders: [Running; 2] = [hotel.answering("one", once).await, hotel.answering("other", once).await];
    let request = hotel.inbox.request(&hotel.bus, &Quote { nights: 7 });
    let replies = request.replies::<u32>().await.unwrap();
    assert_eq!(replies.take(2).try_collect::<Vec<_>>().await.unwrap(), [7, 7]);
    for running in responders {
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_answers_ends_with_its_timeout() {
    let hotel = Hotel::open().await;
    let request = || hotel.inbox.request(&hotel.bus, &Quote { nights: 7 }).timeout(Duration::from_secs(3));
    let error = request().reply::<u32>().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (RequestErrorKind::Timeout, true));
    assert!(error.to_string().contains("3s"), "{error}");
    let replies: Vec<_> = request().replies::<u32>().await.unwrap().collect().await;
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0].as_ref().unwrap_err().kind(), RequestErrorKind::Timeout);
    assert_eq!(hotel.inbox.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn replies_end_with_their_timeout_though_others_keep_coming() {
    let hotel = Hotel::open().await;
    let mut requests = hotel.broker.subscriber().group("observer").subscribe("Quote").await.unwrap();
    let request = hotel.inbox.request(&hotel.bus, &Quote { nights: 7 }).timeout(Duration::from_secs(3));
    let mut replies = request.replies::<u32>().await.unwrap();
    let request = requests.next().await.unwrap().unwrap();
    let operation = request.metadata().get(REQUEST_REPLY_OPERATION_ID).unwrap().to_owned();
    request.ack();
    let mut came = 0;
    for number in 0..10_u32 {
        let reply = Message::json(&number).unwrap().with_metadata(REQUEST_REPLY_OPERATION_ID, &*operation);
        hotel.broker.publisher().publish_one("replies", reply).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        match replies.next().await {
            Some(reply) => came += u32::from(reply.unwrap() == number),
            None => break,
        }
    }
    assert!((2..=4).contains(&came), "{came} replies came");
    assert_eq!(hotel.inbox.waiting(), 0);
}

/// P27: of several replies one is read, and then the rest is cancelled.
#[tokio::test]
async fn whoever_stops_waiting_leaves_nothing_behind() {
    let hotel = Hotel::open().await;
    let running = hotel.answering("thrice", thrice).await;
    for _ in 0..50 {
        let request = hotel.inbox.request(&hotel.bus, &Quote { nights: 7 });
        let mut replies = request.replies::<u32>().await.unwrap();
        assert_eq!(replies.next().await.unwrap().unwrap(), 7);
        drop(replies);
    }
    running.handled("thrice", 50).await;
    running.stop().await;
    assert_eq!(hotel.inbox.waiting(), 0);
    // And the inbox still reads: nothing of it waits for those who have gone.
    let running = hotel.answering("once", once).await;
    assert_eq!(hotel.inbox.request(&hotel.bus, &Quote { nights: 8 }).reply::<u32>().await.unwrap(), 8);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_while_it_waits_is_forgotten() {
    let hotel = Hotel::open().await;
    let (bus, inbox) = (&hotel.bus, &hotel.inbox);
    let quote = Quote { nights: 7 };
    let waiting = inbox.request(bus, &quote).reply::<u32>();
    assert!(timeout(Duration::from_secs(1), waiting).await.is_err());
    nobody_waits(inbox).await;
}

#[tokio::test]
async fn requests_side_by_side_each_have_their_own_reply() {
    let hotel = Hotel::open().await;
    let running = hotel.quoting(Responder::new()).await;
    let ask = async |nights| {
        let quote = Quote { nights };
        hotel.inbox.request(&hotel.bus, &quote).reply::<u32>().await.unwrap()
    };
    let prices = join_all((1..=50).map(ask)).await;
    assert_eq!(prices, (1..=50).map(|nights| nights * 80).collect::<Vec<_>>());
    running.stop().await;
}

#[tokio::test]
async fn processes_that_share_a_topic_of_replies_leave_each_other_alone() {
    let hotel = Hotel::open().await;
    let other = ReplyInbox::open(hotel.broker.subscriber(), ReplyInboxConfig::new("replies")).await.unwrap();
    let running = hotel.quoting(Responder::new()).await;
    let (one, two) = (Quote { nights: 1 }, Quote { nights: 2 });
    let (one, two) = tokio::join!(
        hotel.inbox.request(&hotel.bus, &one).reply::<u32>(),
        other.request(&hotel.bus, &two).reply::<u32>(),
    );
    assert_eq!((one.unwrap(), two.unwrap()), (80, 160));
    running.stop().await;
}

#[tokio::test]
async fn any_message_can_be_a_request() {
    let hotel = Hotel::open().await;
    let running = hotel.answering("once", once).await;
    let message = Message::json(&Quote { nights: 7 }).unwrap().with_metadata("tenant", "a");
    let publisher = hotel.broker.publisher();
    let reply = hotel.inbox.ask(&publisher, "Quote", message).message().await.unwrap();
    assert_eq!(reply.payload(), "7");
    running.stop().await;
}

#[tokio::test]
async fn a_reply_that_is_something_else_cannot_be_read() {
    let hotel = Hotel::open().await;
    let running = hotel.answering("once", once).await;
    let error = hotel.inbox.request(&hotel.bus, &Quote { nights: 7 }).reply::<String>().await.unwrap_err();
    assert_eq!(error.kind(), RequestErrorKind::Unreadable);
    running.stop().await;
}

#[tokio::test]
async fn replies_that_nobody_takes_end_their_request_and_no_other() {
    let hotel = Hotel::with(ReplyInboxConfig::new("replies").buffer(2)).await;
    let running = hotel.answering("thrice", thrice).await;
    let replies = hotel.inbox.request(&hotel.bus, &Quote { nights: 7 }).replies::<u32>().await.unwrap();
    nobody_waits(&hotel.inbox).await;
    let replies: Vec<_> = replies.collect().await;
    let kinds = replies.iter().map(|reply| reply.as_ref().map_err(|error| error.kind()).copied());
    assert_eq!(kinds.collect::<Vec<_>>(), [Ok(7), Ok(14), Err(RequestErrorKind::Overflow)]);
    assert_eq!(hotel.inbox.request(&hotel.bus, &Quote { nights: 8 }).reply::<u32>().await.unwrap(), 8);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn that_replies_were_lost_is_said_after_the_timeout_too() {
    let hotel = Hotel::with(ReplyInboxConfig::new("replies").buffer(2)).await;
    let running = hotel.answering("thrice", thrice).await;
    let replies = hotel.inbox.request(&hotel.bus, &Quote { nights: 7 }).replies::<u32>().await.unwrap();
    nobody_waits(&hotel.inbox).await;
    sleep(Duration::from_secs(60)).await;
    let replies: Vec<_> = replies.collect().await;
    assert_eq!(replies.last().unwrap().as_ref().unwrap_err().kind(), RequestErrorKind::Overflow);
    running.stop().await;
}

#[tokio::test]
async fn an_inbox_that_is_closed_tells_those_who_wait_and_those_who_come_later() {
    let hotel = Hotel::open().await;
    let quote = Quote { nights: 7 };
    let replies = hotel.inbox.request(&hotel.bus, &quote).replies::<u32>().await.unwrap();
    let (error, ()) = tokio::join!(hotel.inbox.request(&hotel.bus, &quote).reply::<u32>(), async {
        while hotel.inbox.waiting() < 2 {
            tokio::task::yield_now().await;
        }
        hotel.inbox.close().await;
    });
    assert_eq!(error.unwrap_err().kind(), RequestErrorKind::Closed);
    let replies: Vec<_> = replies.collect().await;
    assert_eq!(replies[0].as_ref().unwrap_err().kind(), RequestErrorKind::Closed);
    let later = hotel.inbox.request(&hotel.bus, &quote).reply::<u32>().await.unwrap_err();
    assert_eq!(later.kind(), RequestErrorKind::Closed);
    hotel.inbox.close().await;
}

/// Is answered by its broker once, and never again.
struct AnsweredOnce {
    subscriber: ScriptedSubscriber,
    calls: Arc<AtomicU32>,
}

#[async_trait]
impl Subscriber for AnsweredOnce {
    async fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        match self.calls.fetch_add(1, Ordering::Relaxed) {
            0 => self.subscriber.subscribe(topic).await,
            _ => pending().await,
        }
    }

    async fn initialize(&self, topic: &str) -> Result<(), SubscribeError> {
        self.subscriber.initialize(topic).await
    }

    fn in_group(&self, group: &str) -> Result<Arc<dyn Subscriber>, SubscribeError> {
        self.subscriber.in_group(group)
    }

    async fn close(&self) -> Result<(), SubscribeError> {
        self.subscriber.close().await
    }

    fn status(&self) -> Vec<SubscriptionStatus> {
        self.subscriber.status()
    }

    fn capabilities(&self) -> SubscriberCapabilities {
        self.subscriber.capabilities()
    }
}

#[tokio::test(start_paused = true)]
async fn an_inbox_that_subscribes_again_and_is_not_answered_is_closed_all_the_same() {
    let (subscriber, calls) = (ScriptedSubscriber::new(), Arc::new(AtomicU32::new(0)));
    subscriber.end();
    let subscriber = AnsweredOnce { subscriber, calls: calls.clone() };
    let inbox = ReplyInbox::open(subscriber, ReplyInboxConfig::new("replies")).await.unwrap();
    while calls.load(Ordering::Relaxed) < 2 {
        sleep(Duration::from_millis(10)).await;
    }
    timeout(Duration::from_secs(10), inbox.close()).await.expect("it closes");
}

#[tokio::test]
async fn an_inbox_whose_last_clone_is_dropped_ends() {
    let hotel = Hotel::open().await;
    let subscriber = hotel.broker.subscriber();
    let inbox = ReplyInbox::open(subscriber.clone(), ReplyInboxConfig::new("others")).await.unwrap();
    let copy = inbox.clone();
    drop(inbox);
    hotel.broker.publisher().publish_one("others", Message::new("")).await.unwrap();
    assert_eq!(copy.waiting(), 0);
    drop(copy);
    while watermill_core::Subscriber::status(&subscriber).iter().any(|it| it.topic == "others") {
        tokio::task::yield_now().await;
    }
}
