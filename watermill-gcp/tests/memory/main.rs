//! What is in memory while a hundred thousand messages wait and a handler is slow. A program of its own, for it
//! counts every byte that is allocated.

#[path = "../scripted/server/mod.rs"]
#[expect(dead_code, reason = "one test needs less of the server than all of them")]
mod server;
#[path = "../scripted/wire.rs"]
#[expect(dead_code, reason = "one test needs less of the server than all of them")]
mod wire;

use std::{convert::Infallible, sync::Arc};

use tokio::sync::{Semaphore, watch};
use watermill_core::{Handler, Router, State as Shared};
use watermill_gcp::{PubSubSubscriber, PubSubSubscriberConfig};
use watermill_testkit::allocations::{COUNTING, CountingAllocator};

use server::{Pull, Server, State};

#[global_allocator]
static ALLOCATOR: &CountingAllocator = &COUNTING;

/// Of a kilobyte each.
const WAITING: usize = 100_000;
/// So many are handled while the others wait.
const HANDLED: usize = 2_000;
/// Everything there is: clients, connections, both of their ends.
const BOUND: usize = 8 << 20;

fn allocated() -> usize {
    let stats = COUNTING.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// Says how many have begun, and takes its time.
#[derive(Clone)]
struct Slow {
    begun: watch::Sender<usize>,
    goes_on: Arc<Semaphore>,
}

async fn slow(Shared(slow): Shared<Slow>) -> Result<(), Infallible> {
    slow.begun.send_modify(|begun| *begun += 1);
    slow.goes_on.acquire().await.expect("it stays open").forget();
    Ok(())
}

#[tokio::test]
async fn a_hundred_thousand_messages_that_wait_for_a_slow_handler_are_not_in_memory() {
    let server = Server::start(State { pulls: [Pull::Flood(WAITING)].into(), ..State::default() }).await;
    let subscriber =
        PubSubSubscriber::new(PubSubSubscriberConfig::new(server.access())).await.expect("a valid config");
    let slow_state = Slow { begun: watch::Sender::new(0), goes_on: Arc::new(Semaphore::new(0)) };
    let (mut begun, goes_on) = (slow_state.begun.subscribe(), slow_state.goes_on.clone());
    let handler = Handler::new("slow", slow).from(subscriber, "topic");
    let before = allocated();
    let most = async {
        let mut most = 0;
        for handled in 0..HANDLED {
            begun.wait_for(|begun| *begun > handled).await.expect("it goes on");
            most = most.max(allocated().saturating_sub(before));
            goes_on.add_permits(1);
        }
        // Whoever is in the middle may end.
        goes_on.add_permits(WAITING);
        most
    };
    let (sender, measured) = tokio::sync::oneshot::channel();
    let until_measured = async { sender.send(most.await).expect("somebody waits") };
    Router::new().with_state(slow_state).add(handler).run_until(until_measured).await.expect("a clean end");
    let most = measured.await.expect("it was measured");
    println!("{WAITING} messages of 1 kB waiting, {HANDLED} handled: {} kB allocated at most", most >> 10);
    assert!(most < BOUND, "{most} bytes");
}
