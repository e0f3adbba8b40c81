//! The shop: takes orders by HTTP.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use sqlx::Pool;
use watermill_core::{
    Message, Publisher as _,
    error::{BoxError, chain},
};
use watermill_forwarder::ForwarderPublisher;
use watermill_sql::SqlPublisher;

use crate::{
    database::Database,
    order::{ORDERS_PLACED, Order, Progress},
};

pub(crate) fn routes<D: Database>(pool: Pool<D>) -> Router {
    Router::new().route("/orders", post(place::<D>)).route("/orders/{id}", get(look::<D>)).with_state(pool)
}

/// The row and the announcement are there, or neither is. A customer who got no answer may ask again.
async fn place<D: Database>(
    State(pool): State<Pool<D>>,
    Json(order): Json<Order>,
) -> Result<StatusCode, Failure> {
    let mut tx = pool.begin().await?;
    if !D::insert_order(&mut tx, &order).await? {
        return Ok(StatusCode::OK);
    }
    // With the customer as key, so that one customer's orders stay in order.
    let placed = Message::json(&order)?.with_key(order.customer);
    ForwarderPublisher::new(SqlPublisher::in_transaction(&mut tx))
        .publish(ORDERS_PLACED, vec![placed])
        .await?;
    tx.commit().await?;
    Ok(StatusCode::CREATED)
}

async fn look<D: Database>(
    State(pool): State<Pool<D>>,
    Path(id): Path<String>,
) -> Result<Json<Progress>, Failure> {
    D::progress(&pool, &id).await?.map(Json).ok_or(Failure::NoSuchOrder)
}

/// Why there is no answer.
enum Failure {
    NoSuchOrder,
    Ours(BoxError),
}

impl<E: Into<BoxError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Ours(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::NoSuchOrder => StatusCode::NOT_FOUND.into_response(),
            Self::Ours(error) => {
                tracing::error!(error = %chain(&*error), "a request failed");
                StatusCode::SERVICE_UNAVAILABLE.into_response()
            }
        }
    }
}
