//! [`Rival`]: what a benchmark can be compared with that takes more than cargo to bring.

use crate::services::maven::Jars;

pub(super) struct Rival {
    /// As it is asked for.
    pub(super) name: &'static str,
    /// Tells the benchmark where it is.
    pub(super) variable: &'static str,
    pub(super) jars: Jars,
}

impl Rival {
    /// The relay that most who have an outbox use.
    pub(super) const DEBEZIUM: Self = Self {
        name: "debezium",
        variable: "WATERMILL_BENCH_DEBEZIUM",
        jars: Jars {
            name: "debezium",
            what: "Debezium",
            pom: include_str!("debezium/pom.xml"),
            classes: &[("OutboxRouter.java", include_str!("debezium/OutboxRouter.java"))],
        },
    };
}
