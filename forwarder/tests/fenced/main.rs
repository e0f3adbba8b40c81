//! A relay whose destination keeps its checkpoint: with a destination in memory that fails as it is told.

mod chaos;
mod destination;
mod failing;
mod overlapping;
mod revoked;
mod stopping;
