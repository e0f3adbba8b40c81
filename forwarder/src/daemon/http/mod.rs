//! The page for machines: health, metrics, status, pause and resume, over HTTP/1.

mod client;
mod server;

pub(crate) use client::{get, post};
pub(crate) use server::Server;
