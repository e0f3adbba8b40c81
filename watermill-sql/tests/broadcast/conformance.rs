//! What of the conformance suite fits a subscriber whose every subscription begins with what is published then and has
//! nobody to go on for it: a broadcast keeps what it has delivered until it is settled, as the suite for groups wants it, and
//! has neither groups nor anything to come back to.

use std::sync::Arc;

use async_trait::async_trait;
use watermill_sql::{SqlBroadcast, SqlPublisher, SqlPublisherConfig, SqlSubscriberConfig};
use watermill_testkit::{
    Backend, Connection,
    suite::{at_most_once, lifecycle, window},
};

use crate::databases::TestDatabase;

struct Broadcasts<S>(S);

#[async_trait]
impl<S: TestDatabase> Backend for Broadcasts<S> {
    async fn connect(&self) -> Connection {
        let pool = self.0.connect().await;
        let publisher = SqlPublisher::new(pool.clone(), SqlPublisherConfig::default());
        let subscriber = SqlBroadcast::new(pool, "suite", SqlSubscriberConfig::default());
        Connection::new(publisher.expect("a valid config"), subscriber.expect("a valid config"))
    }
}

fn backend<S: TestDatabase>() -> Arc<dyn Backend> {
    Arc::new(Broadcasts(S::default()))
}

pub(crate) async fn every_subscription_gets_every_message_from_its_beginning_on<S: TestDatabase>() {
    at_most_once::every_subscription_gets_every_message_unless_a_group_shares_them(backend::<S>()).await;
    at_most_once::what_was_published_to_nobody_is_gone(backend::<S>()).await;
}

pub(crate) async fn who_leaves_takes_nothing_from_those_who_stay<S: TestDatabase>() {
    at_most_once::a_subscription_that_ends_takes_nothing_from_others(backend::<S>()).await;
}

pub(crate) async fn its_window_is_kept<S: TestDatabase>() {
    window::the_total_bounds_all_scopes_together(backend::<S>()).await;
}

pub(crate) async fn a_closed_broadcast_refuses<S: TestDatabase>() {
    lifecycle::a_closed_subscriber_refuses(backend::<S>()).await;
}
