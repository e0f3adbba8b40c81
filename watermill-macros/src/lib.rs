#![doc = include_str!("../README.md")]

mod debug_handler;
mod named;
mod options;

use proc_macro::TokenStream;

use self::debug_handler::{Kind, expand};

/// Lets the compiler point at the argument, the return type or the `.await` for which an `async fn` is not a
/// handler.
///
/// Nothing is left of it in the program: it adds checks that run in the compiler. Write it on a function that
/// does not compile as a handler, and leave it there or take it away afterwards.
///
/// ```
/// use watermill_core::{Json, State, debug_handler};
///
/// #[derive(Clone)]
/// struct Prices;
///
/// #[debug_handler]
/// async fn bill(Json(order): Json<u64>, State(prices): State<Prices>) -> Json<u64> {
///     # let _ = prices;
///     Json(order)
/// }
/// ```
///
/// # What changes
///
/// Here an argument is missing its `Json`:
///
/// ```compile_fail,E0277
/// # use watermill_core::{Handler, MemoryBroker, Router};
/// #[derive(serde::Deserialize)]
/// struct Order;
///
/// async fn bill(order: Order) {}
///
/// # let broker = MemoryBroker::new();
/// Router::new().add(Handler::new("bill", bill).from(broker.subscriber(), "orders"));
/// ```
///
/// The compiler says so where the handler is made, and names the type:
///
/// ```text
/// error[E0277]: `Order` cannot be a handler argument
///   |
/// 9 | Router::new().add(Handler::new("bill", bill).from(broker.subscriber(), "orders"));
///   |                   ------------         ^^^^ does not implement `Extract`
/// ```
///
/// With `#[debug_handler]` on `bill` it says so at the argument as well, whether the handler is added to a router
/// or not:
///
/// ```text
/// error[E0277]: `Order` cannot be the last argument of a handler
///   |
/// 6 | async fn bill(order: Order) {}
///   |                      ^^^^^ neither `Message` nor `Extract`
/// ```
///
/// # The state
///
/// The state is that of the [`State`] argument. Where a handler takes two parts of a state, or an extractor of
/// yours needs one, say which: `#[debug_handler(state = App)]`.
///
/// # What it does not take
///
/// Functions with type parameters, for it does not know the arguments of those, and methods.
///
/// [`State`]: https://docs.rs/watermill-core/latest/watermill_core/struct.State.html
#[proc_macro_attribute]
pub fn debug_handler(options: TokenStream, function: TokenStream) -> TokenStream {
    expand(Kind::Message, options.into(), function.into()).into()
}

/// [`debug_handler`] for functions that handle batches.
///
/// ```
/// use watermill_core::{Json, debug_batch_handler};
///
/// #[debug_batch_handler]
/// async fn bill(orders: Vec<Json<u64>>) -> Vec<Result<Json<u64>, std::fmt::Error>> {
///     orders.into_iter().map(Ok).collect()
/// }
/// ```
#[proc_macro_attribute]
pub fn debug_batch_handler(options: TokenStream, function: TokenStream) -> TokenStream {
    expand(Kind::Batch, options.into(), function.into()).into()
}

/// Implements [`Named`]: what a type of commands or events is called on the wire.
///
/// ```
/// use watermill_core::cqrs::Named;
///
/// #[derive(Named)]
/// struct RoomBooked; // "RoomBooked"
///
/// #[derive(Named)]
/// #[named(go = "hotel.BookRoom", version = 2, key = guest)]
/// struct BookRoom {
///     guest: String,
/// }
///
/// assert_eq!((RoomBooked::NAME, BookRoom::NAME, BookRoom::VERSION), ("RoomBooked", "hotel.BookRoom", 2));
/// assert_eq!(BookRoom { guest: "Ada".to_owned() }.key().unwrap(), "Ada");
/// ```
///
/// | in `#[named(..)]` | |
/// |---|---|
/// | `"any.name"` | its name, where that is not the type's own |
/// | `go = "package.Type"` | the same, and the compiler refuses what Go's Watermill would not write |
/// | `version = 2` | the version of its schema |
/// | `key = field` | the field, of any type that is `Display`, whose text is a value's key |
///
/// ```compile_fail
/// # use watermill_core::cqrs::Named;
/// #[derive(Named)]
/// #[named(go = "github.com/shop/hotel.BookRoom")] // Go writes `hotel.BookRoom`
/// struct BookRoom;
/// ```
///
/// [`Named`]: https://docs.rs/watermill-core/latest/watermill_core/cqrs/trait.Named.html
#[proc_macro_derive(Named, attributes(named))]
pub fn derive_named(input: TokenStream) -> TokenStream {
    named::expand(input.into()).into()
}
