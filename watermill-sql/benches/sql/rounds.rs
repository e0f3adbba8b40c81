//! Contenders that take turns.

use std::time::Duration;

use futures::future::BoxFuture;
use watermill_testkit::workload;

/// One of those who do the same work.
pub(crate) struct Contender {
    name: String,
    run: Box<dyn Fn() -> BoxFuture<'static, Duration>>,
}

/// How fast they were, in the order in which they were given: a rate for each round.
pub(crate) struct Results(Vec<(String, Vec<f64>)>);

impl Contender {
    /// `run` does the work once and says how long that took.
    pub(crate) fn new<F>(name: impl Into<String>, run: impl Fn() -> F + 'static) -> Self
    where
        F: Future<Output = Duration> + Send + 'static,
    {
        Self { name: name.into(), run: Box::new(move || Box::pin(run())) }
    }
}

/// Lets everybody do `count` things in each round, so that what else the machine does hits all alike.
/// The rounds are shown on the standard error.
pub(crate) async fn in_turn(rounds: usize, count: usize, contenders: Vec<Contender>) -> Results {
    let mut results = Results(contenders.iter().map(|one| (one.name.clone(), Vec::new())).collect());
    for _ in 0..rounds {
        for (contender, (_, rates)) in contenders.iter().zip(&mut results.0) {
            let took = tokio::spawn((contender.run)()).await.expect("no panic");
            rates.push(workload::per_second(count, took));
        }
    }
    for (name, rates) in &results.0 {
        let rates: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
        eprintln!("{name:<44} {}", rates.join(" "));
    }
    results
}

impl Results {
    /// The middle round of one.
    pub(crate) fn middle(&self, name: &str) -> f64 {
        let (_, rates) = self.0.iter().find(|(of, _)| of == name).expect("a contender's name");
        workload::middle(rates.iter().copied())
    }
}
