//! Consumer groups: each gets everything, and none waits for another.

use std::sync::Arc;

use watermill_core::{Subscriber, subscriber::Ordering};

use super::{
    fixture::{
        Consumers, Fixture, close, hold, in_group, initialize, next, numbered, publish, subscribe, take,
    },
    obligation::{exactly, groups_refused, quiet, with_duplicates},
};
use crate::{Backend, Lack, names::unique};

/// S1: two groups that were there before get every message each.
pub async fn every_group_gets_every_message(backend: Arc<dyn Backend>) {
    let Some((fixture, groups)) = two_groups(&backend).await else { return };
    let messages = numbered(50);
    fixture.publish(&messages).await;
    for group in groups {
        let mut subscription = subscribe(&group, &fixture.topic).await;
        let seen = take(&mut subscription, 50).await;
        quiet("S1: each message comes once to a group", &mut subscription).await;
        close(subscription).await;
        exactly("S1: every group gets every message", &seen, &messages, fixture.ordering());
    }
}

/// S2: a group that holds its messages, nacks them or does not read does not hold up another.
pub async fn a_group_does_not_wait_for_another(backend: Arc<dyn Backend>) {
    let Some((fixture, [slow, fast])) = two_groups(&backend).await else { return };
    let messages = numbered(50);
    let mut failing = subscribe(&slow, &fixture.topic).await;
    fixture.publish(&messages).await;
    next(&mut failing).await.nack();
    let held = hold(&mut failing, 1).await;

    let mut subscription = subscribe(&fast, &fixture.topic).await;
    let seen = take(&mut subscription, 50).await;
    quiet("S1: each message comes once to a group", &mut subscription).await;
    close(subscription).await;
    exactly("S2: a group does not wait for another", &seen, &messages, fixture.ordering());

    drop(held);
    let seen = take(&mut failing, 50).await;
    close(failing).await;
    exactly("S1: a group that failed gets every message", &seen, &messages, fixture.ordering());
}

/// S1: the members of a group share its messages, each message goes to one of them.
pub async fn the_members_of_a_group_share_its_messages(backend: Arc<dyn Backend>) {
    let Some((fixture, [shared, alone])) = two_groups(&backend).await else { return };
    let messages = numbered(200);
    let members = Consumers::start(&shared, &fixture.topic, 4).await;
    let single = Consumers::start(&alone, &fixture.topic, 1).await;
    for call in messages.chunks(20) {
        fixture.publish(call).await;
    }
    let duplicates = fixture.duplicates_of(4);
    let (members, single) = (members.finish(200).await, single.finish(200).await);
    let shared = "S1: the members of a group share its messages";
    with_duplicates(shared, &members, &messages, Ordering::None, duplicates);
    exactly("S1: every group gets every message", &single, &messages, fixture.ordering());
}

/// S1: a group that begins later gets what was published before; where there is no history, it gets
/// what is published from then on.
pub async fn a_new_group_gets_the_history(backend: Arc<dyn Backend>) {
    let Some((fixture, [old, _])) = two_groups(&backend).await else { return };
    let publisher = fixture.publisher();
    let messages = numbered(30);
    let (before, after) = messages.split_at(20);
    publish(&publisher, &fixture.topic, before).await;
    // What the others have acked is there still.
    let mut subscription = subscribe(&old, &fixture.topic).await;
    let seen = take(&mut subscription, 20).await;
    close(subscription).await;
    exactly("S1: every group gets every message", &seen, before, fixture.ordering());

    let mut subscription = subscribe(&in_group(&fixture.connection, &unique("late")), &fixture.topic).await;
    let expected = if fixture.lacks(Lack::History) {
        quiet("S1: without history a group begins with what is published then", &mut subscription).await;
        after
    } else {
        &messages
    };
    publish(&publisher, &fixture.topic, after).await;
    let seen = take(&mut subscription, expected.len()).await;
    quiet("S1: each message comes once to a group", &mut subscription).await;
    close(subscription).await;
    exactly("S1: a group that begins later gets what there is", &seen, expected, fixture.ordering());
}

/// Two groups of a fresh topic; or nothing, after it was seen that groups are refused.
async fn two_groups(backend: &Arc<dyn Backend>) -> Option<(Fixture, [Arc<dyn Subscriber>; 2])> {
    let fixture = Fixture::bare(backend).await;
    if !fixture.capabilities().groups {
        groups_refused("S1: a backend without groups refuses them", &*fixture.subscriber());
        return None;
    }
    let groups = [unique("a"), unique("b")].map(|name| in_group(&fixture.connection, &name));
    for group in &groups {
        initialize(group, &fixture.topic).await;
    }
    Some((fixture, groups))
}
