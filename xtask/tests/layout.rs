//! The workspace is laid out as its documents say.

#[path = "layout/documents.rs"]
mod documents;
#[path = "layout/guide.rs"]
mod guide;
#[path = "layout/modules.rs"]
mod modules;
#[path = "layout/sources.rs"]
mod sources;

use documents::{crate_map, default_members, documents, is_published, members, package, version_of};
use modules::{FLOORS, reexports};
use sources::{Source, read, root, rust_sources};

/// A backend: where its sources and its conformance test are.
struct Backend {
    sources: &'static str,
    /// Its table of contents.
    index: &'static str,
    conformance: &'static str,
}

/// Every backend. A new one has a line here.
const BACKENDS: &[Backend] = &[
    Backend {
        sources: "watermill-core/src/memory",
        index: "watermill-core/src/memory/mod.rs",
        conformance: "watermill-core/tests/conformance.rs",
    },
    Backend {
        sources: "watermill-sql/src",
        index: "watermill-sql/src/lib.rs",
        conformance: "watermill-sql/tests/conformance.rs",
    },
    Backend {
        sources: "watermill-kafka/src",
        index: "watermill-kafka/src/lib.rs",
        conformance: "watermill-kafka/tests/conformance.rs",
    },
    Backend {
        sources: "watermill-redis/src",
        index: "watermill-redis/src/lib.rs",
        conformance: "watermill-redis/tests/conformance.rs",
    },
    Backend {
        sources: "watermill-nats/src",
        index: "watermill-nats/src/lib.rs",
        conformance: "watermill-nats/tests/conformance.rs",
    },
    Backend {
        sources: "watermill-http/src",
        index: "watermill-http/src/lib.rs",
        conformance: "watermill-http/tests/conformance.rs",
    },
    Backend {
        sources: "watermill-amqp/src",
        index: "watermill-amqp/src/lib.rs",
        conformance: "watermill-amqp/tests/conformance.rs",
    },
    Backend {
        sources: "watermill-gcp/src",
        index: "watermill-gcp/src/lib.rs",
        conformance: "watermill-gcp/tests/conformance.rs",
    },
];

/// The modules that every backend has, or each of its layouts.
const SPINE: &[&str] = &["config", "publisher", "subscriber", "settle", "marshaler", "error"];

/// Nobody reads a table of contents that is longer.
const INDEX_LINES_MAX: usize = 80;

/// What joins the suite says how to make a backend and what it lacks, and no more.
const CONFORMANCE_LINES_MAX: usize = 120;

/// At 400 lines one looks for the seam; here it has been missed.
const FILE_LINES_MAX: usize = 600;

/// Dependencies whose types users meet, or whose version they ask for: the README names the versions.
const SHOWN: &[&str] =
    &["async-nats", "bytes", "futures", "rdkafka", "redis", "sqlx", "tokio", "tokio-util", "tower"];

#[test]
fn every_backend_has_the_spine() {
    let mut faults = Vec::new();
    for backend in BACKENDS {
        let sources = root().join(backend.sources);
        // The README of a crate lies beside its `src`, the one of the backend in core with its files.
        let home = if sources.ends_with("src") { sources.join("..") } else { sources.clone() };
        if !home.join("README.md").is_file() {
            faults.push(format!("{} has no README.md; it is the backend's docs", backend.sources));
        }
        for module in SPINE {
            let file = format!("{module}.rs");
            let mut folders = std::fs::read_dir(&sources).unwrap().map(|entry| entry.unwrap().path());
            let is_there = sources.join(&file).is_file()
                || sources.join(module).join("mod.rs").is_file()
                || folders.any(|folder| folder.join(&file).is_file());
            if !is_there {
                faults.push(format!(
                    "{} has no {module}.rs; see the table in CONTRIBUTING.md for what belongs there",
                    backend.sources
                ));
            }
        }
    }
    report(faults);
}

#[test]
fn the_index_of_a_backend_is_a_table_of_contents() {
    let mut faults = Vec::new();
    for backend in BACKENDS {
        let text = read(&root().join(backend.index));
        let lines = text.lines().count();
        if lines > INDEX_LINES_MAX {
            faults.push(format!("{} has {lines} lines, more than {INDEX_LINES_MAX}", backend.index));
        }
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let logic = ["fn", "struct", "enum", "trait", "impl", "static", "macro_rules!"];
            if !line.starts_with("//") && line.split([' ', '<']).any(|word| logic.contains(&word)) {
                faults.push(format!(
                    "{}:{} is more than a module or a re-export; move it to the file of its role",
                    backend.index,
                    at + 1
                ));
            }
        }
    }
    report(faults);
}

#[test]
fn every_backend_joins_the_suite_in_a_file_one_reads_at_a_glance() {
    let mut faults = Vec::new();
    for backend in BACKENDS {
        let path = root().join(backend.conformance);
        if !path.is_file() {
            faults.push(format!("{} is missing; every backend joins the suite", backend.conformance));
            continue;
        }
        let text = read(&path);
        if !text.contains("watermill_testkit::conformance!") {
            faults.push(format!("{} does not use `watermill_testkit::conformance!`", backend.conformance));
        }
        if text.lines().count() > CONFORMANCE_LINES_MAX {
            faults.push(format!(
                "{} has more than {CONFORMANCE_LINES_MAX} lines; what other backends need too belongs to the test kit",
                backend.conformance
            ));
        }
    }
    report(faults);
}

