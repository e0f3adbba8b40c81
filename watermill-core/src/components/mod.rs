//! What is built of handlers, publishers and subscribers, and used beside a router's own handlers.

pub mod claim_check;
mod delay_relay;
mod fan_in;
mod fan_out;
mod passing;
mod replay;
mod requeuer;

pub use delay_relay::DelayRelay;
pub use fan_in::FanIn;
pub use fan_out::{FanOut, FanOutMember, Upstream};
pub use replay::{Replay, ReplayLog, ReplayMessage, ReplayPart, ReplayPlace, ReplayRange};
pub use requeuer::Requeuer;
