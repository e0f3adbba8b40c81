//! What one writes without a transaction: the effect, the output, and then the mark.

use sqlx::Pool;
use watermill_core::{
    Handler, Message, MessageId, PublisherExt,
    error::BoxError,
    router::{HandlerFn, types::Nothing},
};
use watermill_sql::{SqlPublisher, SqlPublisherConfig};

use crate::{child::Steps, database::Store};

pub(crate) fn handler<D: Store>(
    pool: Pool<D>,
    steps: &Steps,
) -> Handler<impl watermill_core::router::MakeService<(), Kind = Nothing, Service: Clone>> {
    let steps = steps.clone();
    Handler::new("bill", handles(move |id: MessageId| bill(pool.clone(), id, steps.clone())))
}

/// So that the compiler knows what the closure is.
fn handles<F, Args>(function: F) -> F
where
    F: HandlerFn<Args, (), Kind = Nothing>,
{
    function
}

async fn bill<D: Store>(pool: Pool<D>, id: MessageId, steps: Steps) -> Result<(), BoxError> {
    if D::number(&pool, &format!("select count(*) from marks where id = '{id}'")).await? > 0 {
        return Ok(());
    }
    let mut connection = pool.acquire().await?;
    D::write(&mut connection, &format!("insert into effects (id) values ('{id}')")).await?;
    D::write(&mut connection, "update total set n = n + 1").await?;
    steps.at("second statement");
    let publisher = SqlPublisher::<D>::on_connection(&mut connection).config(SqlPublisherConfig::default());
    publisher.publish_one("invoices", Message::with_id(id.clone(), "{}")).await?;
    steps.at("published");
    drop(publisher);
    D::write(&mut connection, &format!("insert into marks (id) values ('{id}')")).await?;
    Ok(())
}
