//! Delays on any backend: [`DelayPublisher`] on the side that sends, [`HoldUntilDue`] on the side that receives.
//!
//! A message says when it is due with [`Message::delay_for`](crate::Message::delay_for), in the metadata that Go's
//! Watermill uses. Who waits is the question:
//!
//! | the topic is of | who waits | what waits with it |
//! |---|---|---|
//! | a backend that [delays](crate::publisher::PublisherCapabilities::delays), an SQL queue for instance | the backend | nothing |
//! | any other, and the sender may use a queue beside it | [`DelayPublisher`], and a [`DelayRelay`](crate::components::DelayRelay) | nothing |
//! | any other | [`HoldUntilDue`] around the subscriber | what is behind it in its partition |
//!
//! The third is right where all messages of a topic wait equally long, so that the first is always due first:
//! [retry topics](crate::RetryTopics) are of that kind.

mod hold_until_due;
mod publisher;

pub use hold_until_due::HoldUntilDue;
pub use publisher::DelayPublisher;
