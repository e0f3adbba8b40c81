//! The workspace with the features that one gets without asking, every feature of every crate alone, and every
//! crate without features.

use crate::{Result, process, workspace};

/// Crates that are nothing without one of their features.
const NEED_A_FEATURE: &[&str] = &["watermill-sql"];

/// Features that say more of another, which they are built with here: of a crate, a feature, and the other one.
const BESIDE: &[(&str, &str, &str)] = &[("watermill-sql", "cron", "sqlite")];

pub(super) fn check() -> Result {
    // One compilation of librdkafka for each set of its features would take longer than all the rest.
    let without_librdkafka = workspace::without_librdkafka()?;
    let mut failures = Vec::new();
    let mut lint = |args: &[&str]| {
        // clippy rather than check: code that only another feature uses is dead here, and a fault.
        let mut command = process::cargo(&["clippy"]);
        command.args(args).args(&without_librdkafka).args(["--", "-D", "warnings"]);
        failures.extend(process::run(&mut command).err());
    };
    lint(&["--workspace", "--all-targets"]);
    for (package, features) in workspace::features(&workspace::metadata()?) {
        for feature in choices(&package, &features) {
            let beside = BESIDE.iter().find(|(of, one, _)| *of == package && Some(*one) == feature);
            let feature = feature.into_iter().chain(beside.map(|(_, _, other)| *other));
            let feature: Vec<&str> = feature.flat_map(|feature| ["--features", feature]).collect();
            lint(&[&["-p", &package, "--no-default-features"], &feature[..]].concat());
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// No feature, then each alone; nothing at all for a crate that has none, as clippy has seen it.
fn choices<'a>(package: &str, features: &'a [String]) -> Vec<Option<&'a str>> {
    if features.is_empty() {
        return Vec::new();
    }
    let none = (!NEED_A_FEATURE.contains(&package)).then_some(None);
    none.into_iter().chain(features.iter().map(|feature| Some(feature.as_str()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_is_built_alone_and_so_is_none() {
        let features = ["signal".to_owned(), "other".to_owned()];
        assert_eq!(choices("watermill-core", &features), [None, Some("signal"), Some("other")]);
        assert_eq!(choices("watermill-sql", &features[..1]), [Some("signal")]);
        assert_eq!(choices("watermill-testkit", &[]), []);
    }
}
