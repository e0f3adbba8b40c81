//! What the compiler says of handlers that are none: in the plain, and with `debug_handler`.
//!
//! The programs lie in `texts`, each with what the compiler must say of it, word for word.

use std::process::Command;

/// The compiler that has said so. Others say it with other words around ours; `cargo xtask test` leaves this
/// out with them, says so, and fails where `CI` is set. It looks for this line.
const COMPILER: &str = "1.95";

const BLESS: &str = "TRYBUILD=overwrite cargo test -p watermill-macros --features texts --test texts";

#[test]
fn the_compiler_names_what_is_wrong_with_a_handler() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("a compiler that says its version");
    let version = String::from_utf8_lossy(&version.stdout);
    assert!(
        version.starts_with(&format!("rustc {COMPILER}.")),
        "the texts are those of Rust {COMPILER}, and this is {version}\
         compare with the right one:  cargo +{COMPILER} test -p watermill-macros --features texts --test texts\n\
         or move on to this one: set COMPILER in {}, run `{BLESS}`, and read what has changed",
        file!(),
    );
    let texts = trybuild::TestCases::new();
    texts.compile_fail("tests/texts/*/*.rs");
}
