//! Commands and events: buses, processors, groups, and what they write and read.

mod buses;
mod go;

mod groups;
mod marshaling;
mod preparing;
mod processors;
#[path = "../support/running.rs"]
mod running;

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use watermill_core::{Router, cqrs::Named, router::RunErrorKind};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct BookRoom {
    room: u32,
    guest: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RoomBooked {
    room: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct BookingCancelled {
    room: u32,
}

impl Named for BookRoom {
    const NAME: &'static str = "BookRoom";

    fn key(&self) -> Option<bytes::Bytes> {
        Some(self.guest.clone().into())
    }
}

impl Named for RoomBooked {
    const NAME: &'static str = "RoomBooked";
}

impl Named for BookingCancelled {
    const NAME: &'static str = "BookingCancelled";
}

fn book(room: u32) -> BookRoom {
    BookRoom { room, guest: "Ada".to_owned() }
}

/// What handlers note.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Why a router does not run.
async fn refusal<S: Send + 'static, L: Send + Sync + 'static>(router: Router<S, L>) -> String {
    let error = router.run_until(async {}).await.unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::Build);
    error.to_string()
}
