//! JSON of a value as [`Bytes`], with one allocation of its length.

use std::cell::Cell;

use bytes::Bytes;
use serde::Serialize;

thread_local! {
    /// What JSON is written to, so that no vector is grown for each value.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// How much room is kept on a thread.
const SCRATCH_MAX: usize = 64 * 1024;

pub(crate) fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, serde_json::Error> {
    // Taken, and not borrowed: to serialize may mean to make other messages.
    let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    scratch.clear();
    let written = serde_json::to_writer(&mut scratch, value);
    let bytes = written.map(|()| Bytes::copy_from_slice(&scratch));
    if scratch.capacity() <= SCRATCH_MAX {
        let _ = SCRATCH.try_with(|place| place.set(scratch));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use serde::Serializer;

    use super::*;

    #[test]
    fn a_value_that_makes_json_while_it_is_written_comes_out_whole() {
        struct Nested;
        impl Serialize for Nested {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let inner = to_bytes(&[1, 2]).unwrap();
                serializer.serialize_str(std::str::from_utf8(&inner).unwrap())
            }
        }
        assert_eq!(to_bytes(&("a", Nested)).unwrap(), r#"["a","[1,2]"]"#);
        assert_eq!(to_bytes(&"b").unwrap(), r#""b""#);
    }

    #[test]
    fn a_large_value_leaves_no_large_scratch_behind() {
        let large = "x".repeat(2 * SCRATCH_MAX);
        assert_eq!(to_bytes(&large).unwrap().len(), large.len() + 2);
        assert!(SCRATCH.take().capacity() <= SCRATCH_MAX);
    }
}
