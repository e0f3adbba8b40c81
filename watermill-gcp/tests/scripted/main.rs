//! What Google's emulator does not do, by a server that plays a script: acks that fail, streams that break,
//! quotas, keys that are paused, leases that end. It needs nothing installed.

mod admin;
mod dead_letters;
mod flow;
mod go;
mod leases;
mod publishing;
mod reading;
mod server;
mod support;
mod wire;
