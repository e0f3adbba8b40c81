//! The rules, read and evaluated by `promtool`.

use std::process::Command;

use watermill_testkit::prometheus::MISSING;

use crate::queries::{RULES, path};

#[test]
fn the_rules_are_well_formed_and_fire_when_they_should() {
    for (verb, file) in [("check", RULES), ("test", "prometheus/alerts.test.yml")] {
        let output = Command::new("promtool").args([verb, "rules"]).arg(path(file)).output();
        let output = output.unwrap_or_else(|error| panic!("{MISSING}: {error}"));
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "promtool {verb} rules {file}:\n{said}");
    }
}
