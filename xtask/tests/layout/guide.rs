//! The guide says what is so.

use crate::{
    documents::{documents, members, package},
    report,
    sources::{Source, code_lines, read, root, rust_sources},
};

/// The page of the guide for authors of backends.
const ON_BACKENDS: &str = "docs/writing-a-backend.md";

#[test]
fn every_page_of_the_guide_is_listed_and_has_its_blocks_compiled() {
    let (index, library) = (read(&root().join("docs/README.md")), read(&root().join("examples/lib.rs")));
    let pages = documents().into_iter().filter_map(|path| Some(path.strip_prefix("docs/")?.to_owned()));
    let pages: Vec<String> = pages.filter(|page| page != "README.md").collect();
    assert!(!pages.is_empty(), "there is no guide");
    let unlisted = pages.iter().filter(|page| !index.contains(&format!("]({page})")));
    let unlisted = unlisted.map(|page| format!("docs/README.md does not list {page}"));
    let blind = pages.iter().filter(|page| !library.contains(&format!("\"{page}\"")));
    report(
        unlisted.chain(blind.map(|page| format!("examples/lib.rs does not compile docs/{page}"))).collect(),
    );
}

#[test]
fn the_guide_names_no_metric_that_there_is_not() {
    let metrics = read(&root().join("watermill-telemetry/METRICS.md"));
    let crates: Vec<String> = members().iter().map(|name| package(name).0.replace('-', "_")).collect();
    let mut faults = Vec::new();
    for path in documents().into_iter().filter(|path| path.starts_with("docs/")) {
        let text = read(&root().join(&path));
        let names = text.split(|it: char| !(it.is_ascii_lowercase() || it == '_'));
        // Tables of topics begin like metrics, and so do crates.
        let names =
            names.filter(|name| name.starts_with("watermill_") && !name.starts_with("watermill_offsets"));
        for name in names.filter(|name| !crates.iter().any(|it| it == name)) {
            if !metrics.contains(&format!("| `{name}` |")) {
                faults.push(format!("{path} names {name}, which METRICS.md does not have"));
            }
        }
    }
    report(faults);
}

#[test]
fn the_guide_counts_the_lines_of_the_worked_example_of_a_backend() {
    let guide = read(&root().join(ON_BACKENDS));
    let mut faults = Vec::new();
    let mut lines_of = |files: &[&str]| {
        let mut sum = 0;
        for file in files {
            let source = read(&root().join("watermill-core/examples/spool/spool").join(file));
            let lines = source.lines().count();
            let claim = format!("`spool/{file}` ({lines} lines)");
            if !guide.contains(&claim) {
                faults.push(format!("{ON_BACKENDS} does not say {claim}"));
            }
            sum += lines;
        }
        sum
    };
    let kit = lines_of(&["subscriber.rs", "settle.rs", "publisher.rs", "error.rs"]);
    let medium = lines_of(&["directory.rs", "marshaler.rs"]);
    let claim = format!("So {kit} lines stand between a medium of {medium} lines and the two traits.");
    if !guide.contains(&claim) {
        faults.push(format!("{ON_BACKENDS} does not say: {claim}"));
    }
    report(faults);
}

/// Of a backend for a real server, made with the kit, all that is not options or tests.
const KIT_BACKEND_LINES_MAX: usize = 500;

#[test]
fn the_guide_counts_the_lines_of_a_backend_for_a_real_server() {
    let sources = root().join("watermill-redis/src");
    // Its streams; pub/sub beside them is another backend.
    let is_counted =
        |source: &Source| !source.path.ends_with("/config.rs") && !source.path.contains("/pubsub/");
    let rust = rust_sources(&sources).into_iter().filter(is_counted);
    let rust: usize = rust.map(|source| code_lines(&source.text, "//")).sum();
    let scripts = ["claim", "settle", "leave"].map(|name| read(&sources.join(name).with_extension("lua")));
    let lua: usize = scripts.iter().map(|script| code_lines(script, "--")).sum();
    let guide = read(&root().join(ON_BACKENDS));
    let claim = format!("{rust} lines of Rust and {lua} of Lua");
    assert!(guide.contains(&claim), "{ON_BACKENDS} does not say of watermill-redis: {claim}");
    assert!(
        rust + lua <= KIT_BACKEND_LINES_MAX,
        "watermill-redis has {claim}: what is not about Redis is the kit's"
    );
}
