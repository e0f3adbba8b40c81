//! Which shard a message belongs to. Stable: every release and every process must say the same.

/// The shard of a message of that key, or of that offset where it has none.
///
/// The key's bytes are hashed with FNV-1a of 64 bits, and the hash is taken modulo the number of shards; without a key it
/// is the offset, so that such messages are spread evenly.
pub(crate) fn shard_of(key: Option<&[u8]>, offset: i64, shards: u32) -> u32 {
    let spread = match key {
        Some(key) => fnv1a(key),
        None => offset.cast_unsigned(),
    };
    u32::try_from(spread % u64::from(shards.max(1))).expect("it is below the number of shards")
}

fn fnv1a(bytes: &[u8]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    bytes.iter().fold(BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_of_a_key_is_the_same_in_every_release() {
        let of = |key: &str, shards| shard_of(Some(key.as_bytes()), 7, shards);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!((of("foobar", 4), of("foobar", 1), of("", 4)), (0, 0, 1));
        assert_eq!(["customer-1", "customer-2", "customer-3"].map(|key| of(key, 64)), [23, 10, 61]);
    }

    #[test]
    fn messages_without_a_key_are_spread_by_their_offsets() {
        assert_eq!([1, 2, 3, 4, 5].map(|offset| shard_of(None, offset, 4)), [1, 2, 3, 0, 1]);
    }

    #[test]
    fn keys_are_spread_evenly() {
        let mut counts = [0; 8];
        for number in 0..8_000 {
            counts[shard_of(Some(format!("order-{number}").as_bytes()), 0, 8) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
