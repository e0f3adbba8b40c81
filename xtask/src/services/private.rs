//! Servers for one test, which may kill them: each in a folder of its own, `<name>-<anything>` below
//! `target/services/private`.

use std::{fs, path::Path};

use super::{Service, USAGE, chosen};
use crate::Result;

/// `private <up|durable|replicated|freeze|thaw|alarm|calm|kill|down> <name> <folder>`, or `private follow <name> <folder> <folder of another>`, or
/// `private turn <name> <folder> <seconds>`. `up`, `durable`, `replicated` and `follow` print the URL and nothing else on standard output.
pub(super) fn run(services: &[&dyn Service], args: &[String]) -> Result {
    let [verb, name, folders @ ..] = args else {
        return Err(format!(
            "say up, follow, freeze, thaw, alarm, calm, kill, turn or down, a name and a folder\n\n{USAGE}"
        ));
    };
    let folders: Vec<&Path> = folders.iter().map(Path::new).collect();
    for service in chosen(services, std::slice::from_ref(name))? {
        match (verb.as_str(), &folders[..]) {
            ("up", [dir]) => println!("{}", service.start(dir)?),
            ("durable", [dir]) => println!("{}", service.start_durable(dir)?),
            ("replicated", [dir]) => println!("{}", service.start_replicated(dir)?),
            ("follow", [dir, primary]) => println!("{}", service.follow(dir, primary)?),
            ("freeze", [dir]) => service.freeze(dir)?,
            ("thaw", [dir]) => service.thaw(dir)?,
            ("alarm", [dir]) => service.alarm(dir)?,
            ("calm", [dir]) => service.calm(dir)?,
            ("kill", [dir]) => service.kill(dir)?,
            ("turn", [dir, seconds]) => service.turn(dir, &seconds.to_string_lossy())?,
            ("down", [dir]) => end(service, dir)?,
            _ => {
                return Err(format!(
                    "say up, freeze, thaw, alarm, calm, kill or down and a folder, follow and two, or turn and seconds\n\n{USAGE}"
                ));
            }
        }
    }
    Ok(())
}

/// Stops and removes what is left of tests that were killed.
pub(super) fn stop_all(services: &[&dyn Service], dir: &Path) -> Result {
    for entry in fs::read_dir(dir.join("private")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let of_name = |service: &&&dyn Service| name.starts_with(&format!("{}-", service.name()));
        if let Some(service) = services.iter().find(of_name) {
            end(*service, &entry.path())?;
        }
    }
    Ok(())
}

fn end(service: &dyn Service, dir: &Path) -> Result {
    service.kill(dir)?;
    service.remove(dir)
}
