//! The order in which a server is found, with a server that is a file.

use std::{fs, path::PathBuf};

use super::*;

/// A service that is up while its data folder holds a file `running`.
struct Fake {
    name: &'static str,
    fails: bool,
}

impl Fake {
    const fn new(name: &'static str) -> Self {
        Self { name, fails: false }
    }
}

impl Service for Fake {
    fn name(&self) -> &'static str {
        self.name
    }

    fn variable(&self) -> &'static str {
        "WATERMILL_TEST_FAKE"
    }

    fn start(&self, dir: &Path) -> Result<String> {
        if self.fails {
            return Err("it is not installed".to_owned());
        }
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("running"), "").unwrap();
        Ok(format!("fake://{}", self.name))
    }

    fn is_up(&self, dir: &Path) -> bool {
        dir.join("running").exists()
    }

    fn stop(&self, dir: &Path) -> Result {
        fs::remove_file(dir.join("running")).map_err(|error| error.to_string())
    }

    fn kill(&self, dir: &Path) -> Result {
        self.stop(dir)
    }

    fn remove(&self, dir: &Path) -> Result {
        remove_dirs(&[dir])
    }
}

/// A folder that goes away at the end of a test.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("watermill-xtask-{}-{test}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn nothing(_: &str) -> Result<Option<String>> {
    Ok(None)
}

#[test]
fn up_starts_once_and_down_stops_what_up_started() {
    let folder = Folder::new("once");
    let services: &[&dyn Service] = &[&Fake::new("fake")];

    assert_eq!(start_all(services, &folder.0, nothing), Ok(Started::Some));
    assert_eq!(State::load(&folder.0).unwrap().url("fake"), Some("fake://fake"));
    assert_eq!(start_all(services, &folder.0, nothing), Ok(Started::Nothing));

    stop_all(services, &folder.0).unwrap();
    assert!(!services[0].is_up(&folder.0.join("fake")));
    assert_eq!(State::load(&folder.0).unwrap(), State::default());
}

#[test]
fn a_server_that_ended_by_itself_is_started_again() {
    let folder = Folder::new("again");
    let services: &[&dyn Service] = &[&Fake::new("fake")];
    start_all(services, &folder.0, nothing).unwrap();
    fs::remove_file(folder.0.join("fake/running")).unwrap();
    assert_eq!(start_all(services, &folder.0, nothing), Ok(Started::Some));
}

#[test]
fn what_the_environment_names_is_used_and_never_stopped() {
    let folder = Folder::new("environment");
    let services: &[&dyn Service] = &[&Fake { name: "fake", fails: true }];
    let named =
        |variable: &str| Ok((variable == "WATERMILL_TEST_FAKE").then(|| "fake://elsewhere".to_owned()));
    assert_eq!(start_all(services, &folder.0, named), Ok(Started::Nothing));
    stop_all(services, &folder.0).unwrap();
}

/// A fake that this machine cannot have.
struct Missing;

impl Service for Missing {
    fn name(&self) -> &'static str {
        "missing"
    }

    fn variable(&self) -> &'static str {
        "WATERMILL_TEST_MISSING"
    }

    fn start(&self, _dir: &Path) -> Result<String> {
        Err("nobody sells it".to_owned())
    }

    fn is_up(&self, _dir: &Path) -> bool {
        false
    }

    fn missing(&self) -> Option<String> {
        Some("nobody sells it".to_owned())
    }

    fn stop(&self, _dir: &Path) -> Result {
        Ok(())
    }

    fn kill(&self, _dir: &Path) -> Result {
        Ok(())
    }

    fn remove(&self, _dir: &Path) -> Result {
        Ok(())
    }
}

#[test]
fn a_server_that_cannot_be_had_is_left_out_but_not_on_a_build_server() {
    let folder = Folder::new("missing");
    let services: &[&dyn Service] = &[&Missing, &Fake::new("fake")];
    assert_eq!(start_all(services, &folder.0, nothing), Ok(Started::Some));
    assert_eq!(State::load(&folder.0).unwrap().url("missing"), None);
    for ci in ["true", ""] {
        let on_a_build_server = |variable: &str| match variable {
            "CI" if ci.is_empty() => Err("CI is set and empty".to_owned()),
            "CI" => Ok(Some(ci.to_owned())),
            _ => Ok(None),
        };
        let message = start_all(services, &folder.0, on_a_build_server).unwrap_err();
        assert_eq!(message, "failed to start missing: nobody sells it");
    }
}

#[test]
fn a_server_that_cannot_start_leaves_the_earlier_ones_to_down() {
    let folder = Folder::new("partial");
    let services: &[&dyn Service] = &[&Fake::new("first"), &Fake { name: "second", fails: true }];
    let message = start_all(services, &folder.0, nothing).unwrap_err();
    assert_eq!(message, "failed to start second: it is not installed");
    stop_all(services, &folder.0).unwrap();
    assert!(!services[0].is_up(&folder.0.join("first")));
}

#[test]
fn a_state_file_that_is_not_an_object_is_named() {
    let folder = Folder::new("rubbish");
    fs::write(folder.0.join("services.json"), "[]").unwrap();
    assert!(State::load(&folder.0).unwrap_err().contains("services.json is not a JSON object"));
}

#[test]
fn servers_are_chosen_by_name_and_unknown_names_are_refused() {
    let services: &[&dyn Service] = &[&Fake::new("first"), &Fake::new("second")];
    let choose = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let chosen = chosen(services, &names)?;
        Ok::<_, String>(chosen.iter().map(|service| service.name()).collect::<Vec<_>>())
    };
    assert_eq!(choose(&[]).unwrap(), ["first", "second"]);
    assert_eq!(choose(&["second"]).unwrap(), ["second"]);
    assert_eq!(choose(&["third"]).unwrap_err(), "there is no service `third`; there are first, second");
}
