#![doc = include_str!("README.md")]

mod config;
mod error;
mod inbox;
mod listening;
mod pending;
mod replies;
mod reply;
mod request;
mod responder;

pub use config::ReplyInboxConfig;
pub use error::{HandlerFailed, RequestError, RequestErrorKind};
pub use inbox::ReplyInbox;
pub use replies::Replies;
pub use reply::NoResult;
pub use request::{Asked, Request};
pub use responder::{Responder, ResponderFuture, ResponderService};
