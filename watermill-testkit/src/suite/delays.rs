//! Messages that are due later.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use watermill_core::error::PublishErrorKind;

use super::{
    fixture::{Fixture, close, message, next},
    obligation::{equal, quiet, refused_publish, require},
};
use crate::Backend;

/// P10: a message that is due later is delivered then and not before; where that is not claimed, the call
/// is refused and nothing of it is sent.
pub async fn a_delay_is_kept_or_refused(backend: Arc<dyn Backend>) {
    let fixture = Fixture::new(&backend).await;
    let publisher = fixture.publisher();
    if !publisher.capabilities().delays {
        let call = vec![message("1"), message("2").delay_for(Duration::from_secs(3600)), message("3")];
        let call = publisher.publish(&fixture.topic, call);
        let obligation = "P10: a delay that would not be kept is refused";
        refused_publish(obligation, PublishErrorKind::Unsupported, call).await;
        return fixture.expect_left("P10: nothing is sent of a call that is refused", &[]).await;
    }
    let delayed = message("1").delay_for(Duration::from_secs(2));
    let due = delayed.delayed_until().ok().flatten();
    let mut subscription = fixture.subscribe().await;
    fixture.publish(&[delayed]).await;
    quiet("P10: what is due later is not delivered before, as claimed", &mut subscription).await;
    let delivery = next(&mut subscription).await;
    require("P10: what is due later is not delivered before, as claimed", Some(SystemTime::now()) >= due);
    equal("P10: what is due is delivered", delivery.id().as_str(), "1");
    delivery.ack();
    close(subscription).await;
}
