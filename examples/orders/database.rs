//! [`Database`]: the tables of the service, and its statements.

use sqlx::Pool;
use watermill_core::{MessageId, error::BoxError};
use watermill_sql::SqlDatabase;

use crate::order::{Invoice, Order, Progress};

/// Nothing here keeps an order from having two invoices. That it has one is the inbox's doing.
const SCHEMA: &str = "
    create table if not exists orders (id varchar(100) primary key, customer text not null, cents bigint not null);
    create table if not exists invoices (number varchar(36) primary key, order_id varchar(100) not null,
                                         cents bigint not null);
    create index if not exists invoices_of_an_order on invoices (order_id);
";

/// A database that the service runs on. A statement is checked by the types of its own database, so each is written once for
/// all of them and compiled for each.
pub(crate) trait Database: SqlDatabase {
    /// A pool that connects when it is first used.
    fn pool(url: &str) -> sqlx::Result<Pool<Self>>;

    /// Connects, and makes the tables that are missing.
    async fn open(url: &str) -> Result<Pool<Self>, BoxError>;

    /// Stores an order; false when it was there.
    fn insert_order(
        connection: &mut Self::Connection,
        order: &Order,
    ) -> impl Future<Output = sqlx::Result<bool>> + Send;

    /// Stores an invoice.
    fn insert_invoice(
        connection: &mut Self::Connection,
        invoice: &Invoice,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// How far an order is; `None` when there is none.
    fn progress(pool: &Pool<Self>, id: &str) -> impl Future<Output = sqlx::Result<Option<Progress>>> + Send;
}

macro_rules! database {
    ($database:ty, |$url:ident| $pool:expr) => {
        impl Database for $database {
            fn pool($url: &str) -> sqlx::Result<Pool<Self>> {
                $pool
            }

            async fn open(url: &str) -> Result<Pool<Self>, BoxError> {
                let open = async {
                    let pool = Self::pool(url)?;
                    sqlx::raw_sql(SCHEMA).execute(&pool).await?;
                    Ok::<_, sqlx::Error>(pool)
                };
                open.await.map_err(|error| format!("open {url}: {error}").into())
            }

            async fn insert_order(connection: &mut Self::Connection, order: &Order) -> sqlx::Result<bool> {
                let insert = "insert into orders (id, customer, cents) values ($1, $2, $3) on conflict do nothing";
                let insert = sqlx::query(insert).bind(&order.id).bind(&order.customer).bind(order.cents);
                Ok(insert.execute(connection).await?.rows_affected() > 0)
            }

            async fn insert_invoice(connection: &mut Self::Connection, invoice: &Invoice) -> sqlx::Result<()> {
                let insert = "insert into invoices (number, order_id, cents) values ($1, $2, $3)";
                let number = MessageId::new().to_string();
                let insert = sqlx::query(insert).bind(number).bind(&invoice.order).bind(invoice.cents);
                insert.execute(connection).await.map(drop)
            }

            async fn progress(pool: &Pool<Self>, id: &str) -> sqlx::Result<Option<Progress>> {
                let select = "select (select count(*) from invoices where order_id = orders.id) from orders where id = $1";
                let invoices = sqlx::query_scalar(select).bind(id).fetch_optional(pool).await?;
                Ok(invoices.map(|invoices| Progress { id: id.to_owned(), invoices }))
            }
        }
    };
}

database!(sqlx::Sqlite, |url| {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
    let options: SqliteConnectOptions = url.parse()?;
    // Whoever reads waits for nobody who writes.
    let options = options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    Ok(sqlx::SqlitePool::connect_lazy_with(options))
});

#[cfg(feature = "postgres")]
database!(sqlx::Postgres, |url| sqlx::PgPool::connect_lazy(url));
