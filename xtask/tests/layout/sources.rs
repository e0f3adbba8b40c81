//! Rust files as text.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file and its path from the workspace's root.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace's root").to_owned()
}

/// The text of a file that must be there.
pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("failed to read {}: {error}", path.display()))
}

/// Every Rust file below a folder.
pub(crate) fn rust_sources(folder: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    collect(folder, &mut sources);
    assert!(!sources.is_empty(), "no Rust files below {}", folder.display());
    sources
}

fn collect(folder: &Path, sources: &mut Vec<Source>) {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("failed to list {}: {error}", folder.display()));
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            // A crate may be built by itself, with its own target folder.
            if entry.file_name() != "target" {
                collect(&path, sources);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = read(&path);
            let path = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
            sources.push(Source { path, text });
        }
    }
}

/// How many lines of code a text has before its unit tests: neither empty nor only a comment.
pub(crate) fn code_lines(text: &str, comment: &str) -> usize {
    let before_tests = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = before_tests.lines().map(str::trim_start);
    lines.filter(|line| !line.is_empty() && !line.starts_with(comment)).count()
}

impl Source {
    /// `PoisonQueue` for `middleware/poison_queue.rs`; `None` for files that are not one middleware.
    pub(crate) fn middleware_name(&self) -> Option<String> {
        let (_, inner) = self.path.split_once("middleware/")?;
        // A middleware that needs several files is a folder of its name, with its type in `mod.rs`.
        let name = match inner.strip_suffix(".rs")? {
            "mod" => return None,
            inner => inner.strip_suffix("/mod").unwrap_or(inner),
        };
        (!name.contains('/')).then(|| name.split('_').map(capitalised).collect())
    }

    /// Whether it has `pub struct Name` or `pub enum Name`. `pub(crate)` will do: what several
    /// middlewares share is a file here too.
    pub(crate) fn defines_type(&self, name: &str) -> bool {
        self.text.lines().any(|line| {
            let mut words = line.split([' ', '(', ')', '<', ';', '{']).filter(|word| !word.is_empty());
            words.next() == Some("pub")
                && words.find(|word| ["struct", "enum"].contains(word)).is_some()
                && words.next() == Some(name)
        })
    }

    /// The number of the first line with the attribute that leaves a test out.
    pub(crate) fn line_of_ignored_test(&self) -> Option<usize> {
        self.line(|line| {
            let attribute = line.trim_start().strip_prefix("#[ignore");
            attribute.is_some_and(|rest| rest.starts_with([']', ' ', '=']))
        })
    }

    /// The number of the first line that opens a code block which rustdoc leaves out.
    pub(crate) fn line_of_ignored_example(&self) -> Option<usize> {
        self.line(|line| {
            let line = line.trim_start().trim_start_matches(['/', '!', '*']).trim_start();
            line.strip_prefix("```").is_some_and(|tags| {
                tags.split([',', ' ']).any(|tag| tag == "ignore" || tag.starts_with("ignore-"))
            })
        })
    }

    fn line(&self, found: impl Fn(&str) -> bool) -> Option<usize> {
        self.text.lines().position(found).map(|at| at + 1)
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[test]
fn a_middleware_is_named_like_its_file_or_folder() {
    let name = |path: &str| Source { path: path.to_owned(), text: String::new() }.middleware_name();
    assert_eq!(name("core/src/middleware/poison_queue.rs").as_deref(), Some("PoisonQueue"));
    assert_eq!(name("core/src/middleware/deduplicator/mod.rs").as_deref(), Some("Deduplicator"));
    assert_eq!(name("core/src/middleware/deduplicator/store.rs"), None);
    assert_eq!(name("core/src/middleware/mod.rs"), None);
}

#[test]
fn types_and_ignored_tests_are_found_in_text() {
    let text = "pub struct RetryLayer;\n\npub(crate) struct Shared(u8);\nstruct Hidden;\n/// ```rust,ignore\n/// ```\n    #[ignore = \"slow\"]\npub struct Retry<S> {}\n";
    let source = Source { path: String::new(), text: text.to_owned() };
    assert!(source.defines_type("Retry") && source.defines_type("RetryLayer"));
    assert!(source.defines_type("Shared"));
    assert!(!source.defines_type("Ret") && !source.defines_type("Hidden"));
    assert_eq!(source.line_of_ignored_example(), Some(5));
    assert_eq!(source.line_of_ignored_test(), Some(7));
}
