//! [`Proxy`]: the way to a server, on which a commit is stopped before or behind the server.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Mutex, Notify},
};
use tokio_util::task::AbortOnDropHandle;

use crate::Result;

/// Where a statement is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The server never gets it.
    Unsent(&'static str),
    /// The server has answered, and the client never hears of it.
    Unanswered(&'static str),
}

/// What the transaction of a step is known by, with a mark and without: other transactions are let through.
const BEGINNING: &str = "insert into _watermill_inbox";
const EFFECT: &str = "insert into effects";

pub(crate) struct Proxy {
    pub(crate) port: u16,
    network: Arc<Network>,
    _accepting: AbortOnDropHandle<()>,
}

struct Network {
    /// What is stopped, and how often it passes before.
    plan: Mutex<Option<(Stop, usize)>>,
    stopped: Notify,
}

impl Proxy {
    pub(crate) async fn to(server: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let network = Arc::new(Network { plan: Mutex::new(None), stopped: Notify::new() });
        let accepting = tokio::spawn(accept(listener, server, network.clone()));
        Ok(Self { port, network, _accepting: AbortOnDropHandle::new(accepting) })
    }

    pub(crate) async fn plan(&self, stop: Option<(Stop, usize)>) {
        *self.network.plan.lock().await = stop;
    }

    pub(crate) async fn stopped(&self) {
        self.network.stopped.notified().await;
    }
}

async fn accept(listener: TcpListener, server: String, network: Arc<Network>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(upstream) = TcpStream::connect(&server).await else { continue };
        connections.spawn(forward(client, upstream, network.clone()));
    }
}

/// A client of sqlx waits for an answer before it sends the next, so what is read at once is one message or a part of it, and
/// those that are looked for are short.
async fn forward(client: TcpStream, server: TcpStream, network: Arc<Network>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut in_step = false;
    loop {
        tokio::select! {
            read = from_client.read(&mut asked) => {
                let Ok(1..) = read else { return };
                let sent = &asked[..read.unwrap_or(0)];
                in_step |= contains(sent, BEGINNING) || contains(sent, EFFECT);
                let stop = if in_step { network.stop(sent).await } else { None };
                in_step &= !contains(sent, "commit");
                match stop {
                    None => if to_server.write_all(sent).await.is_err() { return },
                    Some(Stop::Unsent(_)) => {
                        network.stopped.notify_one();
                        // Until the client is killed.
                        let _ = from_client.read(&mut asked).await;
                        return;
                    }
                    Some(Stop::Unanswered(_)) => {
                        let _ = to_server.write_all(sent).await;
                        let _ = from_server.read(&mut answered).await;
                        network.stopped.notify_one();
                        let _ = from_client.read(&mut asked).await;
                        return;
                    }
                }
            }
            read = from_server.read(&mut answered) => {
                let Ok(1..) = read else { return };
                if to_client.write_all(&answered[..read.unwrap_or(0)]).await.is_err() { return }
            }
        }
    }
}

impl Network {
    async fn stop(&self, sent: &[u8]) -> Option<Stop> {
        let mut plan = self.plan.lock().await;
        let (stop, passes) = plan.as_mut()?;
        let (Stop::Unsent(text) | Stop::Unanswered(text)) = *stop;
        if !contains(sent, text) {
            return None;
        }
        if *passes > 0 {
            *passes -= 1;
            return None;
        }
        plan.take().map(|(stop, _)| stop)
    }
}

fn contains(sent: &[u8], text: &str) -> bool {
    sent.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
}
