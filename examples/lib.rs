#![doc = include_str!("../README.md")]
#![doc = ""]
//! The examples themselves are this package's binaries; this library compiles those of the workspace's
//! README.
