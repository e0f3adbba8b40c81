#![doc = include_str!("../README.md")]
// What belongs to a feature says so on docs.rs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "traces")]
pub mod traces;
