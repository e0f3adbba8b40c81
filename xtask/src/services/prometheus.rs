//! Prometheus: no server of a backend, but who reads what services show. Its tests start it themselves.

use std::{env, path::Path};

use super::{StandIn, packages};
use crate::Result;

/// The tests that ask it.
const LACKS: &[(&str, &str)] = &[
    ("watermill-examples", "prometheus"),
    ("watermill-forwarder", "prometheus"),
    ("watermill-telemetry", "prometheus"),
];

/// Installs it where it is missing. Where it cannot be had its tests are not run, which the summary says; with `CI` set
/// that is an error.
pub(crate) fn find_or_install() -> Result<Option<StandIn>> {
    for program in ["prometheus", "promtool"] {
        if let Err(error) = packages::find_or_install(program, Vec::new, "prometheus", install) {
            let what = format!("not run: what {program} reads of the dashboard and the rules: {error}");
            if env::var_os("CI").is_some() {
                return Err(what);
            }
            return Ok(Some(StandIn { what, lacks: LACKS }));
        }
    }
    Ok(None)
}

/// Debian's package has systemd start a server on all interfaces, today and at each boot: nobody has asked for that one.
fn install() -> Result {
    packages::install("prometheus")?;
    if Path::new("/run/systemd/system").is_dir() {
        packages::as_root(&["systemctl", "disable", "--now", "prometheus"])?;
    }
    Ok(())
}
