//! What a trip is and how it goes on: no I/O, so that every way it can go is a line of a test.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long an answer may take before the trip is given up.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// What is booked for a trip, one after another, each with somebody else.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    Hotel,
    Flight,
}

/// How far a trip is: what the saga remembers.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Requested,
    Booking(Part),
    Booked,
    /// What was booked, or may have been, is being cancelled.
    Cancelling(Vec<Part>),
    Cancelled,
}

/// What the saga hears of.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    Requested,
    Booked(Part),
    Refused(Part),
    /// Nobody has answered in time, and nobody knows whether it is booked.
    TimedOut(Part),
    Cancelled(Part),
}

/// What the saga asks for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    Book(Part),
    /// Asked again, or for what was never booked, it is cancelled all the same, and not booked later.
    Cancel(Part),
}

impl State {
    /// Whether nothing happens any more.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Booked | Self::Cancelled)
    }

    /// The state after an event, and what is to be done. `None` when the event says nothing new: a timeout after the answer,
    /// an answer after the timeout.
    pub(crate) fn after(&self, event: Event) -> Option<(Self, Vec<Command>)> {
        Some(match (self, event) {
            (Self::Requested, Event::Requested) => Self::book(Part::Hotel),
            (Self::Booking(Part::Hotel), Event::Booked(Part::Hotel)) => Self::book(Part::Flight),
            (Self::Booking(Part::Flight), Event::Booked(Part::Flight)) => (Self::Booked, vec![]),
            (Self::Booking(Part::Hotel), Event::Refused(Part::Hotel)) => (Self::Cancelled, vec![]),
            (Self::Booking(Part::Flight), Event::Refused(Part::Flight)) => Self::cancel(vec![Part::Hotel]),
            (Self::Booking(Part::Hotel), Event::TimedOut(Part::Hotel)) => Self::cancel(vec![Part::Hotel]),
            (Self::Booking(Part::Flight), Event::TimedOut(Part::Flight)) => {
                Self::cancel(vec![Part::Flight, Part::Hotel])
            }
            (Self::Cancelling(parts), Event::Cancelled(part)) if parts.contains(&part) => {
                let left: Vec<_> = parts.iter().copied().filter(|other| *other != part).collect();
                (if left.is_empty() { Self::Cancelled } else { Self::Cancelling(left) }, vec![])
            }
            _ => return None,
        })
    }

    fn book(part: Part) -> (Self, Vec<Command>) {
        (Self::Booking(part), vec![Command::Book(part)])
    }

    fn cancel(parts: Vec<Part>) -> (Self, Vec<Command>) {
        let commands = parts.iter().copied().map(Command::Cancel).collect();
        (Self::Cancelling(parts), commands)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Event::{Booked, Cancelled, Refused, Requested, TimedOut},
        Part::{Flight, Hotel},
        *,
    };

    fn end(events: &[Event]) -> State {
        events
            .iter()
            .fold(State::Requested, |state, event| state.after(*event).map_or(state, |(next, _)| next))
    }

    #[test]
    fn a_trip_is_booked_when_both_have_said_yes() {
        assert_eq!(end(&[Requested, Booked(Hotel), Booked(Flight)]), State::Booked);
    }

    #[test]
    fn what_was_booked_is_cancelled_when_the_next_is_refused_or_does_not_answer() {
        let without_flight = [Requested, Booked(Hotel), Refused(Flight)];
        assert_eq!(end(&without_flight), State::Cancelling(vec![Hotel]));
        let silence = [Requested, Booked(Hotel), TimedOut(Flight), Cancelled(Hotel)];
        assert_eq!(end(&silence), State::Cancelling(vec![Flight]));
        assert_eq!(end(&[&silence[..], &[Cancelled(Flight)]].concat()), State::Cancelled);
    }

    #[test]
    fn what_comes_too_late_changes_nothing() {
        assert_eq!(State::Booking(Flight).after(TimedOut(Hotel)), None);
        assert_eq!(State::Cancelling(vec![Hotel]).after(Booked(Hotel)), None);
        assert_eq!(State::Booked.after(TimedOut(Flight)), None);
        assert_eq!(State::Cancelled.after(Requested), None);
    }
}
