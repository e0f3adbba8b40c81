//! `mariadb`.

#[path = "../mysql_database/mod.rs"]
mod mysql_database;

use mysql_database::Database;
use sqlx::ConnectOptions;
use watermill_sql::{PayloadColumn, SqlPublisher, SqlPublisherConfig};

use super::*;

async fn mariadb(database: &Database, statements: &str) {
    let options = &database.options;
    let url = options.to_url_lossy();
    let mut args = vec![
        "--protocol=tcp".to_owned(),
        format!("--host={}", options.get_host()),
        format!("--port={}", options.get_port()),
        format!("--user={}", options.get_username()),
    ];
    args.extend(url.password().map(|password| format!("--password={password}")));
    args.extend(options.get_database().map(str::to_owned));
    run("mariadb", "mariadb-client", &args, statements).await;
}

#[tokio::test]
async fn what_the_mariadb_client_inserts_is_received() {
    let database = Database::default();
    let pool = database.pool().await;
    let mut subscription = subscribe(&pool, SqlSubscriberConfig::default(), "orders").await;
    let example = statements("MySQL and MariaDB");
    mariadb(&database, &example.replace("commit;", "rollback;")).await;
    mariadb(&database, example).await;
    receive_both(&mut subscription).await;
}

#[tokio::test]
async fn a_table_that_go_made_needs_the_id() {
    let database = Database::default();
    let pool = database.pool().await;
    mariadb(
        &database,
        r#"create table `watermill_orders` (`offset` bigint not null auto_increment, `uuid` varchar(36) not null,
               `created_at` timestamp not null default current_timestamp, `payload` json default null,
               `metadata` json default null, primary key (`offset`));
           insert into `watermill_orders` (uuid, payload) values ('a', '{"order": 7}');"#,
    )
    .await;
    let delivery = next(&mut subscribe(&pool, SqlSubscriberConfig::default(), "orders").await).await;
    assert_eq!((delivery.id().as_str(), &delivery.payload()[..]), ("a", &br#"{"order": 7}"#[..]));
}

#[tokio::test]
async fn bytes_go_where_the_column_has_bytes() {
    let database = Database::default();
    let pool = database.pool().await;
    let config = SqlPublisherConfig::default().payload_column(PayloadColumn::Bytes);
    SqlPublisher::new(pool.clone(), config).unwrap().initialize("raw").await.unwrap();
    mariadb(&database, "insert into `watermill_raw` (payload) values (x'00ff');").await;
    let delivery = next(&mut subscribe(&pool, SqlSubscriberConfig::default(), "raw").await).await;
    assert_eq!(&delivery.payload()[..], [0, 0xff]);
}

#[tokio::test]
async fn a_queue_takes_the_same_inserts_and_due_times() {
    let database = Database::default();
    let pool = database.pool().await;
    let mut subscription = work_on(&pool, "orders").await;
    let later = "insert into watermill_orders (payload, due_ms) values ('9', 4102444800000);";
    mariadb(&database, later).await;
    mariadb(&database, statements("MySQL and MariaDB")).await;
    receive_both(&mut subscription).await;
    mariadb(&database, "update watermill_orders set due_ms = 0;").await;
    assert_eq!(next(&mut subscription).await.payload(), "9");
}

#[tokio::test]
async fn the_tables_can_be_made_by_hand() {
    let database = Database::default();
    let pool = database.pool().await;
    mariadb(&database, tables("MySQL and MariaDB")).await;
    mariadb(&database, statements("MySQL and MariaDB")).await;
    receive_both(&mut subscribe(&pool, SqlSubscriberConfig::default(), "orders").await).await;
}
