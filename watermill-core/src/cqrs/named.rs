//! [`Named`]: what is known of a type of commands or events.

use bytes::Bytes;

/// A type of commands or events: its name on the wire, its version, and how a value finds its key.
///
/// Derive it (feature `macros`), or write it down:
///
/// ```
/// # #[cfg(feature = "macros")] {
/// use watermill_core::cqrs::Named;
///
/// #[derive(Named)]
/// struct RoomBooked; // "RoomBooked"
///
/// #[derive(Named)]
/// #[named(go = "hotel.BookRoom", key = guest)] // as Go writes it: the compiler refuses what Go cannot write
/// struct BookRoom {
///     guest: String,
/// }
///
/// #[derive(Named)]
/// #[named("com.example.order.placed", version = 2)]
/// struct OrderPlaced;
///
/// assert_eq!((RoomBooked::NAME, BookRoom::NAME), ("RoomBooked", "hotel.BookRoom"));
/// assert_eq!((OrderPlaced::VERSION, OrderPlaced.key()), (2, None));
/// assert_eq!(BookRoom { guest: "Ada".to_owned() }.key().unwrap(), "Ada");
/// # }
/// ```
///
/// What a service calls a type can be changed for a bus or a processor: see [`Names`](super::Names).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a type of commands or events: it has no name",
    label = "does not implement `Named`",
    note = "derive it: `#[derive(watermill_core::cqrs::Named)]`, or implement it with its `NAME`"
)]
pub trait Named: 'static {
    /// What it is called in the metadata entry `name`.
    const NAME: &'static str;

    /// Which version of its schema the type is, from 1 on. Written where it is not the first; older messages are
    /// [brought up](super::Marshaler::upcast) to it.
    const VERSION: u32 = 1;

    /// The ordering and partition key of this value; none by default.
    fn key(&self) -> Option<Bytes> {
        None
    }
}
