//! The backend kit: what every backend would write again, for authors of backends.
//!
//! A backend is a [`Publisher`](crate::Publisher) and a [`Subscriber`](crate::Subscriber). Of a subscriber,
//! only the talk with its server is its own: how messages come in, and how the server is told what became of
//! them. The rest is here.
//!
//! ```text
//!        the consumer                 the kit                       the backend
//!                            ┌───────────────────────┐
//!   Subscription ◄───────────┤ stream: timer, yield  │
//!        │  set_window       │   ▲ next              │
//!        │  stop_intake ────►│ Shared<L>             │
//!        │  close, drop      │   window, errors,     │   push    ┌────────────────┐
//!        ▼                   │   health, closing     │◄──────────┤ task           │
//!   Delivery ── settle ─────►│   ┌───────────────┐   │           │  fetch         │◄──► server
//!                            │   │ ledger L:     │   │  settled  │  record        │
//!                            │   │ fresh         │   ├──────────►│  extend, renew │
//!                            │   │ outstanding   │   │           └────────────────┘
//!                            │   │ unrecorded    │   │
//!                            │   └───────────────┘   │
//!                            └───────────────────────┘
//! ```
//!
//! # The life of a subscription
//!
//! 1. `subscribe` asks the [`Registry`] [whether it may](Registry::check), prepares what the server needs, and
//!    makes a [`Shared`] over a [`Ledger`]. [`Registry::start`] makes the
//!    [`Subscription`](crate::Subscription) of it and spawns the backend's task, which holds a [`Task`] guard:
//!    however the task ends, nobody waits for it afterwards.
//! 2. The task fetches as much as the ledger has room for, pushes it, and [wakes the
//!    stream](Shared::wake_stream). The stream hands it out under the window, waits for what is delayed, and
//!    lets other tasks run after 128 deliveries in a row.
//! 3. A delivery settles: the ledger takes note at once and keeps the receipt. The task is
//!    [woken](Shared::wait) when something is to be recorded: at once, or in batches.
//! 4. The task tells the server and completes the receipts. What cannot be told is kept and tried again with
//!    growing waits; meanwhile the status says [so](State::degraded), and the stream has the error.
//! 5. What the server takes away (a lease, a partition, a channel with all of its tags) is
//!    [lost](Shared::lose): whoever works for it is told, and late outcomes are ignored.
//! 6. The subscription closes or is dropped, or the subscriber closes: the task sees [`Shared::closing`],
//!    [gives back](Shared::give_back) what is in hand, records what is settled, within a bounded time, and
//!    [ends](Task::end). Then `close` returns.
//!
//! # Pieces
//!
//! | piece | is |
//! |---|---|
//! | [`Source`], [`Next`], [`DeliveryMaker`], [`Settler`] | where deliveries come from and outcomes go, for whom [`Shared`] is not enough |
//! | [`Registry`] | the open subscriptions of a subscriber: closed flag, status, closing side by side |
//! | [`Shared`], [`State`], [`Task`] | the state that stream, deliveries and task share |
//! | [`Ledger`] | what a subscription has in hand |
//! | [`ById`] | the ledger for ack ids, delivery tags, row ids |
//! | [`ByPosition`] | the ledger for a log whose groups have a position |
//! | [`Transport`], [`run`] | the whole task over that ledger, where the backend fetches, records and extends |
//! | [`Receipts`], [`Wakers`] | those who wait, completed or woken together, without a lock |
//! | [`Trouble`], [`Failure`] | what a native error means, and the one table that makes errors of it |
//! | [`Calls`], [`refuse_delays`], [`records`] | what every call to a publisher begins with |
//! | [`key_entry`], [`key_entry_where`], [`take_key`], [`key_of_entry`], [`refuse_key_entries`] | a key that travels in the metadata |
//! | [`SharedConnection`], [`Connect`] | a connection that is made when it is needed, and again when it is lost |
//! | [`Arrivals`], [`Taken`] | what has come from a server that waits for nobody, until it is taken |
//! | [`Turns`] | calls of a publisher that are sent one after another, and give up together |
//!
//! Everything is bounded: see [`Shared::report`] for errors, [`ById`] for messages, [`SharedOptions`] for
//! waits.

mod arrivals;
mod by_id;
mod by_position;
mod calls;
mod connection;
mod failure;
mod key_entry;
mod ledger;
mod publishing;
mod receipts;
mod registry;
mod shared;
mod source;
mod stream;
mod transport;
mod turns;
mod wakers;

pub use arrivals::{Arrivals, Taken};
pub use by_id::{ById, InHand, Incoming, Nacks, Settled, key_scope};
pub use by_position::{ByPosition, Rejected};
pub use calls::{Call, Calls};
pub use connection::{Connect, SharedConnection};
pub use failure::{Failure, Trouble};
pub use key_entry::{key_entry, key_entry_where, key_of_entry, refuse_key_entries, take_key};
pub use ledger::{Handed, Ledger, Offer, Unrecorded};
pub use publishing::{records, refuse_delays};
pub use receipts::Receipts;
pub use registry::Registry;
pub use shared::{Shared, SharedOptions, State, Task, WakeFor};
pub use source::{DeliveryMaker, Next, Settler, Source};
pub use transport::{Transport, TransportOptions, run};
pub use turns::{Turn, Turns};
pub use wakers::Wakers;

/// What is wrong with the empty topic, which no backend takes.
const EMPTY_TOPIC: &str = "a topic needs a name";
