//! What is said about an order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where orders are announced.
pub(crate) const ORDERS_PLACED: &str = "orders.placed";
/// Where invoices are announced.
pub(crate) const INVOICES_DUE: &str = "invoices.due";

/// An order, as a customer sends it and as it is announced.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub(crate) struct Order {
    /// Chosen by the customer, so that an order that is sent again is known.
    pub(crate) id: String,
    pub(crate) customer: String,
    pub(crate) cents: i64,
}

/// What a customer has to pay.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub(crate) struct Invoice {
    pub(crate) order: String,
    pub(crate) cents: i64,
}

/// How far an order is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Progress {
    pub(crate) id: String,
    pub(crate) invoices: i64,
}
