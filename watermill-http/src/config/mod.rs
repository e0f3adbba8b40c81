//! [`HttpPublisherConfig`] and [`HttpSubscriberConfig`]: plain data, checked as a whole.

mod publisher;
mod subscriber;

pub use publisher::HttpPublisherConfig;
pub use subscriber::HttpSubscriberConfig;
