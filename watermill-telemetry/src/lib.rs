#![doc = include_str!("../README.md")]
// What belongs to a feature says so on docs.rs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub mod http;
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub mod metrics;
#[cfg(feature = "traces")]
#[cfg_attr(docsrs, doc(cfg(feature = "traces")))]
pub mod traces;
#[cfg(any(feature = "metrics", feature = "http"))]
mod watched;

#[cfg(feature = "http")]
pub use self::http::Pages;
#[cfg(feature = "metrics")]
pub use self::metrics::Metrics;
#[cfg(any(feature = "metrics", feature = "http"))]
pub use self::watched::Watched;
