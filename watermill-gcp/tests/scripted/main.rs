//! What Google's emulator does not do, by a server that plays a script: acks that fail, streams that break,
//! quotas, keys that are paused. It needs nothing installed.

mod publishing;
mod reading;
mod server;
mod wire;
