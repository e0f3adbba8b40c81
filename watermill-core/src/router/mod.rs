//! The router: runs handlers.

mod extract;
mod handler_fn;
mod info;
mod outputs;

pub use extract::{
    ByRef, ByValue, Extension, Extract, ExtractOwned, FromRef, Json, JsonRejection, NotDelivered, State,
};
pub use handler_fn::{HandlerFn, HandlerFuture, HandlerService};
pub use info::HandlerInfo;
pub use outputs::{Addressed, IntoOutputs, Messages, Nothing, Outputs, To};
