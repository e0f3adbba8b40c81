//! How a delivery came, and how it is settled: what lies below messages and deliveries.

mod info;
mod origin;
mod outcome;
mod settlement;

pub use info::DeliveryInfo;
pub(crate) use info::{Facts, Infos};
pub use origin::{Origin, OriginBuilder};
pub use outcome::{Outcome, Receipt, Settle, Token};
pub use settlement::Settlement;
