// Its examples need most features.
#![cfg_attr(all(feature = "axum", feature = "metrics"), doc = include_str!("../README.md"))]
#![cfg_attr(
    not(all(feature = "axum", feature = "metrics")),
    doc = "What a service built on watermill shows of itself. Nothing is on by default: see the README for the features."
)]
// What belongs to a feature says so on docs.rs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub mod http;
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub mod metrics;
#[cfg(any(feature = "metrics", feature = "http"))]
mod watched;

#[cfg(feature = "http")]
pub use self::http::Pages;
#[cfg(feature = "metrics")]
pub use self::metrics::Metrics;
#[cfg(any(feature = "metrics", feature = "http"))]
pub use self::watched::Watched;
