//! How a publisher publishes, on librdkafka's mock cluster, which fails when it is told to.

mod cluster;
mod failing;
mod partitions;
mod queueing;
