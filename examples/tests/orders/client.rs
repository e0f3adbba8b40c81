//! [`Client`]: a customer of the service.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

use crate::{in_time, service::Service};

/// Asks each question on a connection of its own.
#[derive(Clone)]
pub(crate) struct Client {
    address: String,
}

impl Client {
    pub(crate) fn of(service: &Service) -> Self {
        Self { address: service.address.clone() }
    }

    /// Places an order: the status, or `None` where there was no answer.
    pub(crate) async fn place(&self, id: &str, cents: i64) -> Option<u16> {
        let order = serde_json::json!({ "id": id, "customer": "ada", "cents": cents }).to_string();
        let head = format!("content-type: application/json\r\ncontent-length: {}\r\n", order.len());
        self.ask("POST", "/orders", &head, &order).await.ok().map(|(status, _)| status)
    }

    /// How many invoices an order has; `None` when there is no such order, or no answer.
    pub(crate) async fn invoices(&self, id: &str) -> Option<u64> {
        let (status, body) = self.ask("GET", &format!("/orders/{id}"), "", "").await.ok()?;
        let progress: serde_json::Value =
            (status == 200).then(|| serde_json::from_str(&body).ok()).flatten()?;
        progress["invoices"].as_u64()
    }

    /// Waits until an order has an invoice.
    pub(crate) async fn billed(&self, id: &str) {
        let billed = async {
            while self.invoices(id).await.unwrap_or_default() == 0 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        in_time(billed).await;
    }

    async fn ask(&self, method: &str, path: &str, head: &str, body: &str) -> io::Result<(u16, String)> {
        let mut connection = TcpStream::connect(&self.address).await?;
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: orders\r\nconnection: close\r\n{head}\r\n{body}");
        connection.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
    }
}
