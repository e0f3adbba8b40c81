//! Messages with a key go where Go's client puts them, so that services in both languages share topics.

use std::collections::BTreeMap;

use watermill_core::{Message, Publisher as _};

use crate::cluster::Cluster;

/// Sarama's hash partitioner: FNV-1a of 32 bits, taken as a signed number, its remainder made positive.
fn of_go(key: &[u8], partitions: i32) -> i32 {
    let hash = fnv1a(key).cast_signed() % partitions;
    hash.abs()
}

fn fnv1a(key: &[u8]) -> u32 {
    key.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Keys as services have them, short and long, text and bytes, and the empty one.
fn keys() -> Vec<Vec<u8>> {
    let numbered = (0..200).map(|number| format!("customer-{number}").into_bytes());
    let bytes = (0..=255_u8).map(|byte| vec![byte, 0, byte.wrapping_mul(7)]);
    numbered.chain(bytes).chain([Vec::new(), vec![0], "käse".into(), vec![b'x'; 300]]).collect()
}

#[test]
fn the_oracle_is_fnv_1a_and_the_keys_have_hashes_of_both_signs() {
    // Test vectors of the hash's authors.
    assert_eq!(fnv1a(b""), 0x811c_9dc5);
    assert_eq!(fnv1a(b"a"), 0xe40c_292c);
    assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
    let negative = keys().iter().filter(|key| fnv1a(key).cast_signed() < 0).count();
    assert!(negative > 100 && keys().len() - negative > 100, "{negative} of {}", keys().len());
}

#[tokio::test]
async fn a_message_with_a_key_goes_to_the_partition_that_go_chooses() {
    for partitions in [1, 2, 3, 7, 12] {
        let cluster = Cluster::new(partitions);
        let message = |(at, key): (usize, Vec<u8>)| Message::new(at.to_string()).with_key(key);
        let messages = keys().into_iter().enumerate().map(message).collect();
        cluster.publisher().publish(&cluster.topic, messages).await.expect("they are accepted");

        let mut expected: BTreeMap<i32, Vec<String>> = BTreeMap::new();
        for (at, key) in keys().iter().enumerate() {
            expected.entry(of_go(key, partitions)).or_default().push(at.to_string());
        }
        for (partition, ids) in expected {
            assert_eq!(cluster.read(partition, ids.len()), ids, "partition {partition} of {partitions}");
        }
    }
}
