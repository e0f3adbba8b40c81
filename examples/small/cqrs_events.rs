//! Commands and events as types: a command has one handler, which returns an event; an event group keeps the order of several types.
//!
//! ```sh
//! cargo run --bin cqrs_events
//! ```

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use serde::{Deserialize, Serialize};
use watermill_core::{
    FailurePolicy, MemoryBroker, Message, Router, State,
    cqrs::{CommandBus, CommandProcessor, EventBus, EventProcessor, Named, Topics},
    error::{BoxError, Permanent},
    router::{Phase, To},
};

#[derive(Serialize, Deserialize, Named)]
struct BookRoom {
    room: u32,
    guest: String,
}

#[derive(Serialize, Deserialize, Named)]
struct LeaveRoom {
    room: u32,
}

#[derive(Serialize, Deserialize, Named)]
#[named(go = "hotel.RoomBooked", key = room)] // as a service in Go writes it
struct RoomBooked {
    room: u32,
    guest: String,
}

#[derive(Serialize, Deserialize, Named)]
#[named(go = "hotel.RoomLeft", key = room)]
struct RoomLeft {
    room: u32,
}

/// The command is the first argument; the event is published when the handler has succeeded.
async fn book(command: BookRoom, State(events): State<EventBus>) -> Result<To<String, Message>, BoxError> {
    if command.room > 100 {
        return Err(Permanent::new(format!("there is no room {}", command.room)).into());
    }
    Ok(events.message(&RoomBooked { room: command.room, guest: command.guest })?)
}

async fn leave(command: LeaveRoom, State(events): State<EventBus>) -> Result<To<String, Message>, BoxError> {
    Ok(events.message(&RoomLeft { room: command.room })?)
}

type Guests = Arc<Mutex<BTreeMap<u32, String>>>;

async fn check_in(event: RoomBooked, State(guests): State<Guests>) {
    println!("room {}: {} comes", event.room, event.guest);
    guests.lock().expect("no panic").insert(event.room, event.guest);
}

async fn check_out(event: RoomLeft, State(guests): State<Guests>) {
    // There is somebody: the room was booked before it was left, and the group keeps that order.
    let guest = guests.lock().expect("no panic").remove(&event.room);
    println!("room {}: {} goes", event.room, guest.unwrap_or_else(|| "nobody".to_owned()));
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let broker = MemoryBroker::new();
    let commands = CommandProcessor::new(broker.subscriber(), Topics::one("commands"));
    let events = EventProcessor::new(broker.subscriber(), Topics::one("events"));
    let (event_bus, guests) = (EventBus::new(broker.publisher(), Topics::one("events")), Guests::default());

    let handle = commands.group("desk").on(book).on(leave).handler();
    let report = events.group("guests").on(check_in).on(check_out).handler();
    let desk = watermill_core::Handlers::new()
        .add(handle.to_topics(broker.publisher()).on_failure(FailurePolicy::retry(2).then_drop()))
        .with_state(event_bus);
    let router = Router::new().with_state(guests).merge(desk).add(report);
    let control = router.control();
    let running = tokio::spawn(router.run());
    control.reached(Phase::Running).await;

    let bus = CommandBus::new(broker.publisher(), Topics::one("commands"));
    for (room, guest) in [(7, "Ada"), (8, "Grace"), (101, "Nobody")] {
        bus.send(&BookRoom { room, guest: guest.to_owned() }).await?;
    }
    bus.send_all(&[LeaveRoom { room: 7 }, LeaveRoom { room: 8 }]).await?;
    while control.handler("guests").is_some_and(|guests| guests.counts.acked < 4) {
        tokio::task::yield_now().await;
    }
    control.stop();
    let report = running.await??;
    for handler in ["desk", "guests"] {
        println!("{}", report.handler(handler).expect("it ran"));
    }
    Ok(())
}
