//! [`Settings`]: what the environment says.

use std::{env, net::SocketAddr};

use watermill_core::error::BoxError;

/// Where everything is.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `DATABASE_URL`: `sqlite:PATH`, or with its feature `postgres://USER@HOST/NAME`. Default: `sqlite:orders.db`.
    pub(crate) database: String,
    /// `BROKER_URL`: `memory`, or with its feature `kafka://HOST:PORT`. Default: `memory`.
    pub(crate) broker: String,
    /// `LISTEN`: an address and a port. Default: `127.0.0.1:8080`.
    pub(crate) listen: SocketAddr,
}

impl Settings {
    pub(crate) fn from_env() -> Result<Self, BoxError> {
        let setting = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
        let listen = setting("LISTEN", "127.0.0.1:8080");
        Ok(Self {
            database: setting("DATABASE_URL", "sqlite:orders.db"),
            broker: setting("BROKER_URL", "memory"),
            listen: listen.parse().map_err(|error| format!("listen on LISTEN={listen}: {error}"))?,
        })
    }
}
