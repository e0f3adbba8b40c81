//! What is built of handlers, publishers and subscribers, and used beside a router's own handlers.

pub mod claim_check;
mod delay_relay;
mod fan_in;
mod fan_out;
mod passing;
mod requeuer;

pub use delay_relay::DelayRelay;
pub use fan_in::FanIn;
pub use fan_out::{FanOut, FanOutMember, Upstream};
pub use requeuer::Requeuer;
