//! What is recorded, and under which names.

mod bounds;
mod figures;
mod relay;
mod shared_labels;
mod the_list;
mod unknown;

use std::collections::BTreeMap;

use tokio::task::JoinHandle;
use watermill_core::{
    Router,
    router::{Phase, Report, RouterControl, RunError},
};
use watermill_telemetry::Metrics;

/// A router that runs in the background.
struct Running {
    control: RouterControl,
    task: JoinHandle<Result<Report, RunError>>,
}

impl Running {
    async fn start<S: Send + 'static, L: Send + Sync + 'static>(router: Router<S, L>) -> Self {
        let control = router.control();
        let task = tokio::spawn(router.run());
        control.reached(Phase::Running).await;
        Self { control, task }
    }

    async fn stop(self) {
        self.control.stop();
        self.task.await.expect("it does not panic").expect("it ends well");
    }
}

/// The samples of a page, by name and labels as they stand there.
fn samples(metrics: &Metrics) -> BTreeMap<String, f64> {
    let page = metrics.render().expect("it has a page");
    let samples = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a sample has a value");
            (name.to_owned(), value.parse().expect("a value is a number"))
        })
        .collect()
}

/// The value of one sample.
fn sample(metrics: &Metrics, name: &str) -> f64 {
    let samples = samples(metrics);
    *samples.get(name).unwrap_or_else(|| panic!("there is no {name} in {samples:#?}"))
}
