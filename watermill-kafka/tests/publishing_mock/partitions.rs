//! Messages with a key go where Go's client puts them, so that services in both languages share topics.

use std::collections::BTreeMap;

use watermill_core::{Message, Publisher as _};

use crate::cluster::Cluster;

/// What Sarama itself has said, the client of Watermill for Go.
const SARAMA: &str = include_str!("sarama.txt");

/// The numbers of partitions that it was asked about.
const PARTITIONS: [i32; 5] = [1, 2, 3, 7, 12];

/// Keys as services have them, short and long, text and bytes, and the empty one; and where they go.
fn keys() -> Vec<(Vec<u8>, Vec<i32>)> {
    let read = |line: &str| {
        let (key, partitions) = line.split_once(' ').expect("a key and its partitions");
        // The empty key has no digits.
        let digits = if key == "-" { "" } else { key };
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("two digits");
        let partitions = partitions.split(' ').map(|number| number.parse().expect("a number"));
        ((0..digits.len()).step_by(2).map(byte).collect(), partitions.collect())
    };
    SARAMA.lines().filter(|line| !line.starts_with('#')).map(read).collect()
}

/// The hash that Sarama takes as a signed number, the remainder's sign dropped.
fn fnv1a(key: &[u8]) -> i32 {
    key.iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
        .cast_signed()
}

#[test]
fn the_keys_have_hashes_of_both_signs() {
    // Test vectors of the hash's authors.
    assert_eq!([fnv1a(b"a"), fnv1a(b"foobar")].map(i32::cast_unsigned), [0xe40c_292c, 0xbf9c_f968]);
    let negative = keys().iter().filter(|(key, _)| fnv1a(key) < 0).count();
    assert!(negative > 100 && keys().len() - negative > 100, "{negative} of {}", keys().len());
    assert!(keys().iter().any(|(key, _)| key.is_empty()));
}

#[tokio::test]
async fn a_message_with_a_key_goes_to_the_partition_that_go_chooses() {
    for (at, partitions) in PARTITIONS.into_iter().enumerate() {
        let cluster = Cluster::new(partitions);
        let message =
            |(number, (key, _)): (usize, (Vec<u8>, Vec<i32>))| Message::new(number.to_string()).with_key(key);
        let messages = keys().into_iter().enumerate().map(message).collect();
        cluster.publisher().publish(&cluster.topic, messages).await.expect("they are accepted");

        let mut expected: BTreeMap<i32, Vec<String>> = BTreeMap::new();
        for (number, (_, chosen)) in keys().iter().enumerate() {
            expected.entry(chosen[at]).or_default().push(number.to_string());
        }
        for (partition, numbers) in expected {
            assert_eq!(
                cluster.read(partition, numbers.len()),
                numbers,
                "partition {partition} of {partitions}"
            );
        }
    }
}
