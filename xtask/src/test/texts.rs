//! The compiler's texts, which are compared word for word with those of one version of it.

use std::{env, fs, process::Command};

use crate::{Result, services::StandIn, workspace};

/// Where the version is named.
const TEST: &str = "watermill-macros/tests/texts.rs";

/// What is not compared, where the compiler is not the one whose texts they are.
pub(super) fn of_another_compiler() -> Result<Option<StandIn>> {
    let source =
        fs::read_to_string(workspace::root().join(TEST)).map_err(|error| format!("read {TEST}: {error}"))?;
    let wanted = version_in(&source).ok_or_else(|| format!("{TEST} names no version of the compiler"))?;
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .arg("--version")
        .output()
        .map_err(|error| format!("ask rustc for its version: {error}"))?;
    let found = String::from_utf8_lossy(&output.stdout);
    if found.starts_with(&format!("rustc {wanted}.")) {
        return Ok(None);
    }
    let what = format!("the compiler's texts are those of Rust {wanted}, and this is {}", found.trim_end());
    if env::var_os("CI").is_some() {
        return Err(format!("{what}; {TEST} says how to go on"));
    }
    Ok(Some(StandIn { what, lacks: &[("watermill-macros", "texts")] }))
}

fn version_in(source: &str) -> Option<&str> {
    let line = source.lines().find_map(|line| line.strip_prefix("const COMPILER: &str = \""))?;
    line.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_names_the_version_whose_texts_it_has() {
        let source = fs::read_to_string(workspace::root().join(TEST)).unwrap();
        let version = version_in(&source).expect("it names one");
        assert!(version.starts_with("1."), "{version}");
    }
}