#[test]
fn every_middleware_file_has_a_type_of_its_name() {
    let mut faults = Vec::new();
    for source in rust_sources(&root().join("watermill-core/src/middleware")) {
        let Some(name) = source.middleware_name() else { continue };
        if !source.defines_type(&name) {
            faults.push(format!(
                "{} has no `pub struct {name}`; a middleware's file is named like its type",
                source.path
            ));
        }
    }
    report(faults);
}

#[test]
fn a_module_of_the_core_imports_only_from_those_below_it() {
    let sources = root().join("watermill-core/src");
    let reexports = reexports(&read(&sources.join("lib.rs")));
    let floor = |module: &str| FLOORS.iter().position(|known| *known == module);
    let mut faults = Vec::new();
    for source in rust_sources(&sources) {
        let Some(module) = source.core_module() else { continue };
        let Some(own) = floor(module) else {
            faults.push(format!("`{module}` has no place among the FLOORS in xtask/tests/layout/modules.rs"));
            continue;
        };
        for name in source.crate_imports() {
            let from = reexports.get(&name).unwrap_or(&name);
            if from != module && floor(from).is_none_or(|below| below > own) {
                faults
                    .push(format!("{} imports `{name}` of `{from}`, which is above `{module}`", source.path));
            }
        }
    }
    report(faults);
}

#[test]
fn a_module_with_files_of_its_own_is_a_folder_with_a_mod_rs() {
    let crates = members();
    let folders = crates.iter().map(|name| root().join(name).join("src")).filter(|folder| folder.is_dir());
    let beside = |source: Source| {
        let folder = source.path.strip_suffix(".rs")?.to_owned();
        let mut files = std::fs::read_dir(root().join(&folder)).ok()?;
        files.next().map(|_| format!("{} belongs into its folder, as {folder}/mod.rs", source.path))
    };
    report(folders.flat_map(|folder| rust_sources(&folder)).filter_map(beside).collect());
}

#[test]
fn no_source_file_is_too_long_to_read() {
    report(every_source(|source| {
        let lines = source.text.lines().count();
        (lines > FILE_LINES_MAX)
            .then(|| format!("{} has {lines} lines, more than {FILE_LINES_MAX}: find its seam", source.path))
    }));
}

#[test]
fn no_test_is_ignored() {
    report(every_source(|source| {
        let line = source.line_of_ignored_test()?;
        Some(format!("{}:{line} ignores a test; make it run or remove it", source.path))
    }));
}

#[test]
fn every_example_in_the_docs_compiles() {
    let mut faults = every_source(|source| source.line_of_ignored_example().map(|line| at(source, line)));
    for path in documents() {
        let source = Source { text: read(&root().join(&path)), path };
        faults.extend(source.line_of_ignored_example().map(|line| at(&source, line)));
    }
    report(faults);

    fn at(source: &Source, line: usize) -> String {
        format!("{}:{line} is an example that is not compiled; `no_run` is enough", source.path)
    }
}

#[test]
fn the_documents_name_every_crate() {
    let members = members();
    let map = crate_map(&read(&root().join("ARCHITECTURE.md")));
    let readme = read(&root().join("README.md"));
    let missing = members.difference(&map).map(|name| format!("ARCHITECTURE.md's crate map lacks {name}/"));
    let surplus =
        map.difference(&members).map(|name| format!("ARCHITECTURE.md's crate map has {name}/, no crate"));
    let unlisted = members
        .iter()
        .filter(|name| is_published(name) && !readme.contains(&format!("]({name}/)")))
        .map(|name| format!("README.md's table of crates has no link to {name}"));
    report(missing.chain(surplus).chain(unlisted).collect());
}

#[test]
fn the_readme_names_the_versions_that_the_manifests_have() {
    let readme = read(&root().join("README.md"));
    let mut faults = Vec::new();
    for member in members().iter().filter(|member| is_published(member)) {
        let (name, rust) = package(member);
        let row = |line: &&str| {
            line.starts_with(&format!("| `{name}` |")) && line.contains(&format!("Rust {rust}"))
        };
        if !readme.lines().any(|line| row(&line)) {
            faults.push(format!("README.md has no row that says that {name} compiles with Rust {rust}"));
        }
    }
    let manifest = read(&root().join("Cargo.toml"));
    for dependency in SHOWN {
        let version = version_of(&manifest, dependency);
        if !readme.contains(&format!("{dependency} {version}")) {
            faults.push(format!("README.md does not say that we use {dependency} {version}"));
        }
    }
    report(faults);
}

#[test]
fn every_folder_with_a_manifest_is_a_crate_of_the_workspace() {
    let members = members();
    let mut faults = Vec::new();
    for entry in std::fs::read_dir(root()).expect("the workspace can be listed").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().join("Cargo.toml").is_file() && !members.contains(&name) {
            faults.push(format!("{name}/ has a Cargo.toml and is not among the members in the workspace's"));
        }
    }
    report(faults);
}

#[test]
fn a_plain_build_leaves_out_the_benchmarks_that_have_a_rival_beside_them_and_nothing_else() {
    let (members, built) = (members(), default_members());
    assert_eq!(members.difference(&built).collect::<Vec<_>>(), ["benchmarks"]);
    assert_eq!(built.difference(&members).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn the_front_matter_is_complete() {
    let expected = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "clippy.toml",
        "deny.toml",
        "compose.yaml",
        ".ci/run",
    ];
    let missing = expected.iter().filter(|path| !root().join(path).is_file());
    report(missing.map(|path| format!("{path} is missing")).collect());
}

/// Fails with every fault, one on a line.
fn report(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn every_source(fault: impl Fn(&Source) -> Option<String>) -> Vec<String> {
    members()
        .iter()
        .flat_map(|name| rust_sources(&root().join(name)))
        .filter_map(|source| fault(&source))
        .collect()
}
