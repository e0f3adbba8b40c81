//! The example with caches, on a real server.
#![cfg(feature = "redis")]

use std::process::Command;

use watermill_testkit::Service;

#[test]
fn all_replicas_forget_what_was_changed_and_nothing_else() {
    let mut example = Command::new(env!("CARGO_BIN_EXE_cache_invalidation"));
    let output = example.env("REDIS_URL", Service::REDIS.url()).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), include_str!("../expected/cache_invalidation.txt"));
}
