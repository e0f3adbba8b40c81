//! The plan of a group, as it is stored.

use super::{Plan, ShardsDialect};
use crate::error::{Failure, Trouble, classify};

/// The plan of a group as it is stored, if it has one.
pub(crate) async fn stored<D: ShardsDialect>(
    connection: &mut D::Connection,
    topic: &str,
    group: &str,
) -> Result<Option<(Plan, String)>, Failure> {
    let Some(text) = D::plan(connection, topic, group).await.map_err(classify::<D>)? else { return Ok(None) };
    match Plan::decode(&text) {
        Some(plan) => Ok(Some((plan, text))),
        None => {
            let why =
                format!("the plan of the shards of the group {group:?} is none that this release knows");
            Err(Failure::because(Trouble::Refused, why))
        }
    }
}
