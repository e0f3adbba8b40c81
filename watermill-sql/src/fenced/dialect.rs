//! [`FencedDialect`]: what differs between databases about terms and checkpoints.

use async_trait::async_trait;

use crate::publisher::InsertDialect;

/// The statements of one database for the table of checkpoints.
#[async_trait]
pub trait FencedDialect: InsertDialect {
    /// Makes the name `owner`'s, waiting for a commit of the term before to end, and reads what that has left: the
    /// last checkpoint. It is one transaction of its own.
    async fn take_term(
        connection: &mut Self::Connection,
        name: &str,
        owner: &str,
    ) -> sqlx::Result<Option<Vec<u8>>>;

    /// Replaces the checkpoint, inside the caller's transaction; false when the name is somebody else's by now.
    /// Until the end of that transaction nobody else can take the name.
    async fn store_checkpoint(
        connection: &mut Self::Connection,
        held: &Held<'_>,
        checkpoint: &[u8],
    ) -> sqlx::Result<bool>;
}

/// Who holds which name.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    pub(crate) name: &'a str,
    /// Unique to the term.
    pub(crate) owner: &'a str,
}
