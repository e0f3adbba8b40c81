//! Which module of the core may import which, and where the files of a module lie.

use std::collections::BTreeMap;

use crate::sources::Source;

/// The modules of `watermill-core`, from the ground up: each imports from those before it and from no other.
pub(crate) const FLOORS: &[&str] = &[
    // Words, numbers and errors.
    "go_duration",
    "metadata_keys",
    "cloud_events",
    "backoff",
    "handling",
    "error",
    "panic",
    // What is sent and received.
    "settle",
    "message",
    "delivery",
    "subscription",
    "publisher",
    "subscriber",
    "fenced",
    "decorator",
    "dead_letter",
    "delay",
    // Those who send and receive.
    "backend",
    "memory",
    // Those who handle.
    "router",
    "middleware",
    // What is made of all of these.
    "components",
    "cqrs",
    "request_reply",
];

/// What `lib.rs` re-exports, each with the module that it comes from.
pub(crate) fn reexports(lib: &str) -> BTreeMap<String, String> {
    let uses = lib.split(';').filter_map(|item| item.trim().split_once("pub use ")?.1.split_once("::"));
    uses.flat_map(|(module, names)| {
        words(names).map(move |name| (name.to_owned(), module.to_owned())).collect::<Vec<_>>()
    })
    .collect()
}

impl Source {
    /// `router` for `watermill-core/src/router/worker/mod.rs`; none for `lib.rs` and what tests share.
    pub(crate) fn core_module(&self) -> Option<&str> {
        let inner = self.path.strip_prefix("watermill-core/src/")?;
        let module = inner.split(['/', '.']).next()?;
        let is_test = inner.ends_with("/tests.rs") || module == "fixtures";
        (!is_test && module != "lib").then_some(module)
    }

    /// The first names behind every `crate::`, outside of comments and unit tests.
    pub(crate) fn crate_imports(&self) -> Vec<String> {
        let code = self.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let code =
            code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        let paths = code.match_indices("crate::").map(|(at, found)| &code[at + found.len()..]);
        paths.flat_map(first_names).map(str::to_owned).collect()
    }
}

/// `a` and `b` of `{a, b::{c, d}}`, and `a` of `a::b`.
fn first_names(path: &str) -> Vec<&str> {
    let Some(group) = path.strip_prefix('{') else { return words(path).take(1).collect() };
    let mut depth = 0;
    let mut names = Vec::new();
    for item in group.split_inclusive(['{', '}', ',']) {
        if depth == 0 {
            names.extend(words(item).next());
        }
        match item.chars().last() {
            Some('{') => depth += 1,
            Some('}') if depth == 0 => break,
            Some('}') => depth -= 1,
            _ => {}
        }
    }
    names
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty())
}

#[test]
fn imports_are_read_from_groups_and_paths_and_not_from_comments_and_tests() {
    let text = "//! [`crate::middleware`]\nuse crate::{\n    Message, error::{BoxError, chain},\n    router::Outputs,\n};\nfn f(_: crate::Delivery) {}\n#[cfg(test)]\nmod tests { use crate::memory; }\n";
    let source = Source { path: "watermill-core/src/router/worker/mod.rs".to_owned(), text: text.to_owned() };
    assert_eq!(source.core_module(), Some("router"));
    assert_eq!(source.crate_imports(), ["Message", "error", "router", "Delivery"]);
    let names = reexports("mod a;\npub use message::{Message, MessageId};\npub use backoff::Backoff;\n");
    assert_eq!(names["MessageId"], "message");
    assert_eq!(names["Backoff"], "backoff");
}
