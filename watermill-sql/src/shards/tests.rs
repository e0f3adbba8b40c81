//! What a process does that was held up, between one statement and the next.

use std::sync::Arc;

use sqlx::{Connection as _, Sqlite, SqliteConnection};

use super::{Member, Plan, Replaced, ShardsDialect as _, Slot, Turn, prepare};
use crate::{
    SqlSubscriberConfig,
    log::{Claim, LeaseDialect as _},
    schema,
    status::StatusDialect as _,
    topic::Tables,
};

const GROUP: &str = "g";

async fn positions(connection: &mut SqliteConnection, tables: &Tables) -> Vec<String> {
    let groups = Sqlite::groups(connection, tables, true).await.unwrap();
    groups.into_iter().map(|group| group.group).collect()
}

#[tokio::test]
async fn who_claims_the_first_shard_after_its_generation_makes_no_position() {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let tables = Tables::new::<Sqlite>("t").unwrap();
    let config = SqlSubscriberConfig::default().group(GROUP);
    let member = Arc::new(Member::new(GROUP, 2, Arc::new(|_| None)));
    schema::ensure_log::<Sqlite>(&mut connection, &tables, None, true).await.unwrap();
    let (plan, ..) = prepare::<Sqlite>(&mut connection, &tables, &config, &member).await.unwrap();
    assert_eq!(positions(&mut connection, &tables).await, [GROUP], "it is there before anybody claims it");

    // It looks, and is held up; meanwhile others change the number.
    let place = Slot::new(Arc::clone(&member), 0).place(&plan);
    let late = config.for_shard(plan.group(GROUP, 0), place);
    turn(&mut connection, &tables, &plan).await;
    let claim = Claim { tables: &tables, owner: "late", config: &late };
    let refused = Sqlite::claim(&mut connection, &claim).await.unwrap_err();
    assert!(matches!(refused, sqlx::Error::RowNotFound), "{refused}");
    assert_eq!(positions(&mut connection, &tables).await, ["g#1/0", "g#1/1"]);
}

async fn turn(connection: &mut SqliteConnection, tables: &Tables, plan: &Plan) {
    let (next, position) = plan.close().unwrap().set_boundary(0).unwrap().turn(&[0]).unwrap();
    let replaced = Replaced { topic: tables.topic(), group: GROUP, from: plan.encode(), to: next.encode() };
    let (over, next) = (plan.groups(GROUP), next.groups(GROUP));
    let silence = std::time::Duration::from_secs(5);
    let turn = Turn { replaced, over, next, position, silence };
    assert!(Sqlite::turn(connection, tables, &turn).await.unwrap());
}
