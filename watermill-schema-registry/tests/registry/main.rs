//! The client and the codecs, against a registry that fails when it is told to.

mod avro;
mod calling;
mod fixtures;
mod reading;
mod server;
