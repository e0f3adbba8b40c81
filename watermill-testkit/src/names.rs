//! Names that nothing else has.

use std::sync::atomic::{AtomicU32, Ordering};

use uuid::Uuid;

/// A name that no other call returns, in this process or in another: `orders_0192f3c7a1b20007`.
///
/// Lowercase letters, digits and one underscore after `name`, 16 characters longer than it and the
/// underscore: fit for topics, groups, databases and files when `name` is.
pub fn unique(name: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let counter = COUNTER.fetch_add(1, Ordering::Relaxed) & 0xffff;
    // The random end of the UUID tells processes apart, the counter calls of one process.
    let random = Uuid::now_v7().as_u128() & 0xffff_ffff_ffff;
    format!("{name}_{random:012x}{counter:04x}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_differ_and_stay_simple() {
        let names: HashSet<_> = (0..1000).map(|_| unique("orders")).collect();
        assert_eq!(names.len(), 1000);
        for name in names {
            assert_eq!(name.len(), "orders".len() + 17);
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
        }
    }
}
