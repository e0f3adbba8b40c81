//! Google's client, sqlx and librdkafka open TLS connections in one process, in whatever order, and none panics;
//! nor does one that leaves the choice of a provider to rustls, which cannot choose by itself here, once a client
//! of ours is there.
//!
//! Without the test harness, for each order is a process of its own: this program again. What it trusts is in its
//! environment, where Google's client looks for it.

mod clients;
mod server;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use server::Servers;

/// The order, in a process that is to connect.
const ORDER: &str = "WATERMILL_TEST_TLS_ORDER";
/// Where it finds its certificate and key.
const FOLDER: &str = "WATERMILL_TEST_TLS_FOLDER";

const ORDERS: &[&str] = &["pubsub,other,sql,kafka", "sql,kafka,pubsub,other", "kafka,pubsub,sql,other"];

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Result {
    match (env::var(ORDER), env::var_os(FOLDER)) {
        (Ok(order), Some(folder)) => {
            tokio::runtime::Runtime::new()?.block_on(connect(&order, &PathBuf::from(folder)))
        }
        _ => in_every_order(),
    }
}

fn in_every_order() -> Result {
    let folder = tempfile::tempdir()?;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    fs::write(certificate(folder.path()), made.cert.pem())?;
    fs::write(key(folder.path()), made.signing_key.serialize_pem())?;
    for order in ORDERS {
        let mut command = Command::new(env::current_exe()?);
        command.env(ORDER, order).env(FOLDER, folder.path());
        let status = command.env("SSL_CERT_FILE", certificate(folder.path())).status()?;
        if !status.success() {
            return Err(format!("{order}: {status}").into());
        }
        println!("TLS connections of {order} in one process: none is in the others' way");
    }
    Ok(())
}

async fn connect(order: &str, folder: &Path) -> Result {
    let servers = Servers::start(&certificate(folder), &key(folder)).await?;
    for client in order.split(',') {
        match client {
            "pubsub" => clients::pubsub(&servers).await?,
            "sql" => clients::sql(&servers, &certificate(folder)).await?,
            "kafka" => clients::kafka(&servers, &certificate(folder)).await?,
            _ => clients::other(&servers, &certificate(folder)).await?,
        }
    }
    Ok(())
}

fn certificate(folder: &Path) -> PathBuf {
    folder.join("certificate.pem")
}

fn key(folder: &Path) -> PathBuf {
    folder.join("key.pem")
}
