//! Middleware as tower layers: one file, one type, one name.
//!
//! Every service in a router is a [`tower::Service`] of [`Message`](crate::Message) with
//! [`Outputs`](crate::Outputs) as its response, so tower's own layers work around handlers unmodified.
