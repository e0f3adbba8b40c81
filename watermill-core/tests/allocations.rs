//! What a request and its reply allocate, alone in this process so that nobody else is counted.

use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;
use watermill_core::{
    Json, MemoryBroker, Router,
    cqrs::{CommandBus, CommandProcessor, Named, Topics},
    request_reply::{ReplyInbox, ReplyInboxConfig, Responder},
    router::Phase,
};
use watermill_testkit::allocations::{self, COUNTING, CountingAllocator};

#[global_allocator]
static ALLOCATOR: &CountingAllocator = &COUNTING;

#[derive(Serialize, Deserialize)]
struct Double {
    number: u32,
}

impl Named for Double {
    const NAME: &'static str = "Double";
}

async fn double(request: Double) -> Json<u32> {
    Json(request.number * 2)
}

/// So many are counted that what happens once in a while weighs little.
const REQUESTS: u32 = 2_000;

#[test]
fn a_request_and_its_reply_in_memory_take_at_most_12_allocations() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let per_request = runtime.block_on(async {
        let broker = MemoryBroker::new();
        let commands = CommandProcessor::new(broker.subscriber(), Topics::by_name());
        let handler =
            commands.handler("double", double).to(broker.publisher(), "replies").layer(Responder::new());
        let router = Router::new().add(handler);
        let control = router.control();
        let running = tokio::spawn(router.run());
        control.reached(Phase::Running).await;
        let bus = CommandBus::new(broker.publisher(), Topics::by_name());
        let inbox = ReplyInbox::open(broker.subscriber(), ReplyInboxConfig::new("replies")).await.unwrap();
        let ask = async || {
            for number in 0..REQUESTS {
                let doubled: u32 = inbox.request(&bus, &Double { number }).reply().await.unwrap();
                assert_eq!(doubled, number * 2);
            }
        };
        // Once before, so that what grows to its size has grown.
        ask().await;
        let before = allocations::count();
        ask().await;
        let counted = allocations::count() - before;
        inbox.close().await;
        control.stop();
        running.await.unwrap().unwrap();
        counted as f64 / f64::from(REQUESTS)
    });
    println!("{per_request:.2} allocations");
    assert!(per_request > 1.0, "the allocator counts");
    assert!(per_request <= 12.0, "{per_request} allocations");
}
