//! A browser without a window: no server, but who looks at pages. Its tests start it themselves.

use std::env;

use super::{StandIn, packages};
use crate::Result;

/// The package of Debian, and its program: a third of what the whole browser takes.
const BROWSER: &str = "chromium-headless-shell";

/// Installs it where it is missing. Where it cannot be had its tests are not run, which the summary says; with `CI` set
/// that is an error.
pub(crate) fn find_or_install() -> Result<Option<StandIn>> {
    let installed = packages::find_or_install(BROWSER, Vec::new, BROWSER, || packages::install(BROWSER));
    let Err(error) = installed else { return Ok(None) };
    let what = format!("not run: what a browser shows of a live page: {error}");
    if env::var_os("CI").is_some() {
        return Err(what);
    }
    Ok(Some(StandIn { what, lacks: &[("watermill-examples", "browser")] }))
}
