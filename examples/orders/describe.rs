//! `describe`: what the service is made of.

use watermill_core::{
    error::BoxError,
    router::topology::{AsyncApi, Topology},
};
use watermill_telemetry::Metrics;

use crate::{billing, broker::Broker, database::Database, settings::Settings};

/// Prints the worker's topology; `what` is a format or the name of a handler.
pub(crate) fn print<D: Database>(settings: &Settings, what: &str) -> Result<(), BoxError> {
    let broker = Broker::connect(&settings.broker)?;
    let worker = billing::router(D::pool(&settings.database)?, &broker, &Metrics::new())?;
    let topology = worker.describe();
    match what {
        "text" => print!("{topology}"),
        "json" => println!("{:#}", topology.to_json()),
        "dot" => print!("{}", topology.to_dot()),
        "asyncapi" => println!("{:#}", document(&topology, &settings.broker)),
        handler => match topology.handler(handler) {
            Some(handler) => print!("{}", handler.explain()),
            None => return Err(format!("describe {handler:?}: it is no format and no handler").into()),
        },
    }
    Ok(())
}

/// What other teams read: topics, and the payloads on them.
fn document(topology: &Topology, broker: &str) -> serde_json::Value {
    let document =
        AsyncApi::new("Orders", env!("CARGO_PKG_VERSION")).description("Bills the orders that were placed.");
    let backend = broker.split(':').next().unwrap_or_default();
    document.server(backend, broker).document(topology)
}
