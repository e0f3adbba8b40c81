//! Consumer groups: each gets everything, and none waits for another.

use std::sync::Arc;

use watermill_core::{Subscriber, subscriber::Ordering};

use super::{
    obligation::{exactly, groups_refused, quiet, with_duplicates},
    stage::{Crew, Stage, close, hold, in_group, initialize, next, numbered, publish, subscribe, take},
};
use crate::{Backend, Lack, names::unique};

/// S1: two groups that were there before get every message each.
pub async fn every_group_gets_every_message(backend: Arc<dyn Backend>) {
    let Some((stage, groups)) = two_groups(&backend).await else { return };
    let messages = numbered(50);
    stage.publish(&messages).await;
    for group in groups {
        let mut subscription = subscribe(&group, &stage.topic).await;
        let seen = take(&mut subscription, 50).await;
        quiet("S1: each message comes once to a group", &mut subscription).await;
        close(subscription).await;
        exactly("S1: every group gets every message", &seen, &messages, stage.ordering());
    }
}

/// S2: a group that holds its messages, nacks them or does not read does not hold up another.
pub async fn a_group_does_not_wait_for_another(backend: Arc<dyn Backend>) {
    let Some((stage, [slow, fast])) = two_groups(&backend).await else { return };
    let messages = numbered(50);
    let mut failing = subscribe(&slow, &stage.topic).await;
    stage.publish(&messages).await;
    next(&mut failing).await.nack();
    let held = hold(&mut failing, 1).await;

    let mut subscription = subscribe(&fast, &stage.topic).await;
    let seen = take(&mut subscription, 50).await;
    quiet("S1: each message comes once to a group", &mut subscription).await;
    close(subscription).await;
    exactly("S2: a group does not wait for another", &seen, &messages, stage.ordering());

    drop(held);
    let seen = take(&mut failing, 50).await;
    close(failing).await;
    exactly("S1: a group that failed gets every message", &seen, &messages, stage.ordering());
}

/// S1: the members of a group share its messages, each message goes to one of them.
pub async fn the_members_of_a_group_share_its_messages(backend: Arc<dyn Backend>) {
    let Some((stage, [shared, alone])) = two_groups(&backend).await else { return };
    let messages = numbered(200);
    let members = Crew::start(&shared, &stage.topic, 4).await;
    let single = Crew::start(&alone, &stage.topic, 1).await;
    for call in messages.chunks(20) {
        stage.publish(call).await;
    }
    let duplicates = stage.duplicates_of(4);
    let (members, single) = (members.finish(200).await, single.finish(200).await);
    let shared = "S1: the members of a group share its messages";
    with_duplicates(shared, &members, &messages, Ordering::None, duplicates);
    exactly("S1: every group gets every message", &single, &messages, stage.ordering());
}

/// S1: a group that begins later gets what was published before; where there is no history, it gets
/// what is published from then on.
pub async fn a_new_group_gets_the_history(backend: Arc<dyn Backend>) {
    let Some((stage, [old, _])) = two_groups(&backend).await else { return };
    let publisher = stage.publisher();
    let messages = numbered(30);
    let (before, after) = messages.split_at(20);
    publish(&publisher, &stage.topic, before).await;
    // What the others have acked is there still.
    let mut subscription = subscribe(&old, &stage.topic).await;
    let seen = take(&mut subscription, 20).await;
    close(subscription).await;
    exactly("S1: every group gets every message", &seen, before, stage.ordering());

    let mut subscription = subscribe(&in_group(&stage.connection, &unique("late")), &stage.topic).await;
    let expected = if stage.lacks(Lack::History) {
        quiet("S1: without history a group begins with what is published then", &mut subscription).await;
        after
    } else {
        &messages
    };
    publish(&publisher, &stage.topic, after).await;
    let seen = take(&mut subscription, expected.len()).await;
    quiet("S1: each message comes once to a group", &mut subscription).await;
    close(subscription).await;
    exactly("S1: a group that begins later gets what there is", &seen, expected, stage.ordering());
}

/// Two groups of a fresh topic; or nothing, after it was seen that groups are refused.
async fn two_groups(backend: &Arc<dyn Backend>) -> Option<(Stage, [Arc<dyn Subscriber>; 2])> {
    let stage = Stage::bare(backend).await;
    if !stage.capabilities().groups {
        groups_refused("S1: a backend without groups refuses them", &*stage.subscriber());
        return None;
    }
    let groups = [unique("a"), unique("b")].map(|name| in_group(&stage.connection, &name));
    for group in &groups {
        initialize(group, &stage.topic).await;
    }
    Some((stage, groups))
}
