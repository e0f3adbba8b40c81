//! [`Pages`]: what is answered.

#[cfg(feature = "metrics")]
use std::sync::Arc;
use std::{
    convert::Infallible,
    future::{Ready, ready},
};

use http::{Method, Request, Response, StatusCode, header, header::HeaderValue};
use http_body_util::Full;
use hyper::body::Bytes;

use super::Health;
use crate::Watched;
#[cfg(feature = "metrics")]
use crate::metrics::{Metrics, Watch};

/// The pages of a service. Cheap to clone.
///
/// ```
/// use watermill_core::Router;
/// use watermill_telemetry::{Pages, Watched};
///
/// let router = Router::new();
/// let pages = Pages::new(Watched::new().router(router.control()));
/// // The router has not started: the service lives, and is not ready.
/// let health = pages.health();
/// assert!(health.live && !health.ready);
/// ```
#[derive(Clone, Debug)]
pub struct Pages {
    watched: Watched,
    #[cfg(feature = "metrics")]
    metrics: Option<(Metrics, Arc<Watch>)>,
}

/// An answer.
pub type Page = Response<Full<Bytes>>;

const LIVE: &str = "/health/live";
const READY: &str = "/health/ready";
const METRICS: &str = "/metrics";

impl Pages {
    /// The health of what is watched.
    pub fn new(watched: Watched) -> Self {
        Self {
            watched,
            #[cfg(feature = "metrics")]
            metrics: None,
        }
    }

    /// Adds `/metrics`, with the figures of what is watched: no other [`Watch`] is to watch it. It answers `404` where the
    /// figures do not go to a page, and brings them up to date all the same.
    #[cfg(feature = "metrics")]
    #[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
    #[must_use]
    pub fn metrics(mut self, metrics: &Metrics) -> Self {
        let watch = Arc::new(metrics.watch(self.watched.clone()));
        self.metrics = Some((metrics.clone(), watch));
        self
    }

    /// How everything is doing.
    pub fn health(&self) -> Health {
        Health::of(&self.watched)
    }

    /// What a request is answered. It waits for nothing.
    pub fn answer(&self, method: &Method, path: &str) -> Page {
        if ![LIVE, READY, METRICS].contains(&path) {
            return text(StatusCode::NOT_FOUND, "there is /health/live, /health/ready and /metrics\n");
        }
        if *method != Method::GET && *method != Method::HEAD {
            let mut page = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
            page.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return page;
        }
        match path {
            LIVE => self.of_health(|health| health.live),
            READY => self.of_health(|health| health.ready),
            _ => self.of_metrics(),
        }
    }

    fn of_health(&self, is_well: impl FnOnce(&Health) -> bool) -> Page {
        let health = self.health();
        let status = if is_well(&health) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        match serde_json::to_string(&health) {
            Ok(json) => page(status, "application/json", json),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
        }
    }

    #[cfg(feature = "metrics")]
    fn of_metrics(&self) -> Page {
        let rendered = self.metrics.as_ref().and_then(|(metrics, watch)| {
            watch.update();
            metrics.render()
        });
        match rendered {
            Some(rendered) => page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", rendered),
            None => no_metrics(),
        }
    }

    #[cfg(not(feature = "metrics"))]
    fn of_metrics(&self) -> Page {
        no_metrics()
    }

    /// The pages as a router, to be merged with that of a service, whatever its state.
    #[cfg(feature = "axum")]
    #[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> axum::Router<S> {
        let page = |path: &'static str| {
            let pages = self.clone();
            axum::routing::get(async move |method: Method| pages.answer(&method, path))
        };
        let paths = [LIVE, READY, METRICS];
        paths.into_iter().fold(axum::Router::new(), |router, path| router.route(path, page(path)))
    }
}

impl<B> hyper::service::Service<Request<B>> for Pages {
    type Response = Page;
    type Error = Infallible;
    type Future = Ready<Result<Page, Infallible>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(request.method(), request.uri().path())))
    }
}

fn no_metrics() -> Page {
    text(StatusCode::NOT_FOUND, "no metrics are collected for this page\n")
}

fn text(status: StatusCode, text: &str) -> Page {
    page(status, "text/plain; charset=utf-8", text.to_owned())
}

fn page(status: StatusCode, kind: &'static str, body: String) -> Page {
    let mut page = Response::new(Full::new(Bytes::from(body)));
    *page.status_mut() = status;
    page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    page
}
